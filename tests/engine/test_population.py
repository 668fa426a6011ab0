"""Siblings as a race: who is culled, what takes their places, and that none of it depends on the company."""

from dataclasses import replace

import pytest
import torch

from engine.certificate import Certificate
from engine.checkpoint import from_bytes, to_bytes
from engine.population import cull, is_look, standing
from engine.recipe import RecipeError, load_recipe, recipe_of, to_toml
from engine.solver import Solver
from tests.engine.jobs import NEVER, assert_same_path, job_of, slots_after, solve

HALVING = ("siblings=4", "population.cull_after=2")
PORTFOLIO = 'portfolio=[{name="as it is"}, {name="sgd", set={optim={name="sgd", lr=0.1}, start={name="mean"}}}]'


def measured(family, *margins):
    """Give each sibling a last measurement, by its smallest margin."""
    for slot, margin in zip(family, margins, strict=True):
        slot.latest = Certificate(margin, 0, len(slot.target_T))
    return family


def test_looks_lie_at_doublings_where_the_worse_half_ends_and_at_multiples_where_it_begins_again():
    assert [age for age in range(40) if is_look(age, 4, renews=False)] == [4, 8, 16, 32]
    assert [age for age in range(20) if is_look(age, 4, renews=True)] == [4, 8, 12, 16]
    assert not any(is_look(age, 0, renews=renews) for age in range(40) for renews in (True, False))


def test_siblings_are_halved_at_every_look_and_only_what_they_did_is_charged(tiny_llama):
    job = job_of(tiny_llama, "Ada!", *HALVING, *NEVER, "max_steps=9")
    solver, running = Solver(tiny_llama), []
    solver.submit(job)
    while not solver.is_idle:
        ended = solver.step()
        running.append(sum(not slot.has_ended for slot in solver.active))
    assert running == [4, 2, 2, 1, 1, 1, 1, 1, 1, 0]
    assert ended[0].positions == (2 * 4 + 2 * 2 + 6) * job.num_positions


def test_the_smaller_margin_is_culled_whoever_has_measured_more_of_the_text_stays(tiny_llama):
    family = slots_after(tiny_llama, 2, job_of(tiny_llama, "Ada!", "siblings=4", "population.cull_after=2", *NEVER))
    for slot in family:
        slot.has_ended = False
    measured(family, -2.0, -0.5, -1.0, 0.5)
    family[3].measured = 2
    cull(tiny_llama, family)
    assert [slot.has_ended for slot in family] == [True, False, False, True]


def test_a_sibling_without_finite_numbers_is_behind_all(tiny_llama):
    (slot,) = measured(slots_after(tiny_llama, 1, job_of(tiny_llama, "Ada!", *NEVER)), float("nan"))
    assert standing(slot) == (0, -float("inf"))


def test_places_of_the_culled_are_free_for_other_texts(tiny_llama):
    first, second = job_of(tiny_llama, "Ada!", *HALVING, *NEVER), job_of(tiny_llama, "Bob?", *HALVING, *NEVER)
    solver = Solver(tiny_llama, table_positions=6 * first.num_positions)
    for job in (first, second):
        solver.submit(job)
    solver.step()
    assert {slot.job.target.id for slot in solver.active} == {"Ada!"}
    solver.step()
    solver.step()
    assert {slot.job.target.id for slot in solver.active} == {"Ada!", "Bob?"}


def test_a_culled_sibling_never_moves_again_and_may_still_be_the_best(tiny_llama):
    solver = Solver(tiny_llama)
    solver.submit(job_of(tiny_llama, "Ada!", *HALVING, *NEVER, "max_steps=6"))
    for _ in range(2):
        solver.step()
    family = list(solver.active)
    culled = next(slot for slot in family if slot.has_ended)
    culled.best = replace(culled.best, certificate=culled.best.certificate._replace(min_margin=50.0))
    before_KD = culled.prompt_KD
    (attempt,) = solver.solve([])
    assert culled.prompt_KD is before_KD and attempt.sibling == culled.sibling
    assert torch.equal(attempt.prompt_KD, culled.best.prompt_KD)


@pytest.mark.parametrize("renewal", ["noise", "recombine"])
def test_the_worse_half_begins_again_from_the_best_while_schedules_go_on(renewal, tiny_llama):
    rules = ("siblings=4", "population.cull_after=2", f"population.renewal={renewal}", "population.noise=0")
    family = slots_after(tiny_llama, 1, job_of(tiny_llama, "Ada!", *rules, *NEVER))
    measured(family, -3.0, -1.0, -2.0, -4.0)
    for slot in family:
        slot.age = 2
    prompts = [slot.prompt_KD for slot in family]
    cull(tiny_llama, family)
    assert [slot.has_ended for slot in family] == [False] * 4
    assert [slot.prompt_KD is prompt_KD for slot, prompt_KD in zip(family, prompts, strict=True)] == [0, 1, 1, 0]
    for slot in (family[0], family[3]):
        assert slot.step == slot.began == 1 and not any(mean.any() for mean in slot.mean.values())
        taken = [(slot.prompt_KD == parent_KD).all(1) for parent_KD in (prompts[1], prompts[2])]
        assert taken[0].all() if renewal == "noise" else (taken[0] | taken[1]).all()


def test_noise_parts_those_that_begin_again(tiny_llama):
    rules = ("siblings=4", "population.cull_after=2", "population.renewal=noise", "population.noise=0.5")
    family = slots_after(tiny_llama, 2, job_of(tiny_llama, "Ada!", *rules, *NEVER))
    best = max(family, key=standing)
    renewed = [slot for slot in family if slot.began == 2]
    assert len(renewed) == 2 and not torch.equal(renewed[0].prompt_KD, renewed[1].prompt_KD)
    for slot in renewed:
        off = (slot.prompt_KD - best.prompt_KD).square().mean().sqrt() / tiny_llama.embed_rms
        assert 0.35 < off < 0.65


@pytest.mark.parametrize("renewal", ["none", "noise", "recombine"])
def test_a_population_goes_the_same_way_alone_and_in_company(renewal, float64_lm):
    lm = float64_lm("llama")
    rules = ("siblings=4", "population.cull_after=3", f"population.renewal={renewal}", PORTFOLIO, *NEVER)
    jobs = [job_of(lm, "Ada!", *rules), job_of(lm, "verbatim", *NEVER, num_vectors=2), job_of(lm, "ab", *rules)]
    together = slots_after(lm, 8, *jobs)
    for job in (jobs[0], jobs[2]):
        family = [slot for slot in together if slot.asked == job]
        alone = slots_after(lm, 8, job)
        assert [slot.has_ended for slot in family] == [slot.has_ended for slot in alone]
        for ours, theirs in zip(family, alone, strict=True):
            assert (ours.step, ours.began, ours.positions) == (theirs.step, theirs.began, theirs.positions)
            assert_same_path(ours.prompt_KD, theirs.prompt_KD, lm)


def test_another_seed_is_another_population(tiny_llama):
    jobs = [job_of(tiny_llama, "Ada!", *HALVING, *NEVER, f"seed={seed}", "max_steps=5") for seed in (0, 0, 1)]
    first, again, other = (solve(tiny_llama, job)["Ada!"] for job in jobs)
    assert torch.equal(first.prompt_KD, again.prompt_KD) and not torch.equal(first.prompt_KD, other.prompt_KD)


def test_a_budget_ends_what_is_left_of_a_population(tiny_llama):
    job = job_of(tiny_llama, "Ada!", *HALVING, *NEVER)
    (attempt,) = Solver(tiny_llama).solve([replace(job, budget=float(11 * job.num_positions))])
    assert attempt.positions == (2 * 4 + 2 * 2) * job.num_positions, "the pass that reaches it is the last"


def test_siblings_take_the_members_of_a_portfolio_in_turn(tiny_llama):
    job = job_of(tiny_llama, "Ada!", "siblings=3", PORTFOLIO, *NEVER, member=1)
    family = slots_after(tiny_llama, 1, job)
    assert [slot.recipe.optim.name for slot in family] == ["sgd", "adam", "sgd"]
    assert [slot.recipe.start.name for slot in family] == ["mean", "vocabulary", "mean"]
    assert all(slot.asked == job for slot in family)
    (checkpoint,) = _checkpoints(tiny_llama, job)
    assert from_bytes(to_bytes(checkpoint), job.target).job == job


def _checkpoints(lm, job):
    solver = Solver(lm)
    solver.submit(job)
    solver.step()
    return solver.checkpoints()


def test_a_portfolio_of_one_member_that_changes_nothing_changes_nothing(tiny_llama):
    plain, member = (solve(tiny_llama, job_of(tiny_llama, "Ada!", *more))["Ada!"] for more in ((), ("portfolio=[{}]",)))
    assert torch.equal(plain.prompt_KD, member.prompt_KD) and plain.steps == member.steps


def test_a_portfolio_is_written_and_read_back_and_asks_for_more_margin_as_one():
    recipe = recipe_of(
        {}, ["siblings=2", "portfolio=[{}, {name='norm', set={loss={name='violation_norm', margin=2}}}]"]
    )
    assert "[[portfolio]]" in to_toml(recipe)
    raised = recipe.with_margins_times(2.0)
    assert [raised.of_member(n).loss.margin for n in (0, 1, 2)] == [2.0, 4.0, 2.0]
    assert recipe.of_member(1).loss.name == "violation_norm" and recipe.of_member(1).portfolio == ()


def test_a_written_portfolio_is_the_same_recipe(tmp_path):
    recipe = recipe_of({}, ["siblings=4", "population.cull_after=16", PORTFOLIO])
    (tmp_path / "recipe.toml").write_text(to_toml(recipe))
    assert load_recipe(tmp_path / "recipe.toml") == recipe != recipe_of({}, [])


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("portfolio=[{}, {set={proof={}}}]", r"portfolio\.1\.set\.proof: a member may change loss, "),
        ("portfolio=[{set={optim={lr=-1}}}]", r"portfolio\.0\.set\.optim\.lr = -1"),
        (
            "portfolio=[{set={optim={rate=1}}}]",
            r"key portfolio\.0\.set\.optim\.rate: unknown; .* is portfolio\.0\.set\.",
        ),
        ("portfolio=[{nome='a'}]", r"portfolio\.0\.nome: unknown; the nearest valid key is portfolio\.0\.name"),
        ("population.cull_after=-1", r"population\.cull_after = -1"),
        ("population.renewal=often", r"population\.renewal = 'often'"),
    ],
)
def test_what_a_portfolio_cannot_be_is_refused_by_name(override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(None, [override])
