"""Models of several families, inverted by the solver and judged by engines that share no code with it."""

from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

import pytest

from orchestrator.verifiers.contract import Candidate, Verdict
from orchestrator.verifiers.hf_verifier import HfVerifier
from orchestrator.verifiers.vllm_verifier import VllmVerifier
from tests.engine.jobs import job_of, solve
from tests.tiny import CONTEXT, FAMILIES, NARROW, PICTURES

TEXTS = ("Ada!", "verb", "a b c")
VLLM_FAMILIES = ("gemma2", "gpt2", "llama", "opt")
"""Unlike each other; `bench/families.py` has all."""


@pytest.fixture(scope="module")
def candidates(tiny_lm):
    """Soft prompts of a family's tiny model, certified by the solver for every text."""

    def invert(family: str) -> list[Candidate]:
        lm = tiny_lm(family)
        attempts = solve(lm, *(job_of(lm, text, num_vectors=7) for text in TEXTS)).values()
        assert all(attempt.certificate.min_margin >= attempt.job.recipe.stop_margin for attempt in attempts)
        return [Candidate(a.job.target.id, a.prompt_KD.numpy(), a.job.target.token_ids) for a in attempts]

    return cache(invert)


@pytest.mark.parametrize("family", FAMILIES | NARROW | PICTURES)
def test_transformers_decodes_what_the_solver_certified(family, tiny_folder, candidates):
    verifier = HfVerifier(str(tiny_folder(family)), revision=None, dtype="float32", context=CONTEXT)
    verdicts = verifier.judge(candidates(family))
    assert [verdict.generated_ids for verdict in verdicts] == [c.token_ids for c in candidates(family)]
    assert all(verdict.exact for verdict in verdicts)


def judge_on_vllm(folder: str, candidates: list[Candidate]) -> list[Verdict]:
    return VllmVerifier(folder, revision=None, dtype="float32", context=CONTEXT).judge(candidates)


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("family", VLLM_FAMILIES)
def test_vllm_decodes_what_the_solver_certified(family, tiny_folder, candidates, monkeypatch):
    for name, value in {"OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}.items():
        monkeypatch.setenv(name, value)
    # A process of its own gives back all of vLLM's memory when it ends.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        verdicts = process.submit(judge_on_vllm, str(tiny_folder(family)), candidates(family)).result()
    assert [verdict.generated_ids for verdict in verdicts] == [c.token_ids for c in candidates(family)]
    assert all(verdict.exact for verdict in verdicts)
