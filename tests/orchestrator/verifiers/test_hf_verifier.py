"""What is transformers' own: company that a model may not bear."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from orchestrator.verifiers.contract import Candidate, Mode
from orchestrator.verifiers.hf_verifier import HfVerifier
from tests.tiny import INITIALIZER_RANGE, VOCAB_SIZE, byte_tokenizer

D, CONTEXT = 64, 48


@pytest.fixture(scope="module")
def rwkv(tmp_path_factory):
    """Folder of a recurrent model: it takes an attention mask and looks at no part of it."""
    folder = tmp_path_factory.mktemp("rwkv")
    config = AutoConfig.for_model(
        "rwkv", vocab_size=VOCAB_SIZE, hidden_size=D, num_hidden_layers=2, attention_hidden_size=D,
        context_length=CONTEXT, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    model, generator = AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data = weight.data + torch.randn(weight.shape, generator=generator) * INITIALIZER_RANGE
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def load(folder) -> HfVerifier:
    return HfVerifier(str(folder), revision=None, dtype="float32", context=CONTEXT)


def candidates() -> list[Candidate]:
    """Prompts of lengths that come again, with targets of lengths that do not go along with them."""
    noise = np.random.default_rng(0)
    lengths = (1, 7, 3, 1, 7, 3, 11)
    return [
        Candidate(f"{n}", noise.standard_normal((k, D), np.float32) * 0.3, tuple(range(1, 5 + n)))
        for n, k in enumerate(lengths)
    ]


def test_a_model_that_says_something_else_in_company_is_decoded_alone(rwkv):
    verifier, batch = load(rwkv), candidates()
    together = verifier.judge(batch)
    assert together == [said for candidate in batch for said in verifier.judge([candidate])]
    prompts, num_tokens = [c.prompt_KD for c in batch[:2]], len(batch[0].token_ids)
    in_company = verifier._output(prompts, num_tokens).sequences[0].tolist()
    assert in_company != list(together[0].generated_ids), "company would do no harm: the test shows nothing"


def test_prompts_of_unlike_lengths_share_a_pass_on_other_models(tiny_folder):
    verifier = load(tiny_folder("llama"))
    wide = [replace(c, prompt_KD=np.tile(c.prompt_KD, (1, verifier.hidden_size // D))) for c in candidates()]
    passes: list[int] = []
    real = verifier._output
    verifier._output = lambda prompts, *args, **kwargs: (passes.append(len(prompts)), real(prompts, *args, **kwargs))[1]
    together = verifier.judge(wide)
    assert passes == [len(wide)] and together == verifier.judge(wide, Mode(batch_size=1))
