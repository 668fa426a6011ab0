"""Beam search over vLLM from prompt embeddings, beside the one in this process and beside transformers'."""

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
import torch

from engine.decoding import Beam, Greedy
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.target import encode
from orchestrator.console.errors import UserError
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode
from orchestrator.verifiers.vllm_beam import search_beams
from orchestrator.verifiers.vllm_verifier import MAX_BEAMS
from tests.engine.slow import draw_prompt
from tests.orchestrator.verifiers.test_contract import hf, planted, vllm  # noqa: F401
from tests.tiny import VOCAB_SIZE

NUM_TEXTS, K, MAX_TOKENS = 64, 5, 13


@pytest.fixture(scope="module")
def lm():
    return FrozenLM.load(ModelSource())


@pytest.fixture(scope="module")
def candidates(lm):
    """The first tokens of real sentences as soft prompts, blurred, so that no hypothesis leads by far."""
    rows = pq.read_table("corpora/english_1k.parquet").to_pylist()[:NUM_TEXTS]
    generator = torch.Generator().manual_seed(5)
    starts = [lm.embed(torch.tensor(encode(lm.token_rule, row["text"])[:K])) for row in rows]
    blurred = [start + 0.3 * lm.embed_rms * torch.randn(start.shape, generator=generator) for start in starts]
    # A target that ends with end-of-text: what follows it is part of the verdict.
    target = (*range(1, MAX_TOKENS - 8), lm.token_rule.end_id)
    return [Candidate(row["id"], p.numpy(), target) for row, p in zip(rows, blurred, strict=True)]


def in_process(lm, candidates, strategy, limit):
    prompts = [torch.from_numpy(c.prompt_KD) for c in candidates]
    return [tuple(text.token_ids) for text in strategy.decode(lm, prompts, [limit] * len(prompts))]


@pytest.mark.vllm
@pytest.mark.slow
def test_beams_on_vllm_are_those_of_this_process(lm, candidates, vllm):  # noqa: F811
    limit = vllm._limit(candidates[0])
    greedy = in_process(lm, candidates, Greedy(), limit)
    said = {width: [v.generated_ids for v in vllm.judge(candidates, Mode(beams=width))] for width in (1, 4, 8)}
    assert said[1] == greedy == [v.generated_ids for v in vllm.judge(candidates, GREEDY)]
    for width in (4, 8):
        assert said[width] == in_process(lm, candidates, Beam(width=width), limit)
    assert said[8] != said[4] != said[1]


def test_beams_on_transformers_are_those_of_this_process(lm, candidates, hf):  # noqa: F811
    few = candidates[:11]
    said = [v.generated_ids for v in hf.judge(few, Mode(beams=4))]
    assert said == in_process(lm, few, Beam(width=4), hf._limit(few[0]))


def test_what_beams_say_on_transformers_does_not_depend_on_the_company(candidates, hf):  # noqa: F811
    """Unlike lengths search unlike far; a search that goes on for a longer neighbour's sake may end elsewhere."""
    unlike = [replace(c, token_ids=(*range(1, 3 + 2 * n), c.token_ids[-1])) for n, c in enumerate(candidates[:5])]
    together = [v.generated_ids for v in hf.judge(unlike, Mode(beams=4))]
    assert together == [hf.judge([c], Mode(beams=4))[0].generated_ids for c in unlike]


@pytest.mark.vllm
@pytest.mark.slow
def test_too_wide_a_beam_is_a_clear_error(candidates, vllm):  # noqa: F811
    with pytest.raises(UserError, match=rf"--beams {MAX_BEAMS + 1}: must be at most {MAX_BEAMS}"):
        vllm.judge(candidates[:1], Mode(beams=MAX_BEAMS + 1))


@pytest.mark.parametrize("width", [1, 3, 5])
def test_decoded_tokens_grow_with_width_times_length(width, tiny_llama):
    """And the search over an engine that only names likely tokens is the search over the model itself."""
    prompts = [draw_prompt(tiny_llama, k, seed=k).detach() for k in (2, 3, 7)]
    asked = []

    def likely(hypotheses, num_next):
        asked.append(len(hypotheses))
        steps = []
        for text, token_ids in hypotheses:
            read_SD = torch.cat([prompts[text], tiny_llama.embed(torch.tensor(token_ids, dtype=torch.long))])
            log_p_V = tiny_llama.head.logits(tiny_llama.hidden(read_SD[None])[0, -1:])[0].log_softmax(-1)
            top = log_p_V.topk(min(num_next, VOCAB_SIZE))
            steps.append(list(zip(top.indices.tolist(), top.values.tolist(), strict=True)))
        return steps

    limits = [13, 7, 11]
    with torch.no_grad():
        ours = search_beams(likely, limits, width=width, end_id=tiny_llama.token_rule.end_id)
    direct = Beam(width=width).decode(tiny_llama, prompts, limits)
    assert [text.token_ids for text in ours] == [text.token_ids for text in direct]
    assert asked[0] == len(prompts)
    assert sum(asked) <= width * sum(limits)
    longest = max(len(text.token_ids) for text in ours)
    assert len(asked) >= longest and sum(asked) >= width * (longest - 1)
