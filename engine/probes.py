"""A handful of solved prompts on which another engine's numerics are compared with this one's.

Owns: which texts are solved for it, the margins of every token. Must not know: other engines, files.

K soft-prompt vectors, T target tokens, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.capacity import VectorPlan
from engine.recipe import Recipe
from engine.samples import LENGTHS, sample_targets
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target

SECONDS = 30.0
"""Most that solving them takes, whatever the model; what is not solved by then is compared as it is. Assumption."""


@dataclass(frozen=True)
class Probe:
    """A prompt and its margins in the solver's numerics.

    Attributes:
        prompt_KD: (K, D), float32.
        margins: T, of each target token over its best rival, logits.
    """

    target: Target
    prompt_KD: Tensor
    margins: list[float]


def make_probes(solver: Solver, recipe: Recipe, plan: VectorPlan | None) -> list[Probe]:
    """Solve the samples of every length as the run will solve its texts, for at most `SECONDS`.

    Args:
        solver: an idle solver on the model in question.
        recipe: the run's recipe.
        plan: vectors by length, where the recipe does not fix them.
    Returns:
        One probe a sample, solved or not: an unsolved one has some negative margins.
    """
    lm, recipe = solver.lm, recipe.model_copy(update={"siblings": 1})
    jobs = []
    for length in LENGTHS:
        fixed = 0 if recipe.num_vectors == "auto" else recipe.num_vectors
        num_vectors = fixed or (plan.num_vectors(length, lm.tokens.context) if plan else length)
        jobs += [Job(target, recipe, num_vectors) for target in sample_targets(lm.tokens, length)]
    attempts = solver.solve(jobs, seconds=SECONDS)
    return [_probe(solver, attempt.job.target, attempt.prompt_KD) for attempt in attempts]


@torch.no_grad()
def _probe(solver: Solver, target: Target, prompt_KD: Tensor) -> Probe:
    ids_T = torch.tensor(target.token_ids, device=solver.lm.device)
    scores_T = solver.lm.score_targets([prompt_KD.to(solver.lm.device)], [ids_T])
    return Probe(target, prompt_KD, scores_T.margin.tolist())
