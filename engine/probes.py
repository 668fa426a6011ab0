"""A handful of solved prompts on which another engine's numerics are compared with this one's.

Owns: which texts are solved for it, the margins of every token, how far rounding alone moves them. Must not know:
other engines, files.

K soft-prompt vectors, T target tokens, D hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.capacity import VectorPlan
from engine.frozen_lm import FrozenLM
from engine.held import held
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
        margins: T, of each target token over its best rival, logits; scored alone.
        rounding: largest change of a margin when all probes are scored in one pass, logits.
        spread: standard deviation of the logits over the vocabulary, mean over tokens.
    """

    target: Target
    prompt_KD: Tensor
    margins: list[float]
    rounding: float
    spread: float


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
        num_vectors = fixed or (plan.num_vectors(length, lm.token_rule.context) if plan else length)
        jobs += [Job(target, recipe, num_vectors) for target in sample_targets(lm.token_rule, length)]
    attempts = solver.solve(jobs, seconds=SECONDS)
    return measure(lm, [attempt.job.target for attempt in attempts], [held(attempt.prompt_KD) for attempt in attempts])


@torch.no_grad()
def measure(lm: FrozenLM, targets: list[Target], prompts: list[Tensor]) -> list[Probe]:
    """Margins of given prompts, each scored alone and all in one pass."""
    on_device = [prompt_KD.to(lm.device) for prompt_KD in prompts]
    ids = [torch.tensor(target.token_ids, device=lm.device) for target in targets]
    together = lm.score_targets(on_device, ids).margin.split([len(ids_T) for ids_T in ids])
    probes = []
    for target, prompt_KD, ids_T, together_T in zip(targets, on_device, ids, together, strict=True):
        hidden_TD = lm.read([prompt_KD], lm.embed_targets([ids_T]))
        margin_T = lm.head.score(hidden_TD, ids_T).margin
        rounding = (margin_T - together_T).abs().max().item()
        spread = lm.head.logits(hidden_TD).std(-1).mean().item()
        probes.append(Probe(target, prompt_KD, margin_T.tolist(), rounding, spread))
    return probes
