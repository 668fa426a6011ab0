"""A verifying engine in a process of its own, so that what it does to its process harms no other.

Owns: starting it, asking it, ending it; both sides of the pipe. Must not know: which engine it is, solvers.

    python -m verbatim.other_process < questions > answers

vLLM sets threads, logging and signals of the process it lives in, and keeps its memory until that process ends. The
child ends when its standard input does, so it cannot outlive its owner.
"""

import os
import pickle
import struct
import subprocess
import sys
from typing import IO, Any

from orchestrator.console.errors import FleetError, UserError
from orchestrator.fleet.verifier_actor import EngineSpec, start_verifier
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict

LENGTH = struct.Struct("<Q")
END_S = 20.0
"""Seconds that an engine gets to end by itself."""


class OtherProcess:
    """An engine, loaded in a child process.

    Args:
        spec: which engine.
        num_threads: of it, on processors.
    Raises:
        UserError: the engine cannot be had; what it says.
        FleetError: the process died.
    """

    def __init__(self, spec: EngineSpec, num_threads: int):
        quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONWARNINGS": "ignore"}
        threads = {"OMP_NUM_THREADS": str(num_threads), "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._child = subprocess.Popen(
            [sys.executable, "-m", "verbatim.other_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | quiet | {"PYTHONPATH": paths} | (threads if spec.device == "cpu" else {}),
            start_new_session=True,  # Ctrl-C is for the owner, who then ends it
        )
        self._name = spec.engine
        try:
            self.engine: str = self._ask(spec)
        except BaseException:
            self.close()
            raise

    @property
    def is_alive(self) -> bool:
        return self._child.poll() is None

    def judge(self, candidates: list[Candidate], mode: Mode = GREEDY) -> list[Verdict]:
        """One verdict for each candidate, in order."""
        return self._ask((candidates, mode))

    def close(self) -> None:
        """End the process; a second call does nothing."""
        assert self._child.stdin and self._child.stdout
        try:
            self._child.stdin.close()
            self._child.wait(END_S)
        except (OSError, subprocess.TimeoutExpired):
            self._kill()
        self._child.stdout.close()

    def _ask(self, question: Any) -> Any:
        assert self._child.stdin and self._child.stdout
        try:
            _write(self._child.stdin, question)
            answer = _read(self._child.stdout)
        except (OSError, EOFError):
            self._kill()
            raise FleetError(f"engine={self._name!r}: its process died (exit code {self._child.returncode})") from None
        except BaseException:
            self._kill()  # the answer to a question that nobody waits for would be taken for the next one's
            raise
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _kill(self) -> None:
        self._child.kill()
        self._child.wait()


def _write(pipe: IO[bytes], value: Any) -> None:
    content = pickle.dumps(value)
    pipe.write(LENGTH.pack(len(content)) + content)
    pipe.flush()


def _read(pipe: IO[bytes]) -> Any:
    """Both ends are this program's own; nothing else writes to the pipe."""
    header = pipe.read(LENGTH.size)
    if len(header) < LENGTH.size:
        raise EOFError
    return pickle.loads(pipe.read(LENGTH.unpack(header)[0]))


def _serve() -> None:
    """Load the engine that the first question names, then judge until there are no more questions."""
    # Whatever an engine prints must not get among the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    try:
        spec: EngineSpec = _read(questions)
        verifier = start_verifier(spec)
        _write(answers, verifier.engine)
        while True:
            candidates, mode = _read(questions)
            _write(answers, verifier.judge(candidates, mode))
    except EOFError:
        return
    except Exception as error:
        _write(answers, error if isinstance(error, ValueError) else UserError(f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    _serve()
    os._exit(0)  # without the engine's farewells
