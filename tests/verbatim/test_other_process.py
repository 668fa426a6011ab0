"""An engine in a process of its own: it says the same, its death is told, and it does not outlive its owner."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.model_source import ModelError
from orchestrator.console.errors import FleetError
from orchestrator.fleet.verifier_actor import EngineSpec, start_verifier
from orchestrator.verifiers.contract import Candidate
from verbatim.other_process import OtherProcess
from verbatim.proof import Engines


@pytest.fixture(scope="module")
def spec(tiny_folder):
    return EngineSpec("hf", str(tiny_folder("llama")), None, "float32", context=64)


@pytest.fixture(scope="module")
def candidates(spec):
    verifier = start_verifier(spec)
    prompt_KD = np.random.default_rng(0).standard_normal((3, verifier.hidden_size), np.float32)
    guess = Candidate("a", prompt_KD, (1, 2, 3))
    said = verifier.judge([guess])[0].generated_ids[:3]
    return [guess, replace(guess, id="b", token_ids=said)]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_it_judges_as_the_engine_does_here_and_its_death_is_told(spec, candidates):
    other = OtherProcess(spec, 1)
    assert other.judge(candidates) == start_verifier(spec).judge(candidates)
    assert [verdict.exact for verdict in other.judge(candidates)] == [False, True]
    other._child.kill()
    with pytest.raises(FleetError, match="engine='hf': its process died .exit code -9."):
        other.judge(candidates)
    assert not other.is_alive
    other.close()


def test_an_interrupt_ends_it_because_its_answer_would_come_late(spec, candidates, monkeypatch):
    other = OtherProcess(spec, 1)

    def interrupted(pipe):
        raise KeyboardInterrupt

    monkeypatch.setattr("verbatim.other_process._read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        other.judge(candidates)
    assert not other.is_alive
    other.close()
    other.close()


def test_what_keeps_an_engine_from_loading_is_said_in_its_own_words(spec):
    with pytest.raises(ModelError, match="no such folder"):
        OtherProcess(replace(spec, model="/nowhere/at-all"), 1)


def test_it_ends_with_its_owner_whatever_ends_that(spec):
    code = (
        "import os, signal; from orchestrator.fleet.verifier_actor import EngineSpec;"
        "from verbatim.other_process import OtherProcess;"
        f"other = OtherProcess(EngineSpec('hf', {spec.model!r}, None, 'float32', context=64), 1);"
        "print(other._child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    pid, until = int(run.stdout), time.monotonic() + 20
    while is_running(pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert run.returncode == -9 and not is_running(pid)


def test_engines_are_loaded_once_and_again_after_they_were_closed(spec):
    engines = Engines(spec)
    first = engines.get("hf")
    assert engines.get() is first and engines.get("hf", "bfloat16") is not first
    engines.close()
    assert engines.get("hf") is not first
