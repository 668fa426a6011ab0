"""Our greedy decoder against transformers' own."""

import pytest
import torch

from engine.decoding import greedy
from tests.tiny import FAMILIES

B, K, MAX_TOKENS = 5, 7, 23


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_says_what_transformers_generates(family, tiny_lm):
    lm = tiny_lm(family)
    prompt_BKD = torch.randn(B, K, lm.hidden_size, generator=torch.Generator().manual_seed(7)) * lm.embed_rms
    theirs_BT = lm.model.generate(
        inputs_embeds=prompt_BKD,
        attention_mask=torch.ones(B, K, dtype=torch.long),
        max_new_tokens=MAX_TOKENS,
        do_sample=False,
        pad_token_id=lm.token_rule.end_id,
    )
    for ours, theirs in zip(greedy(lm, prompt_BKD, max_tokens=MAX_TOKENS), theirs_BT.tolist(), strict=True):
        assert ours == theirs[: len(ours)]
        assert len(ours) == MAX_TOKENS or ours[-1] == lm.token_rule.end_id


def test_each_prompt_stops_at_its_own_end_of_text(tiny_llama):
    generator = torch.Generator().manual_seed(11)
    prompt_BKD = torch.randn(101, 1, tiny_llama.hidden_size, generator=generator) * tiny_llama.embed_rms
    said = greedy(tiny_llama, prompt_BKD, max_tokens=MAX_TOKENS)
    end = tiny_llama.token_rule.end_id
    assert any(end in ids for ids in said) and any(end not in ids for ids in said)
    assert all(end not in ids[:-1] for ids in said)
    alone = greedy(tiny_llama, prompt_BKD[:1], max_tokens=3)
    assert alone == [said[0][:3]]
