"""What a slot remembers, its random stream, and which slots share a pass."""

import math
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.certificate import certify
from engine.curriculum import Lesson
from engine.packing import PADDING_FRAC
from engine.passes import packs
from engine.recipe import Recipe
from engine.slot_seed import slot_seed
from engine.slots import Job, Slot
from engine.target import Target

D = 5


def slot_of(num_vectors: int = 2, num_tokens: int = 3, window: int | None = None) -> Slot:
    job = Job(Target("a", "text", tuple(range(num_tokens))), Recipe(), num_vectors)
    start_KD, ones_T = torch.zeros(num_vectors, D), torch.ones(num_tokens)
    lesson = Lesson(num_tokens if window is None else window)
    slot = Slot(job, job, 0, 0, job.recipe.by_stage(), ones_T.long(), torch.Generator(), lesson, start_KD)
    slot.begin({"prompt": start_KD}, {})
    return slot


sizes = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 200)), max_size=40)


@given(sizes, st.integers(1, 500))
def test_every_slot_is_in_one_pack_and_no_pack_overruns_the_budget_but_a_slot_alone(sizes, table_positions):
    slots = [slot_of(num_vectors, num_tokens) for num_vectors, num_tokens in sizes]
    groups = packs(slots, table_positions)
    assert sorted(map(id, slots)) == sorted(id(slot) for group in groups for slot in group)
    for group in groups:
        lengths = [slot.job.num_positions for slot in group]
        padded = max(lengths) * len(group)
        assert len(group) == 1 or padded <= table_positions
        assert padded - sum(lengths) <= PADDING_FRAC * padded


def test_slots_of_one_length_fill_the_budget():
    slots = [slot_of(num_vectors=3, num_tokens=5) for _ in range(11)]  # 7 positions each
    assert [len(group) for group in packs(slots, 7 * 4)] == [4, 4, 3]


def test_a_job_reads_its_vectors_and_all_tokens_but_the_last():
    assert slot_of(num_vectors=3, num_tokens=5).job.num_positions == 7


def test_a_random_stream_is_a_slots_own():
    changes = [{}, {"recipe_seed": 1}, {"target_id": "b"}, {"attempt": 1}, {"sibling": 1}]
    seeds = [
        slot_seed(**{"recipe_seed": 0, "target_id": "a", "attempt": 0, "sibling": 0} | change) for change in changes
    ]
    assert len(set(seeds)) == len(changes)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == 5774881456613165636, "the same on every machine and in every version"


def test_a_slot_remembers_the_best_measurement_with_the_prompt_it_was_made_on():
    slot = slot_of()
    for margin in (-2.0, 0.25, float("nan"), float("-inf"), 0.125):
        slot.observe(certify(torch.tensor([9.0, margin, 9.0])), torch.full((2, D), margin))
    assert slot.best.certificate.min_margin == 0.25
    assert (slot.best.prompt_KD == 0.25).all()
    assert slot.attempt(positions=0.0).is_candidate and not slot.is_certified


def test_a_slot_that_measured_nothing_finite_has_no_candidate():
    slot = slot_of()
    slot.observe(certify(torch.tensor([float("nan")])), slot.prompt_KD)
    attempt = slot.attempt(positions=0.0)
    assert attempt.certificate is None and not attempt.is_candidate


def test_an_attempt_is_the_same_in_another_process():
    slot = slot_of()
    slot.observe(certify(torch.tensor([2.0, 1.5, 1.0]), torch.ones(3)), torch.rand(2, D))
    made = slot.attempt(positions=7.0)
    copy = pickle.loads(pickle.dumps(made))
    assert copy.prompt_KD.equal(made.prompt_KD) and copy.prompt_KD.dtype == torch.float32
    assert replace(copy, prompt_KD=made.prompt_KD) == made


def test_a_longer_window_counts_for_more_than_any_margin():
    slot = slot_of(num_tokens=5)
    for window, margin in ((3, 9.0), (5, -7.0), (3, 11.0), (5, -8.0)):
        slot.lesson = Lesson(window)
        slot.observe(certify(torch.full((window,), margin), num_tokens=5), torch.full((2, D), margin))
    assert (slot.best.window, slot.best.certificate.min_margin) == (5, -7.0)
    assert (slot.best.prompt_KD == -7.0).all()
    assert slot.prefix_tokens == 3 and slot.exact_steps is None


def test_no_window_shorter_than_the_text_is_certified():
    for window in (1, 2, 3):
        slot = slot_of(num_tokens=3, window=window)
        slot.observe(certify(torch.full((window,), 7.0), num_tokens=3), slot.prompt_KD)
        assert slot.is_certified == slot.attempt(positions=0.0).is_candidate == (window == 3)


def test_with_a_proof_for_beams_the_lead_over_whole_texts_counts_before_the_margin():
    slot = slot_of()
    slot.job = slot.asked = replace(slot.job, recipe=Recipe(proof="beam"))
    seen = [(9.0, 1.0), (1.5, 0.1), (2.0, 0.2), (1.0, 0.01)]  # margin of every token, and its cross-entropy
    for margin, nats in seen:
        slot.observe(certify(torch.full((3,), margin), torch.full((3,), nats)), torch.full((2, D), margin))
    best = slot.best.certificate
    assert best.min_margin == 1.0 and slot.is_certified
    assert best.slack == pytest.approx(-math.log(1 - math.exp(-0.01)) - 0.03, abs=0.01)
    slot.best = None
    slot.observe(certify(torch.full((3,), 9.0), torch.full((3,), 1.0)), slot.prompt_KD)
    attempt = slot.attempt(positions=0.0)
    assert attempt.is_greedy and not attempt.is_candidate and not slot.is_certified


def test_a_slot_remembers_when_it_was_first_exact():
    slot = slot_of()
    for step, margin in enumerate((-1.0, 0.25, -1.0, 0.75)):
        slot.step, slot.positions = step, 7.5 * step
        slot.observe(certify(torch.tensor([9.0, margin, 9.0])), slot.prompt_KD)
    assert (slot.exact_steps, slot.exact_positions, slot.prefix_tokens) == (1, 8, 3)


def test_training_something_else_forgets_the_optimiser_and_keeps_the_best():
    slot = slot_of()
    slot.observe(certify(torch.tensor([0.25])), slot.prompt_KD)
    slot.mean, slot.square, slot.step = {"prompt": torch.ones(2, D)}, {"prompt": torch.ones(2, D)}, 17
    slot.begin({"z": torch.ones(2, 3)}, {"anchor": torch.ones(2, D)})
    assert (slot.step, slot.began) == (17, 17)
    for moments in (slot.mean, slot.square):
        assert moments.keys() == {"z"} and not moments["z"].any() and moments["z"].shape == (2, 3)
    assert slot.best.certificate.min_margin == 0.25


def test_progress_is_the_larger_share_of_steps_and_positions():
    slot = slot_of()
    slot.job = replace(slot.job, recipe=Recipe(max_steps=10, max_positions=100))
    slot.step, slot.positions = 2, 45.0
    assert (slot.progress, slot.clock, slot.is_exhausted) == (0.45, 4.5, False)
    slot.step, slot.positions = 7, 50.0
    assert (slot.progress, slot.clock, slot.is_exhausted) == (0.7, 7.0, False)
    slot.positions = 101.0
    assert (slot.progress, slot.clock, slot.is_exhausted) == (1.0, 10.0, True)


def test_without_a_bound_on_positions_the_clock_is_the_step():
    slot = slot_of()
    slot.step, slot.positions = 7, 1e9
    assert slot.clock == 7 and slot.progress == 7 / Recipe().max_steps


def test_the_record_of_a_slot_does_not_share_its_memory():
    slot = slot_of()
    attempt = slot.attempt(positions=0.0)
    slot.prompt_KD.fill_(7.0)
    assert not attempt.prompt_KD.any()
