"""Stages and growing prefixes through the solver: what is trained when, what is carried over, and what is certified."""

import math

import pytest
import torch

from engine.frozen_lm import FrozenLM
from engine.recipe import load_recipe
from engine.slots import Job, Slot
from engine.solver import Solver
from engine.target import make_target
from tests.engine.jobs import NEVER, PINNED, K, job_of, slots_after, solve

TEXT = "verbatim"
T = len(TEXT) + 1
MAX_STEPS = 20

FOUR_STAGES = """stages=[
    {until=0.25, length_frac=0.25, set={parameterisation={name="mlp", width=0.25}, noise={kind="fixed"}}},
    {until=0.5, length_frac=0.5, set={context={name="embedding_mix"}, terms={unlikelihood=0.5}}},
    {until=0.75, length_frac=0.75, set={context={name="gumbel_softmax", guidance_alpha=0.5, learn_temperature=true}}},
    {until=1.0, set={loss={weight=0.5}, terms={rloo=0.5, autoregressive=0.25}, knobs={autoregressive_every=1}}}]"""


def staged_job(lm: FrozenLM, stages: str, *overrides: str) -> Job:
    """Any prefix may be solved; the whole text never is."""
    stages = " ".join(stages.split())
    recipe = load_recipe(None, [*PINNED, f"max_steps={MAX_STEPS}", "optim.lr=0.5", stages, *NEVER, *overrides])
    return Job(make_target(lm.token_rule, TEXT, TEXT), recipe, K)


def walk(lm: FrozenLM, job: Job):
    """The one slot of a job before each step, until it ends."""
    solver = Solver(lm)
    solver.submit(job)
    solver.step()
    (slot,) = solver.active
    while solver.active:
        yield slot
        solver.step()


def test_every_stage_has_its_window_its_tensors_and_its_cost(tiny_llama):
    seen: list[tuple[int, int, int, tuple[str, ...]]] = []
    costs = []
    for slot in walk(tiny_llama, staged_job(tiny_llama, FOUR_STAGES)):
        assert slot.target_T.shape == (T,) and slot.num_positions == K + slot.lesson.window - 1
        assert slot.prompt_KD.shape == (K, tiny_llama.hidden_size) and slot.prompt_KD.isfinite().all()
        seen.append((slot.step, slot.lesson.stage, slot.lesson.window, tuple(slot.trained)))
        costs.append(slot.positions)
    network, direct = ("input", "w1", "b1", "w2", "b2", "log_temperature"), ("prompt", "log_temperature")
    expected = []
    for step in range(1, MAX_STEPS + 1):
        stage = min(step * 4 // MAX_STEPS, 3)
        expected.append((step, stage, math.ceil((0.25, 0.5, 0.75, 1.0)[stage] * T), network if stage == 0 else direct))
    assert seen == expected
    per_step = [after - before for before, after in zip(costs, costs[1:], strict=False)]
    # Step n costs what the stage it starts in asks for: measure and train; the same and a walk; measure and walk;
    # one pass, the greedy rollout (walk and read), four samples (walk and read).
    passes = (1.5, 2.0, 1.5, 1 + 1.5 + 4 * 1.5)
    assert per_step == [passes[stage] * (K + window - 1) for _, stage, window, _ in expected[:-1]]


def test_only_the_stage_that_learns_a_temperature_moves_it(tiny_llama):
    heats = [float(slot.trained["log_temperature"]) for slot in walk(tiny_llama, staged_job(tiny_llama, FOUR_STAGES))]
    assert set(heats[:10]) == {0.0} and 0.0 not in heats[10:15] and len(set(heats[10:15])) == 5


NETWORK_FIRST = 'stages=[{until=0.5, set={parameterisation={name="mlp", width=0.25}}}, {until=1.0}]'
NETWORK_ONLY = (
    'stages=[{until=0.5, set={parameterisation={name="mlp", width=0.25}}}, '
    '{until=1.0, set={parameterisation={name="mlp", width=0.25}}}]'
)
NETWORK_LAST = 'stages=[{until=0.5}, {until=1.0, set={parameterisation={name="mlp", width=0.25}}}]'
DIRECT_ONLY = "stages=[{until=0.5}, {until=1.0}]"


def slot_of(lm: FrozenLM, stages: str, num_steps: int) -> Slot:
    (slot,) = slots_after(lm, num_steps, staged_job(lm, stages))
    return slot


def test_folding_a_network_keeps_the_prompt_it_makes(tiny_llama):
    folded, network = (slot_of(tiny_llama, stages, MAX_STEPS // 2) for stages in (NETWORK_FIRST, NETWORK_ONLY))
    assert folded.trained.keys() == {"prompt"} and "w1" in network.trained
    assert torch.equal(folded.prompt_KD, network.prompt_KD) and torch.equal(folded.trained["prompt"], folded.prompt_KD)
    assert not folded.constant and not folded.mean["prompt"].any() and folded.began == folded.step == MAX_STEPS // 2
    assert network.began == 0 and network.mean["w1"].any()


def test_unfolding_into_a_network_keeps_the_prompt_too(tiny_llama):
    unfolded, direct = (slot_of(tiny_llama, stages, MAX_STEPS // 2) for stages in (NETWORK_LAST, DIRECT_ONLY))
    assert "w1" in unfolded.trained and direct.began == 0
    torch.testing.assert_close(unfolded.prompt_KD, direct.prompt_KD, rtol=0, atol=1e-4 * tiny_llama.embed_rms)


def test_the_first_step_after_folding_is_as_long_as_a_first_step(tiny_llama):
    before, after = (slot_of(tiny_llama, NETWORK_FIRST, MAX_STEPS // 2 + n) for n in (0, 1))
    rate = tiny_llama.embed_rms * 0.5 * (0.05 + 0.95 / 2)  # a cosine from lr to a twentieth of it, half-way
    moved_KD = (after.prompt_KD - before.prompt_KD).abs()
    torch.testing.assert_close(moved_KD.median(), torch.tensor(rate), rtol=1e-2, atol=0)


@pytest.mark.parametrize("growth", ["one_token", "geometric", "bisect"])
def test_a_growing_prefix_ends_certified(growth, tiny_llama):
    job = job_of(tiny_llama, TEXT, f"curriculum.growth={growth}", "curriculum.patience=3", "max_steps=200")
    attempt = solve(tiny_llama, job)[TEXT]
    assert attempt.is_candidate and attempt.certificate.min_margin >= job.recipe.stop_margin
    scores_T = tiny_llama.score_targets([attempt.prompt_KD], [torch.tensor(job.target.token_ids)])
    assert float(scores_T.margin.detach().min()) == attempt.certificate.min_margin


def test_a_shorter_window_never_certifies(tiny_llama):
    stages = "stages=[{until=0.999, length_frac=0.25}, {until=1.0}]"
    recipe = load_recipe(None, [*PINNED, "max_steps=60", stages])
    slots = list(walk(tiny_llama, Job(make_target(tiny_llama.token_rule, TEXT, TEXT), recipe, K)))
    assert len(slots) == 60, "it ran to its end"
    slot = slots[-1]
    assert slot.prefix_tokens >= 3, "though all that was trained is exact"
    for shorter in walk(tiny_llama, job_of(tiny_llama, TEXT, "curriculum.growth=one_token", "max_steps=60")):
        if shorter.lesson.window < T:
            assert not shorter.is_certified and not shorter.has_ended and shorter.exact_steps is None


def test_one_token_at_a_time_opens_a_window_once_the_last_is_exact(tiny_llama):
    lessons = [slot.lesson for slot in walk(tiny_llama, job_of(tiny_llama, TEXT, "curriculum.growth=one_token"))]
    windows = [lesson.window for lesson in lessons]
    assert windows == sorted(windows) and set(windows) == set(range(windows[0], T + 1)) and windows[0] <= 2
    assert all(lesson.solved == lesson.window - 1 for lesson in lessons if lesson.window < T)


def test_a_gate_ends_a_stage_before_its_time(tiny_llama):
    stages = "stages=[{until=0.9, length_frac=0.25, gate='exact'}, {until=1.0}]"
    recipe = load_recipe(None, [*PINNED, stages])
    (attempt,) = Solver(tiny_llama).solve([Job(make_target(tiny_llama.token_rule, TEXT, TEXT), recipe, K)])
    assert attempt.is_candidate and attempt.steps < 0.9 * recipe.max_steps


def test_a_slot_without_finite_numbers_begins_its_lessons_afresh(tiny_llama):
    solver = Solver(tiny_llama)
    solver.submit(staged_job(tiny_llama, FOUR_STAGES))
    for _ in range(13):
        solver.step()
    (slot,) = solver.active
    assert slot.lesson.stage == 2
    slot.trained = slot.trained | {"prompt": slot.trained["prompt"] * float("nan")}
    solver.step()
    assert (slot.lesson.stage, slot.lesson.window, slot.step, slot.began, slot.non_finite) == (0, 3, 0, 0, 1)
    assert "w1" in slot.trained and slot.prompt_KD.isfinite().all() and slot.best.certificate is not None
    solver.step()
    assert slot.step == 1 and slot.prompt_KD.isfinite().all()


def test_a_temperature_and_a_size_of_the_start_move_the_prompt_but_not_what_is_measured(tiny_llama):
    usual, cool, large = (
        slots_after(tiny_llama, 2, job_of(tiny_llama, "Ada!", "loss.name=cross_entropy", *overrides, *NEVER))[0]
        for overrides in ((), ('loss.temperature={kind="linear", start=0.5, end=1.0}',), ("start.scale=2",))
    )
    assert not torch.equal(usual.prompt_KD, cool.prompt_KD) and not torch.equal(usual.prompt_KD, large.prompt_KD)
    first_KD = {
        name: slots_after(tiny_llama, 1, job_of(tiny_llama, "Ada!", *overrides, *NEVER))[0].best
        for name, overrides in (("usual", ()), ("cool", ("loss.temperature=0.5",)), ("large", ("start.scale=2",)))
    }
    assert first_KD["cool"].certificate == first_KD["usual"].certificate, "measured at temperature 1"
    assert torch.equal(first_KD["large"].prompt_KD, 2 * first_KD["usual"].prompt_KD)


def test_leads_for_beams_are_those_of_the_model_at_any_temperature(tiny_llama):
    usual, cool = (
        slots_after(tiny_llama, 2, job_of(tiny_llama, "Ada!", "proof=beam", f"loss.temperature={t}", *NEVER))[0]
        for t in (1, 0.5)
    )
    torch.testing.assert_close(usual.prompt_KD, cool.prompt_KD)
