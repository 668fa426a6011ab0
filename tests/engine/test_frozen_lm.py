"""The frozen model: one alignment point, rules it refuses to guess, and proof that it did not change."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from engine.fingerprint import fingerprint
from engine.frozen_lm import DTYPES, FrozenLM, TokenRule
from engine.model_source import ModelError, ModelSource
from tests.tiny import CONTEXT, FAMILIES, HIDDEN_SIZE, VOCAB_SIZE, byte_tokenizer

ALL_FAMILIES = pytest.mark.parametrize("family", FAMILIES)


def draw_texts(lm: FrozenLM) -> tuple[list[Tensor], list[Tensor]]:
    """Prompts and targets of different lengths, one target of a single token among them."""
    generator = torch.Generator().manual_seed(5)
    prompts = [torch.randn(k, lm.hidden_size, generator=generator) * lm.embed_rms for k in (3, 7, 1, 2)]
    targets = [torch.randint(lm.vocab_size, (t,), generator=generator) for t in (5, 2, 11, 1)]
    return [prompt_KD.requires_grad_() for prompt_KD in prompts], targets


@ALL_FAMILIES
def test_scores_are_those_of_a_slow_loop_that_reads_one_position_at_a_time(family, tiny_lm):
    lm = tiny_lm(family)
    prompts, targets = draw_texts(lm)
    scores_N = lm.score_targets(prompts, targets)
    assert {column.shape for column in scores_N} == {(sum(len(target_T) for target_T in targets),)}
    slow = []
    for prompt_KD, target_T in zip(prompts, targets, strict=True):
        for t, target in enumerate(target_T.tolist()):
            read_SD = torch.cat([prompt_KD, lm.embed(target_T[:t])])
            logits_V = lm.model(inputs_embeds=read_SD[None], use_cache=False).logits[0, -1]
            rivals_V = logits_V.index_fill(0, torch.tensor([target]), float("-inf"))
            slow.append(torch.stack([logits_V.logsumexp(0), logits_V[target], rivals_V.max()]))
    ours_N3 = torch.stack(scores_N[:3], dim=1)
    torch.testing.assert_close(ours_N3, torch.stack(slow), rtol=1e-4, atol=1e-3)
    assert (ours_N3 - ours_N3.roll(1, 0)).abs().max() > 1, "a shift by one would not be noticed"


@ALL_FAMILIES
def test_the_gradient_is_that_of_the_models_own_logits(family, tiny_lm):
    lm = tiny_lm(family)
    prompts, targets = draw_texts(lm)
    lm.score_targets(prompts, targets).nll.sum().backward()
    for prompt_KD, target_T in zip(prompts, targets, strict=True):
        read_SD = torch.cat([prompt_KD, lm.embed(target_T)])
        logits_SV = lm.model(inputs_embeds=read_SD[None], use_cache=False).logits[0]
        predicting = slice(len(prompt_KD) - 1, len(read_SD) - 1)
        nll = torch.nn.functional.cross_entropy(logits_SV[predicting], target_T, reduction="sum")
        (grad_KD,) = torch.autograd.grad(nll, prompt_KD)
        torch.testing.assert_close(prompt_KD.grad, grad_KD, rtol=1e-3, atol=1e-4 * grad_KD.abs().max().item())


def test_the_first_and_the_last_token_are_both_trained(tiny_llama):
    prompts, targets = draw_texts(tiny_llama)
    scores_N, lengths = tiny_llama.score_targets(prompts, targets), [len(target_T) for target_T in targets]
    for margin_T, prompt_KD in zip(scores_N.margin.split(lengths), prompts, strict=True):
        for margin in (margin_T[0], margin_T[-1]):
            (grad_KD,) = torch.autograd.grad(margin, prompt_KD, retain_graph=True)
            assert (grad_KD.abs().sum(1) > 0).all(), "every vector can move it"


def test_a_position_knows_nothing_of_the_tokens_from_itself_on(tiny_llama):
    (prompt_KD, *_), (target_T, *_) = draw_texts(tiny_llama)
    changed_T = torch.cat([target_T[:3], (target_T[3:] + 1) % VOCAB_SIZE])
    scores_T, changed_scores_T = (tiny_llama.score_targets([prompt_KD], [y]) for y in (target_T, changed_T))
    same_T = torch.isclose(scores_T.log_sum_exp, changed_scores_T.log_sum_exp)
    assert same_T.tolist() == [True, True, True, True, False]


@ALL_FAMILIES
def test_reading_is_the_same_position_by_position_with_any_context(family, tiny_lm):
    lm = tiny_lm(family)
    prompts, targets = draw_texts(lm)
    generator = torch.Generator().manual_seed(17)
    contexts = [torch.randn(len(y), lm.hidden_size, generator=generator) * lm.embed_rms for y in targets]
    slow = []
    for prompt_KD, context_TD in zip(prompts, contexts, strict=True):
        for t in range(len(context_TD)):
            slow.append(lm.hidden(torch.cat([prompt_KD, context_TD[:t]])[None])[0, -1])
    read_ND = lm.read(prompts, contexts)
    torch.testing.assert_close(read_ND, torch.stack(slow), rtol=1e-3, atol=1e-3)
    for context_TD in contexts:
        context_TD[-1] = float("nan")  # never read
    assert torch.equal(lm.read(prompts, contexts), read_ND)


@ALL_FAMILIES
def test_a_mixture_of_one_token_is_its_embedding(family, tiny_lm):
    lm = tiny_lm(family)
    ids_B = torch.tensor([3, 0, 251])
    torch.testing.assert_close(lm.mix(torch.nn.functional.one_hot(ids_B, VOCAB_SIZE).float()), lm.embed(ids_B))
    half_BV = torch.zeros(1, VOCAB_SIZE).index_fill(1, ids_B[:2], 0.5)
    torch.testing.assert_close(lm.mix(half_BV), lm.embed(ids_B[:2]).mean(0, keepdim=True))


@ALL_FAMILIES
def test_embeddings_are_what_the_first_layer_reads(family, tiny_lm):
    lm = tiny_lm(family)
    ids_BT = torch.arange(13)[None]
    from_ids, from_embeddings = (
        lm.model(use_cache=False, **kwargs).logits
        for kwargs in ({"input_ids": ids_BT}, {"inputs_embeds": lm.embed(ids_BT)})
    )
    torch.testing.assert_close(from_ids, from_embeddings)
    rms = lm.embed(torch.arange(VOCAB_SIZE)).square().mean().sqrt().item()
    assert lm.embed_rms == pytest.approx(rms, rel=1e-4)
    assert (lm.embed_scale == pytest.approx(HIDDEN_SIZE**0.5)) == family.startswith("gemma")


class DoublesItsLogits(LlamaForCausalLM):
    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output


def test_an_output_rule_that_is_not_known_is_refused(tiny_folder, tiny_llama):
    model = DoublesItsLogits.from_pretrained(tiny_folder("llama"))
    with pytest.raises(ModelError, match="DoublesItsLogits: its embedding or output rule is unknown"):
        FrozenLM(model, tiny_llama.token_rule.tokenizer)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_model_is_loaded_in_the_dtype_asked_for_and_takes_no_gradient(dtype, tiny_folder):
    lm = FrozenLM.load(ModelSource(str(tiny_folder("llama"))), dtype=dtype)
    assert {weight.dtype for weight in lm.model.parameters()} == {DTYPES[dtype]}
    assert not any(weight.requires_grad for weight in lm.model.parameters())
    assert not lm.model.training
    assert (lm.vocab_size, lm.hidden_size, lm.token_rule.context, lm.token_rule.end_id) == (
        VOCAB_SIZE,
        HIDDEN_SIZE,
        CONTEXT,
        0,
    )
    prompts, targets = draw_texts(lm)
    lm.score_targets(prompts, targets).margin.sum().backward()
    assert all(prompt_KD.grad.dtype == torch.float32 and prompt_KD.grad.any() for prompt_KD in prompts)


def test_a_bfloat16_model_scores_near_the_float32_one(tiny_folder, tiny_llama):
    half = FrozenLM.load(ModelSource(str(tiny_folder("llama"))), dtype="bfloat16")
    prompts, targets = draw_texts(tiny_llama)
    full_N, half_N = (lm.score_targets(prompts, targets) for lm in (tiny_llama, half))
    assert half_N.margin.dtype == torch.float32
    error_N = (full_N.margin - half_N.margin).abs()
    assert 0 < error_N.mean() < 0.05 * full_N.margin.abs().mean()


def save_config_alone(folder: Path, tiny: Path) -> None:
    (folder / "config.json").write_bytes((tiny / "config.json").read_bytes())


def save_weights_alone(folder: Path, tiny: Path) -> None:
    (folder / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())


@pytest.mark.parametrize(
    ("save", "complaint"), [(save_config_alone, "no *.safetensors"), (save_weights_alone, "no config.json")]
)
def test_a_folder_that_holds_no_model_is_refused_by_name(save, complaint, tmp_path, tiny_folder):
    save(tmp_path, tiny_folder("llama"))
    with pytest.raises(ModelError, match=f"{re.escape(str(tmp_path))}.*{re.escape(complaint)}"):
        FrozenLM.load(ModelSource(str(tmp_path)))


@pytest.mark.parametrize("name", ["no such model!", "nobody/has-this-model", "./no/such/folder", "~/no/such/folder"])
def test_a_name_that_is_no_model_is_refused_by_name(name):
    for load in (FrozenLM.load, TokenRule.load):
        with pytest.raises(ModelError, match=f"--model {re.escape(name)}: "):
            load(ModelSource(name))


def test_a_dtype_that_is_not_known_is_refused():
    with pytest.raises(ModelError, match="--dtype float64: must be one of float32, bfloat16, float16"):
        FrozenLM.load(ModelSource(), dtype="float64")


def test_the_fingerprint_is_the_same_over_two_loads_and_differs_between_models(tiny_folder, tiny_lm):
    again = FrozenLM.load(ModelSource(str(tiny_folder("llama"))))
    assert again.fingerprint == tiny_lm("llama").fingerprint
    assert len({tiny_lm(family).fingerprint for family in FAMILIES}) == len(FAMILIES)


def test_one_bit_of_one_weight_changes_the_fingerprint(tiny_folder):
    lm = FrozenLM.load(ModelSource(str(tiny_folder("llama"))))
    for weight in lm.model.parameters():
        weight.data.view(torch.int32).view(-1)[-1] ^= 1
        assert fingerprint(lm.model) != lm.fingerprint
        weight.data.view(torch.int32).view(-1)[-1] ^= 1
    assert fingerprint(lm.model) == lm.fingerprint


def test_the_token_rule_knows_the_rows_of_the_embedding_without_the_weights(tiny_folder, tiny_lm):
    for family in FAMILIES:
        rule = TokenRule.load(ModelSource(str(tiny_folder(family))))
        assert rule.num_embeddings == tiny_lm(family).token_rule.num_embeddings == VOCAB_SIZE


def test_an_end_of_text_token_beyond_the_embedding_is_refused_with_both_numbers(tmp_path, tiny_folder):
    shutil.copytree(tiny_folder("llama"), tmp_path, dirs_exist_ok=True)
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.save_pretrained(tmp_path)
    for load in (FrozenLM.load, TokenRule.load):
        with pytest.raises(ModelError, match=f"token {VOCAB_SIZE}, the model's embedding has {VOCAB_SIZE} rows"):
            load(ModelSource(str(tmp_path)))
