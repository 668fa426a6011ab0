"""What a slot remembers, its random stream, and which slots share a pass."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.certificate import certify
from engine.recipe import Recipe
from engine.slots import PADDING_FRAC, Job, Slot, packs, slot_seed
from engine.target import Target

D = 5


def slot_of(num_vectors: int = 2, num_tokens: int = 3) -> Slot:
    job = Job(Target("a", "text", tuple(range(num_tokens))), Recipe(), num_vectors)
    start_KD, ones_T = torch.zeros(num_vectors, D), torch.ones(num_tokens)
    return Slot(job, 0, 0, ones_T.long(), ones_T, torch.Generator(), start_KD, start_KD, start_KD)


sizes = st.lists(st.tuples(st.integers(1, 50), st.integers(1, 200)), max_size=40)


@given(sizes, st.integers(1, 500))
def test_every_slot_is_in_one_pack_and_no_pack_overruns_the_budget_but_a_slot_alone(sizes, token_budget):
    slots = [slot_of(num_vectors, num_tokens) for num_vectors, num_tokens in sizes]
    groups = packs(slots, token_budget)
    assert sorted(map(id, slots)) == sorted(id(slot) for group in groups for slot in group)
    for group in groups:
        lengths = [slot.job.num_positions for slot in group]
        padded = max(lengths) * len(group)
        assert len(group) == 1 or padded <= token_budget
        assert padded - sum(lengths) <= PADDING_FRAC * padded


def test_slots_of_one_length_fill_the_budget():
    slots = [slot_of(num_vectors=3, num_tokens=5) for _ in range(11)]  # 7 positions each
    assert [len(group) for group in packs(slots, 7 * 4)] == [4, 4, 3]


def test_a_job_reads_its_vectors_and_all_tokens_but_the_last():
    assert slot_of(num_vectors=3, num_tokens=5).job.num_positions == 7


def test_a_random_stream_is_a_slots_own():
    changes = [{}, {"recipe_seed": 1}, {"target_id": "b"}, {"attempt": 1}, {"sibling": 1}, {"restart": 1}]
    seeds = [
        slot_seed(**{"recipe_seed": 0, "target_id": "a", "attempt": 0, "sibling": 0} | change) for change in changes
    ]
    assert len(set(seeds)) == len(changes)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[0] == 5774881456613165636, "the same on every machine and in every version"


def test_a_slot_remembers_the_best_measurement_with_the_prompt_it_was_made_on():
    slot = slot_of()
    for margin in (-2.0, 0.25, float("nan"), 0.125):
        slot.prompt_KD = torch.full((2, D), margin)
        slot.observe(certify(torch.tensor([9.0, margin, 9.0])))
    assert slot.best.certificate.min_margin == 0.25
    assert (slot.best.prompt_KD == 0.25).all()
    assert slot.attempt(tokens=0).is_candidate and not slot.is_certified


def test_a_slot_that_measured_nothing_finite_has_no_candidate():
    slot = slot_of()
    slot.observe(certify(torch.tensor([float("nan")])))
    attempt = slot.attempt(tokens=0)
    assert attempt.certificate is None and not attempt.is_candidate


def test_a_restart_forgets_the_optimiser_and_keeps_the_best():
    slot = slot_of()
    slot.observe(certify(torch.tensor([0.25])))
    slot.mean_KD, slot.square_KD, slot.step = torch.ones(2, D), torch.ones(2, D), 17
    slot.restart(torch.full((2, D), 3.0))
    assert slot.step == 0 and not slot.mean_KD.any() and not slot.square_KD.any()
    assert (slot.prompt_KD == 3.0).all() and slot.best.certificate.min_margin == 0.25


def test_the_record_of_a_slot_does_not_share_its_memory():
    slot = slot_of()
    attempt = slot.attempt(tokens=0)
    slot.prompt_KD.fill_(7.0)
    assert not attempt.prompt_KD.any()
