"""A verifier on its own: what it says does not depend on whether its process lives through it."""

import re
import threading
import time

import psutil
import pytest
import ray

from engine import pocket
from orchestrator.console.errors import FleetError
from orchestrator.console.progress import make_reporter
from orchestrator.fleet import workers
from orchestrator.fleet.verifier_actor import JUDGE_BATCH, EngineSpec
from orchestrator.proof.judge import Judge
from orchestrator.proof.ladder import RUNGS, climb, rounded
from orchestrator.verifiers.contract import Candidate
from tests.orchestrator.verifiers.test_contract import CONTEXT, pocket_lm, random_prompts, solved  # noqa: F401

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SPEC = EngineSpec("hf", str(pocket.PATH), None, "float32", CONTEXT)


@pytest.fixture(scope="module", autouse=True)
def connected():
    workers.connect(None, dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def many(solved, random_prompts):  # noqa: F811
    """More than two batches, exact and not exact ones mixed."""
    some = [*solved, *random_prompts]
    return [
        Candidate(f"{c.id}/{n}", c.prompt_KD, c.token_ids)
        for n in range(2 * JUDGE_BATCH // len(some) + 1)
        for c in some
    ]


def kill_the_engine() -> None:
    """As the system would: the actor's process, without warning."""
    (process,) = [
        p for p in psutil.Process().children(recursive=True) if p.is_running() and "VerifierActor" in p.cmdline()[0]
    ]
    process.kill()


def test_an_engine_killed_in_the_middle_of_a_batch_is_replaced_and_the_batch_judged_again(many):
    with Judge(SPEC, "calm") as judge:
        calm = judge.judge(many)
    assert {verdict.exact for verdict in calm} == {True, False}

    said, killed = [], []

    def kill_soon(num_judged: int) -> None:
        if num_judged == JUDGE_BATCH:
            killed.append(threading.Timer(0.2, kill_the_engine))
            killed[0].start()

    with Judge(SPEC, "killed", said.append) as judge:
        verdicts = judge.judge(many, on_progress=kill_soon)
    (told,) = said
    assert re.fullmatch(r"verifier-0 died \(its process was killed .*\); starting it anew \(2 of 4\)", told)
    assert verdicts == calm


def test_an_engine_that_keeps_dying_ends_in_an_error_and_no_verdict(many):
    stop = threading.Event()

    def keep_killing() -> None:
        while not stop.is_set():
            try:
                kill_the_engine()
            except (ValueError, psutil.Error, IndexError):
                pass
            time.sleep(0.05)

    killer = threading.Thread(target=keep_killing)
    with pytest.raises(FleetError, match=r"verifier-0 died \d times"), Judge(SPEC, "doomed") as judge:
        killer.start()
        try:
            judge.judge(many)
        finally:
            stop.set()
            killer.join()


def test_the_ladder_tells_for_every_prompt_what_it_withstood(solved, random_prompts, capsys):  # noqa: F811
    from rich.console import Console

    candidates = [solved[0], random_prompts[0]]
    proof = climb(candidates, [1.0, 0.0], SPEC, make_reporter(Console(), len(candidates)))
    assert list(proof.passed) == [rung.name for rung in RUNGS]
    assert proof.passed["greedy_float32"] == proof.passed["greedy_float32_alone"] == [True, False]
    assert not any(exact[-1] for exact in proof.passed.values())
    assert proof.noise_radius[-1] != proof.noise_radius[-1]
    assert [(low, num_prompts) for low, num_prompts, _ in proof.by_margin()] == [(0.0, 1), (1.0, 1)]
    assert not proof.is_all_exact()


def test_rounding_is_what_a_server_would_store(solved):  # noqa: F811
    prompt_KD = solved[0].prompt_KD
    for dtype, levels in (("bfloat16", None), ("float16", None), ("int8", 255)):
        served_KD = rounded(solved[0], dtype).prompt_KD
        assert served_KD.dtype == prompt_KD.dtype and served_KD.shape == prompt_KD.shape
        assert 0 < abs(served_KD - prompt_KD).max() < abs(prompt_KD).max() / 100
        assert (rounded(rounded(solved[0], dtype), dtype).prompt_KD == served_KD).all()
        if levels:
            assert all(len(set(row.tolist())) <= levels for row in served_KD)
