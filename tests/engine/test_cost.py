"""What a step costs: the count against the positions a model really passes, and budgets in that unit."""

import pytest
import torch

from engine.cost import FORWARD, step_positions
from engine.recipe import Recipe, load_recipe
from engine.solver import Solver
from tests.engine.jobs import NEVER, K, job_of, slots_after, solve

TEXT = "verbatim"
T = len(TEXT) + 1
ONE_PASS = K + T - 1

REWARD = ("context.name=mixer", "terms.rloo=0.5")
STEPS: dict[str, tuple[tuple[str, ...], float]] = {
    "one pass": ((), 1),
    "other losses cost nothing more": (("terms.hinge=0.5", "terms.entropy=0.5", "terms.simctg=0.5"), 1),
    "unlikelihood": (("terms.unlikelihood=0.5",), 1),
    "a network": (("parameterisation.name=mlp",), 1),
    "noise": (("noise.kind=fixed",), 1.5),
    "own tokens": (("context.name=free_running",), 2),
    "own tokens and noise": (("context.name=scheduled_sampling", "noise.kind=fixed", "noise.read=0.1"), 2),
    "mixed embeddings": (("context.name=embedding_mix",), 2),
    "parallel predictions": (("context.name=two_pass",), 2),
    "more parallel predictions": (("context.name=two_pass", "context.num_passes=3"), 3),
    "soft walk": (("context.name=soft_decoding",), 1.5),
    "drawn walk": (("context.name=gumbel_softmax",), 1.5),
    "greedy rollout": (("terms.optimal_completion=0.5",), 2.5),
    "one greedy rollout for all": (("terms.autoregressive=0.5", "terms.professor_forcing=0.5"), 2.5),
    "four samples": (("terms.reinforce=0.5",), 1 + 4 * 1.5),
    "the same samples for all": (("terms.rloo=0.5", "terms.minimum_risk=0.5"), 1 + 4 * 1.5),
    "seven samples": (("terms.rloo=0.5", "knobs.samples=7"), 1 + 7 * 1.5),
    "mixer": (REWARD, 1 + 4 * 1.5),
    "rollout, samples and own tokens": (("context.name=free_running", "terms.rloo=1", "terms.autoregressive=1"), 9.5),
    "the prompt by itself": (("terms.prompt_perplexity=0.5",), 1 + 0.5 * K / ONE_PASS),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_costs_the_positions_that_the_model_passes(step, tiny_llama):
    overrides, passes = STEPS[step]
    counted = 0.0

    def count(module, args, kwargs):
        nonlocal counted
        num_rows, num_read, _ = kwargs["inputs_embeds"].shape
        counted += num_rows * num_read * (1.0 if torch.is_grad_enabled() else FORWARD)

    hook = tiny_llama.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        (slot,) = slots_after(tiny_llama, 1, job_of(tiny_llama, TEXT, *overrides, *NEVER))
    finally:
        hook.remove()
    assert slot.positions == counted == pytest.approx(passes * ONE_PASS)


def test_a_term_costs_only_where_it_is_due(tiny_llama):
    overrides = ("terms.autoregressive=0.5", "knobs.autoregressive_every=3")
    slots = [slots_after(tiny_llama, n, job_of(tiny_llama, TEXT, *overrides, *NEVER))[0] for n in (1, 2, 3, 4)]
    costs = [slot.positions / ONE_PASS for slot in slots]
    assert costs == [2.5, 3.5, 4.5, 7.0]


def test_a_second_way_back_costs_half_a_pass():
    recipes = [load_recipe(None, [f"optim.align_to={name}", "noise.kind=fixed"]) for name in ("none", "hinge")]
    plain, aligned = (step_positions(recipe, {"hinge": 1.0}, num_vectors=K, num_tokens=T) for recipe in recipes)
    assert (plain, aligned) == (1.5 * ONE_PASS, 2 * ONE_PASS)


def test_a_prefix_costs_what_is_read_of_it():
    assert step_positions(Recipe(), {"hinge": 1.0}, num_vectors=7, num_tokens=3) == 7 + 3 - 1
    noisy = load_recipe(None, ["noise.kind=fixed"])
    assert step_positions(noisy, {"reinforce": 1.0}, num_vectors=7, num_tokens=3) == (1.5 + 4 * 1.5) * 9


@pytest.mark.parametrize(("overrides", "passes"), [((), 1.0), (("context.name=free_running", "optim.lr=0.5"), 2.0)])
def test_an_attempt_ends_when_its_positions_are_spent(overrides, passes, tiny_llama):
    bound = 10 * ONE_PASS
    job = job_of(tiny_llama, TEXT, *overrides, f"max_positions={bound}", *NEVER)
    attempt = solve(tiny_llama, job)[TEXT]
    assert attempt.positions == bound
    assert attempt.steps == 10 / passes - 1, "the last pass measures and is not followed by a step"


def test_the_fewer_of_steps_and_positions_bound_an_attempt(tiny_llama):
    attempt = solve(tiny_llama, job_of(tiny_llama, TEXT, f"max_positions={10 * ONE_PASS}", "max_steps=3", *NEVER))[TEXT]
    assert (attempt.steps, attempt.positions) == (3, 4 * ONE_PASS)


def test_the_clock_runs_on_positions_so_schedules_end_with_them(tiny_llama):
    solver = Solver(tiny_llama)
    solver.submit(job_of(tiny_llama, TEXT, f"max_positions={8 * ONE_PASS}", "max_steps=100", *NEVER))
    clocks = []
    while not solver.is_idle:
        solver.step()
        clocks += [slot.clock for slot in solver.active]
    assert clocks == pytest.approx([100 * n / 8 for n in range(1, 8)])


def test_positions_bound_each_sibling_by_itself_and_are_counted_together(tiny_llama):
    job = job_of(tiny_llama, TEXT, f"max_positions={4 * ONE_PASS}", "siblings=3", *NEVER)
    attempt = solve(tiny_llama, job)[TEXT]
    assert attempt.positions == 3 * 4 * ONE_PASS and attempt.steps == 3
