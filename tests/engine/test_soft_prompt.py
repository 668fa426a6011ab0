"""How a soft prompt starts."""

import pytest
import torch

from engine.soft_prompt import (
    MAX_SOLVED,
    STARTS,
    Origin,
    SolvedPrompts,
    mean_start,
    neighbour_start,
    random_start,
    target_start,
    vocabulary_start,
)
from tests.engine.slow import seeded

K, T = 61, 23
OF_THE_MODEL = {name: start for name, start in STARTS.items() if name != "learned"}
"""Starts that need no folder; the learned one has tests of its own."""

ALL_STARTS = pytest.mark.parametrize("name", OF_THE_MODEL)
TARGET_T = torch.randint(257, (T,), generator=torch.Generator().manual_seed(5))


def origin(seed, num_vectors=K, target_T=TARGET_T, solved=None):
    return Origin(num_vectors, seeded(seed), target_T, solved or SolvedPrompts())


def solved_of(lm, *entries):
    """Solved prompts (token ids, K), each filled with its own number."""
    solved = SolvedPrompts()
    for number, (token_ids, num_vectors) in enumerate(entries):
        solved.add(token_ids, torch.full((num_vectors, lm.hidden_size), float(number)))
    return solved


@ALL_STARTS
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_start_is_float32_and_no_larger_than_the_embedding(name, family, tiny_lm):
    lm = tiny_lm(family)
    prompt_KD = STARTS[name](lm, origin(1))
    assert prompt_KD.shape == (K, lm.hidden_size) and prompt_KD.dtype == torch.float32
    assert not prompt_KD.requires_grad
    assert 0.05 * lm.embed_rms < prompt_KD.square().mean().sqrt() < 1.1 * lm.embed_rms


@ALL_STARTS
def test_a_start_follows_its_random_stream_alone(name, tiny_llama):
    before = torch.random.get_rng_state()
    first, again, other = (STARTS[name](tiny_llama, origin(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (name == "target"), "the target start draws nothing"
    assert torch.equal(torch.random.get_rng_state(), before)


@ALL_STARTS
def test_one_vector_and_one_token_are_enough(name, tiny_llama):
    prompt_KD = STARTS[name](tiny_llama, origin(1, num_vectors=1, target_T=TARGET_T[:1]))
    assert prompt_KD.shape == (1, tiny_llama.hidden_size) and prompt_KD.isfinite().all()


def test_the_vocabulary_start_takes_rows_as_the_model_reads_them(tiny_lm):
    lm = tiny_lm("gemma2")
    rows_VD = lm.embed(torch.arange(lm.vocab_size))
    is_row_KV = (vocabulary_start(lm, origin(1))[:, None] == rows_VD).all(-1)
    assert is_row_KV.any(1).all()
    assert is_row_KV.any(0).sum() > K / 2


def test_the_random_start_has_the_size_of_the_embedding(tiny_lm):
    lm = tiny_lm("gemma2")
    prompt_KD = random_start(lm, origin(1))
    assert prompt_KD.square().mean().sqrt().item() == pytest.approx(lm.embed_rms, rel=0.05)


def test_the_mean_start_lies_around_the_mean_and_its_vectors_differ(tiny_lm):
    lm = tiny_lm("gemma2")
    prompt_KD = mean_start(lm, origin(1))
    mean_D = lm.embed(torch.arange(lm.vocab_size)).mean(0)
    torch.testing.assert_close(prompt_KD.mean(0), mean_D, rtol=0, atol=0.1 * lm.embed_rms)
    assert (prompt_KD.std(0) > 0).all()


@pytest.mark.parametrize(("num_vectors", "positions"), [(1, [0]), (2, [0, 22]), (3, [0, 11, 22]), (T, list(range(T)))])
def test_the_target_start_holds_the_targets_own_embeddings_evenly_spaced(num_vectors, positions, tiny_lm):
    lm = tiny_lm("gemma2")
    prompt_KD = target_start(lm, origin(1, num_vectors=num_vectors))
    assert torch.equal(prompt_KD, lm.embed(TARGET_T[positions]))


@pytest.mark.parametrize("num_vectors", [2, 5, 17, T, K])
def test_the_target_start_keeps_the_order_of_the_text_and_both_its_ends(num_vectors, tiny_llama):
    # All tokens unlike, so that a vector tells its position.
    apart_T = torch.randperm(tiny_llama.vocab_size, generator=seeded(2))[:T]
    prompt_KD = target_start(tiny_llama, origin(1, num_vectors=num_vectors, target_T=apart_T))
    where_K = (prompt_KD[:, None] == tiny_llama.embed(apart_T)).all(-1).float().argmax(1)
    assert where_K[0] == 0 and where_K[-1] == T - 1
    assert (where_K.diff() >= 0).all()
    assert where_K.diff().max() - where_K.diff().min() <= 1


def test_the_neighbour_start_is_the_vocabulary_start_where_nothing_is_solved(tiny_llama):
    assert torch.equal(neighbour_start(tiny_llama, origin(1)), vocabulary_start(tiny_llama, origin(1)))


@pytest.mark.parametrize(
    ("token_ids", "nearest"),
    [
        ([1, 2, 3, 4], 0),
        ([1, 2, 3, 9], 0),
        ([5, 6, 7], 1),
        ([5, 6, 7, 8, 9], 1),
        ([2, 3, 4], 0),
    ],
)
def test_the_neighbour_start_takes_the_nearest_solved_prompt(token_ids, nearest, tiny_llama):
    solved = solved_of(tiny_llama, ([1, 2, 3, 4], K), ([5, 6, 7, 8], K))
    prompt_KD = neighbour_start(tiny_llama, origin(1, target_T=torch.tensor(token_ids), solved=solved))
    assert (prompt_KD == nearest).all()


def test_nearness_is_a_share_of_the_text_and_not_a_number_of_edits(tiny_llama):
    # Three edits that leave nothing in common against nine that leave three tokens of twelve.
    solved = solved_of(tiny_llama, ([8, 9], K), ([1, 2, 3, *range(20, 29)], K))
    assert (neighbour_start(tiny_llama, origin(1, target_T=torch.tensor([1, 2, 3]), solved=solved)) == 1).all()


@pytest.mark.parametrize("lent", [1, 7, K - 1, K, K + 1, 101])
def test_a_neighbours_prompt_is_cut_or_filled_up_to_the_vectors_asked_for(lent, tiny_llama):
    prompt_KD = neighbour_start(tiny_llama, origin(1, solved=solved_of(tiny_llama, ([1], lent))))
    kept = min(lent, K)
    assert prompt_KD.shape == (K, tiny_llama.hidden_size)
    assert (prompt_KD[:kept] == 0).all()
    assert torch.equal(prompt_KD[kept:], vocabulary_start(tiny_llama, origin(1))[kept:])


def test_only_the_last_solved_prompts_are_kept(tiny_llama):
    solved = SolvedPrompts()
    for number in range(MAX_SOLVED + 3):
        solved.add([number], torch.full((1, 1), float(number)))
    assert len(solved.entries) == MAX_SOLVED
    assert solved.nearest([0]) is not None and solved.nearest([0]).item() >= 3
    assert solved.nearest([MAX_SOLVED + 2]).item() == MAX_SOLVED + 2


def test_writing_into_a_start_leaves_the_model_and_the_neighbours_alone(tiny_llama):
    before_VD = tiny_llama.embedding.weight.clone()
    solved = SolvedPrompts()
    solved.add([1], torch.ones(K, tiny_llama.hidden_size))
    for start in OF_THE_MODEL.values():
        start(tiny_llama, origin(1, solved=solved)).zero_()
    assert torch.equal(tiny_llama.embedding.weight, before_VD)
    assert (solved.nearest([1]) == 1).all()


def test_repeats_of_the_target_start_differ_and_the_first_does_not(tiny_llama):
    target_T = torch.arange(7)

    def draw(seed, is_repeat):
        origin = Origin(3, torch.Generator().manual_seed(seed), target_T, is_repeat=is_repeat)
        return STARTS["target"](tiny_llama, origin)

    assert torch.equal(draw(0, False), draw(1, False))
    assert not torch.equal(draw(0, True), draw(1, True))
    assert torch.equal(draw(2, True), draw(2, True))
