"""Texts packed in one row say what they say alone and know nothing of each other; what looks across is padded."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, MambaConfig, MistralConfig

from engine.frozen_lm import FrozenLM
from engine.layout import Layout, counted
from engine.packing import Row, longest_packed, packed_attention
from engine.soundness import Probe
from tests.engine.jobs import NEVER, assert_same_path, job_of, slots_after
from tests.tiny import CONTEXT, FAMILIES, VOCAB_SIZE, byte_tokenizer

SIZES = ((3, 25), (7, 2), (1, 11), (20, 8), (2, 30), (1, 1))
"""K and T of the texts, the longest neither first nor last."""


def texts_of(lm: FrozenLM) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randn(k, lm.hidden_size, generator=generator) * lm.embed_rms for k, _ in SIZES]
    targets = [torch.randint(lm.vocab_size, (t,), generator=generator) for _, t in SIZES]
    return [prompt_KD.requires_grad_() for prompt_KD in prompts], targets


PACKED = [name for name in FAMILIES if name != "gemma2"]


@pytest.mark.parametrize("family", PACKED)
def test_packed_texts_score_as_alone_and_have_the_same_gradients(family, tiny_lm):
    lm = tiny_lm(family)
    assert lm.packs_up_to == CONTEXT
    prompts, targets = texts_of(lm)
    assert lm.lay_out(*zip(*SIZES, strict=True)).is_packed
    together_N = lm.score_targets(prompts, targets).nll
    gradients = torch.autograd.grad(together_N.sum(), prompts)
    alone = [lm.score_targets([prompt], [target]).nll for prompt, target in zip(prompts, targets, strict=True)]
    torch.testing.assert_close(together_N, torch.cat(alone), rtol=1e-4, atol=1e-4)
    for prompt_KD, nll_T, gradient_KD in zip(prompts, alone, gradients, strict=True):
        (alone_KD,) = torch.autograd.grad(nll_T.sum(), prompt_KD)
        torch.testing.assert_close(gradient_KD, alone_KD, rtol=1e-3, atol=1e-4 * float(alone_KD.abs().max()))


@pytest.mark.parametrize("family", PACKED)
def test_no_text_of_a_row_depends_on_another(family, tiny_lm):
    lm = tiny_lm(family)
    prompts, targets = texts_of(lm)
    scores = lm.score_targets(prompts, targets).nll.split([len(target_T) for target_T in targets])
    for b, nll_T in enumerate(scores):
        gradients = torch.autograd.grad(nll_T.sum(), prompts, retain_graph=True)
        assert [bool(gradient_KD.any()) for gradient_KD in gradients] == [other == b for other in range(len(SIZES))]


COMMON = {"vocab_size": VOCAB_SIZE, "hidden_size": 32, "eos_token_id": 0, "pad_token_id": None}
LOOKING_ACROSS = {
    "a bias by distance": lambda: BloomConfig(**COMMON, n_layer=1, n_head=2),
    "a recurrence": lambda: MambaConfig(**COMMON, num_hidden_layers=1, state_size=4),
    "a window shorter than the probe": lambda: MistralConfig(
        **COMMON, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        sliding_window=8, max_position_embeddings=CONTEXT,
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", LOOKING_ACROSS)
def test_a_model_whose_parts_look_across_is_read_in_padded_rows(why):
    torch.manual_seed(0)
    lm = FrozenLM(AutoModelForCausalLM.from_config(LOOKING_ACROSS[why]()), byte_tokenizer(), known_as=why)
    assert lm.packs_up_to == 0 and not lm.lay_out([3, 1], [4, 9]).is_packed
    assert Probe(lm).packs_up_to() == 0 and lm.packs_up_to == 0, "asking changes nothing"


def test_an_attention_cap_is_not_packed_away(tiny_lm):
    assert tiny_lm("gemma2").packs_up_to == 0


def test_a_window_bounds_what_is_packed():
    assert longest_packed(SimpleNamespace(sliding_window=100, attention_chunk_size=None), 4096) == 100
    assert longest_packed(SimpleNamespace(sliding_window=None), 4096) == 4096
    assert longest_packed(SimpleNamespace(), 4096) == 4096


def test_what_packed_attention_does_not_know_it_refuses():
    layout = Layout((2, 3), (4, 5), True, torch.device("cpu"))
    states = torch.randn(1, 2, layout.shape[1], 4)
    row = Row.of(layout)
    for unknown in ({"softcap": 5.0}, {"s_aux": states}, {"sliding_window": layout.longest - 1}):
        with pytest.raises(NotImplementedError):
            packed_attention(None, states, states, states, None, row=row, **unknown)
    out, _ = packed_attention(None, states, states, states, None, row=row, sliding_window=layout.longest, softcap=None)
    assert out.shape == (1, layout.shape[1], 2, 4)


@pytest.mark.parametrize("is_packed", [True, False])
def test_a_layout_puts_every_row_where_its_text_reads_it(is_packed):
    layout = Layout((2, 1, 3), (3, 1, 2), is_packed, torch.device("cpu"))
    assert layout.shape == ((1, 9) if is_packed else (3, 4)) and layout.num_positions == (9 if is_packed else 12)
    first = [0, 4, 5] if is_packed else [0, 4, 8]
    never = layout.num_positions
    vectors = [first[0], first[0] + 1, first[1], first[2], first[2] + 1, first[2] + 2]
    contexts = [first[0] + 2, first[0] + 3, never, never, first[2] + 3, never]
    assert layout.at.tolist() == vectors + contexts
    assert layout.predicting.tolist() == [
        first[0] + 1,
        first[0] + 2,
        first[0] + 3,
        first[1],
        first[2] + 2,
        first[2] + 3,
    ]
    assert layout.in_tokens.tolist() == [0, 1, 2, 3, 6, 7]
    if is_packed:
        assert layout.position_ids.tolist() == [[0, 1, 2, 3, 0, 0, 1, 2, 3]]
        assert layout.bounds.tolist() == [0, 4, 5, 9] and layout.in_rows.tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11]


def test_counting_begins_anew_for_every_size():
    assert counted([3, 1, 2]).tolist() == [0, 1, 2, 0, 0, 1]


def test_a_packed_pass_trains_as_padded_passes_do(float64_lm, monkeypatch):
    lm = float64_lm("llama")
    jobs = [job_of(lm, text, *NEVER) for text in ("Ada!", "a b c d e f", "Bob")]
    packed = slots_after(lm, 4, *jobs)
    monkeypatch.setattr(lm, "packs_up_to", 0)
    padded = slots_after(lm, 4, *(replace(job) for job in jobs))
    for ours, theirs in zip(packed, padded, strict=True):
        assert_same_path(ours.prompt_KD, theirs.prompt_KD, lm)
