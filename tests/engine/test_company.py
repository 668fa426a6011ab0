"""Many slots: the ways in which sharing a table and a pass could change a result."""

from dataclasses import replace
from itertools import cycle

import pytest
import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.layout import Layout
from engine.model_source import ModelSource
from engine.solver import MAX_NON_FINITE, Solver
from tests.engine.jobs import NEVER, TEXTS, K, assert_same_path, job_of, slots_after, solve

LONG = "longer than the budget by itself"


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_a_slot_walks_the_same_way_alone_and_in_company(family, float64_lm):
    lm = float64_lm(family)
    jobs = [
        job_of(lm, text, f"loss.name={loss}", f"siblings={siblings}", *NEVER, num_vectors=num_vectors)
        for text, num_vectors, siblings, loss in (
            ("Ada!", 5, 1, "violation_norm"),
            ("ab", 2, 3, "squared_hinge"),
            ("verbatim, all of it", 11, 1, "violation_norm"),
            ("a b c", 1, 2, "cross_entropy"),
        )
    ]
    together = [slot for slot in slots_after(lm, 5, *jobs) if slot.sibling == 0]
    for job, slot in zip(jobs, together, strict=True):
        alone, *_ = slots_after(lm, 5, replace(job, recipe=job.recipe.model_copy(update={"siblings": 1})))
        assert_same_path(slot.prompt_KD, alone.prompt_KD, lm)
        assert slot.best.certificate.min_margin == pytest.approx(alone.best.certificate.min_margin, abs=1e-3)


METHODS = {
    "scheduled_sampling": ("context.name=scheduled_sampling", "context.own_token=sample"),
    "scheduled_sampling with noise": ("context.name=scheduled_sampling", "noise.kind=fixed", "noise.read=0.1"),
    "embedding_mix": ("context.name=embedding_mix",),
    "two_pass": ("context.name=two_pass", "context.num_passes=2"),
    "free_running": ("context.name=free_running",),
    "soft_decoding": ("context.name=soft_decoding", "context.guidance_alpha=0.5", "context.learn_temperature=true"),
    "gumbel_softmax": ("context.name=gumbel_softmax", "context.guidance_alpha=0.5"),
    "mixer": ("context.name=mixer", "terms.rloo=0.5"),
    "noise": ("noise.kind=sampled", "noise.prompt=0.1"),
    "rollouts": ("terms.autoregressive=0.5", "terms.professor_forcing=0.5", "knobs.autoregressive_every=2"),
    "samples": ("terms.reinforce=0.5", "terms.minimum_risk=0.5"),
    "states and prompts": ("terms.simctg=0.5", "terms.prompt_perplexity=0.5", "terms.manifold=0.5"),
    "aligned": ("terms.entropy=-3", "optim.align_to=hinge"),
    "network": ("parameterisation.name=mlp", "optim.lr=0.5"),
    "sgd": ("optim.name=sgd", "optim.lr=0.1"),
    "polyak": ("optim.name=polyak", "loss.temperature=0.5", "loss.patience=2"),
    "polyak on a network": ("optim.name=polyak", "parameterisation.name=mlp", "terms.entropy=-0.5"),
    "polyak for beams": ("optim.name=polyak", "loss.patience=1", "proof=beam"),
    "curriculum": ("curriculum.growth=geometric", "curriculum.first=2"),
}


def test_slots_of_unlike_methods_walk_as_they_do_alone(float64_lm):
    lm = float64_lm("llama")
    jobs = [
        job_of(lm, text, "loss.name=cross_entropy", "optim.lr=0.1", *overrides, *NEVER, num_vectors=num_vectors)
        for overrides, text, num_vectors in zip(METHODS.values(), cycle(("Ada!", "verbatim", "ab")), cycle((5, 2)))
    ]
    for name, job, slot in zip(METHODS, jobs, slots_after(lm, 3, *jobs), strict=True):
        (alone,) = slots_after(lm, 3, job)
        assert torch.equal(slot.generator.get_state(), alone.generator.get_state()), name
        assert slot.positions == alone.positions and slot.lesson == alone.lesson, name
        assert_same_path(slot.prompt_KD, alone.prompt_KD, lm)


def test_a_verdict_is_the_same_alone_and_in_company(float64_lm):
    lm = float64_lm("llama")
    jobs = [
        job_of(lm, text, f"max_steps={max_steps}") for text, max_steps in zip(TEXTS, (3, 100, 3, 100, 100), strict=True)
    ]
    together = solve(lm, *jobs)
    assert {attempt.is_candidate for attempt in together.values()} == {True, False}
    for job in jobs:
        (alone,) = solve(lm, job).values()
        attempt = together[job.target.id]
        assert (attempt.is_candidate, attempt.steps) == (alone.is_candidate, alone.steps)
        assert attempt.certificate.first_mismatch == alone.certificate.first_mismatch
        assert attempt.certificate.min_margin == pytest.approx(alone.certificate.min_margin, abs=1e-2)


def test_a_measurement_in_float32_is_the_same_alone_and_in_company_to_a_thousandth(tiny_llama):
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text) for text in TEXTS)).values()
    prompts = [attempt.prompt_KD for attempt in attempts]
    targets = [torch.tensor(attempt.job.target.token_ids) for attempt in attempts]
    scores_N, lengths = tiny_llama.score_targets(prompts, targets), [len(target_T) for target_T in targets]
    for margin_T, prompt_KD, target_T in zip(scores_N.margin.split(lengths), prompts, targets, strict=True):
        alone_T = tiny_llama.score_targets([prompt_KD], [target_T])
        torch.testing.assert_close(margin_T, alone_T.margin, rtol=0, atol=1e-3)


def test_a_finished_slot_never_moves_again(tiny_llama):
    solver = Solver(tiny_llama)
    for text in TEXTS:
        solver.submit(job_of(tiny_llama, text))
    assert solver.step() == []
    slots = list(solver.active)
    attempts = {attempt.job.target.id: attempt for attempt in solver.solve([])}
    assert len({slot.step for slot in slots}) > 1, "they finish at different times"
    for slot in slots:
        assert torch.equal(slot.prompt_KD, slot.best.prompt_KD)
        assert torch.equal(slot.prompt_KD, attempts[slot.job.target.id].prompt_KD)


def test_nothing_of_a_slots_first_occupant_is_left_to_its_second(tiny_llama):
    first, second = (job_of(tiny_llama, text, "max_steps=11", *NEVER) for text in ("verbatim", "verbally"))
    refilled = solve(tiny_llama, first, second, table_positions=first.num_positions)["verbally"]
    (alone,) = solve(tiny_llama, second).values()
    assert torch.equal(refilled.prompt_KD, alone.prompt_KD)
    assert refilled.certificate == alone.certificate and refilled.steps == alone.steps == 11


def test_a_free_place_is_filled_in_the_next_step(tiny_llama):
    jobs = [job_of(tiny_llama, text, "max_steps=3", *NEVER) for text in ("ab", "cd", "ef")]
    solver = Solver(tiny_llama, table_positions=jobs[0].num_positions)
    attempts = solver.solve(jobs)
    assert [attempt.job.target.id for attempt in attempts] == ["ab", "cd", "ef"]
    assert solver.num_steps == 3 * (3 + 1)  # the last step is measured too
    assert solver.num_positions == sum(attempt.positions for attempt in attempts)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_slot_without_finite_numbers_starts_afresh_and_its_neighbours_do_not_notice(poison, float64_lm):
    lm = float64_lm("llama")
    jobs = [job_of(lm, text, *NEVER) for text in TEXTS]
    sick = 2
    poisoned = replace(jobs[sick], start_KD=torch.full((K, lm.hidden_size), poison))
    healthy, beside = (slots_after(lm, 5, *jobs[:sick], job, *jobs[sick + 1 :]) for job in (jobs[sick], poisoned))
    for b in set(range(len(TEXTS))) - {sick}:
        assert_same_path(beside[b].prompt_KD, healthy[b].prompt_KD, lm)
    assert (beside[sick].non_finite, beside[sick].step) == (1, 4)
    assert beside[sick].prompt_KD.isfinite().all() and beside[sick].best is not None


def test_a_text_whose_slot_started_afresh_is_solved(tiny_llama):
    poison_KD = torch.full((K, tiny_llama.hidden_size), float("nan"))
    (attempt,) = solve(tiny_llama, job_of(tiny_llama, "Ada!", start_KD=poison_KD)).values()
    assert attempt.is_candidate and attempt.non_finite == 1


def test_a_slot_that_never_measures_anything_finite_is_given_up(tiny_folder):
    lm = FrozenLM.load(ModelSource(str(tiny_folder("llama"))))
    job = job_of(lm, "Ada!")
    lm.head.weight_VD[job.target.token_ids[0]] = float("nan")
    (attempt,) = solve(lm, job).values()
    assert attempt.certificate is None and not attempt.is_candidate
    assert attempt.non_finite == MAX_NON_FINITE + 1
    assert attempt.positions == (MAX_NON_FINITE + 1) * job.num_positions


def test_one_certified_sibling_frees_the_places_of_all(tiny_llama):
    solver = Solver(tiny_llama)
    solver.submit(job_of(tiny_llama, "Ada!", "siblings=3"))
    assert solver.step() == []
    slots = list(solver.active)
    assert [slot.sibling for slot in slots] == [0, 1, 2]
    assert len({slot.prompt_KD.sum().item() for slot in slots}) == 3, "every sibling has a start of its own"
    (attempt,) = solver.solve([])
    assert sum(slot.is_certified for slot in slots) in (1, 2), "not all were done"
    winner = max(slots, key=lambda slot: slot.best.certificate.min_margin)
    assert winner.is_certified and torch.equal(attempt.prompt_KD, winner.prompt_KD)
    assert (
        attempt.positions
        == sum(slot.positions for slot in slots)
        == 3 * (attempt.steps + 1) * attempt.job.num_positions
    )


def test_siblings_out_of_steps_end_together_with_the_best_of_them(tiny_llama):
    solver = Solver(tiny_llama)
    solver.submit(job_of(tiny_llama, "Ada!", "siblings=3", "max_steps=5", *NEVER))
    assert solver.step() == []
    slots = list(solver.active)
    (attempt,) = solver.solve([])
    margins = [slot.best.certificate.min_margin for slot in slots]
    assert len(set(margins)) == 3 and attempt.certificate.min_margin == max(margins)


def test_the_table_and_every_pass_keep_to_the_token_budget(tiny_llama, monkeypatch):
    passes: list[int] = []
    read_rows = tiny_llama.read_rows

    def noting(prompts_RD: Tensor, contexts_ND: Tensor, layout: Layout) -> Tensor:
        passes.append(layout.num_positions)
        return read_rows(prompts_RD, contexts_ND, layout)

    monkeypatch.setattr(tiny_llama, "read_rows", noting)
    jobs = [job_of(tiny_llama, text, "max_steps=5", *NEVER) for text in (*TEXTS, LONG, "Bob?", "cd")]
    solver = Solver(tiny_llama, table_positions=31)
    for job in jobs:
        solver.submit(job)
    ended, tables = [], []
    while not solver.is_idle:
        ended += solver.step()
        tables.append([slot.job.num_positions for slot in solver.active])
    assert {attempt.job.target.id for attempt in ended} == {job.target.id for job in jobs}
    assert max(map(len, tables)) > 1
    alone = len(LONG) + K  # its end-of-text token is never read
    assert all(sum(table) <= 31 or table == [alone] for table in tables)
    assert all(positions <= 31 or positions == alone for positions in passes) and alone in passes
