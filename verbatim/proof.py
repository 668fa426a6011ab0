"""Proofs: verifying engines that are loaded when first asked for, and what they say of results.

Owns: which engines are loaded here, when they end. Must not know: solvers, how prompts were found.
"""

import atexit
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

from engine.frozen_lm import DTYPES
from engine.loading import no_progress_bars
from orchestrator.console.errors import UserError
from orchestrator.fleet.verifier_actor import ENGINES, EngineSpec, start_verifier
from orchestrator.proof.tally import Tally
from orchestrator.verifiers.contract import GREEDY, Candidate, Mode, Verdict
from verbatim.other_process import OtherProcess

_LOADED: "weakref.WeakSet[Engines]" = weakref.WeakSet()


class Judging(Protocol):
    """What judges candidates, wherever it is."""

    engine: str

    def judge(self, candidates: list[Candidate], mode: Mode = GREEDY) -> list[Verdict]: ...


class Engines:
    """Engines on one model, each loaded once.

    `hf` lives in this process; `vllm` has one of its own.

    Args:
        spec: model, numerics and room; engine and numerics are replaced by what is asked for.
    """

    def __init__(self, spec: EngineSpec):
        self.spec = spec
        self._loaded: dict[tuple[str, str], Judging] = {}
        _LOADED.add(self)

    def get(self, engine: str | None = None, dtype: str | None = None) -> Judging:
        """An engine, loaded if it is not yet.

        Raises:
            UserError: no such engine or numerics, or it cannot be had.
        """
        engine, dtype = engine or self.spec.engine, dtype or self.spec.dtype
        if engine not in ENGINES:
            raise UserError(f"--engine {engine}: must be one of {', '.join(ENGINES)}")
        if dtype not in DTYPES:
            raise UserError(f"--dtype {dtype}: must be one of {', '.join(DTYPES)}")
        loaded = self._loaded.get((engine, dtype))
        if loaded is None or (isinstance(loaded, OtherProcess) and not loaded.is_alive):
            spec = replace(self.spec, engine=engine, dtype=dtype)
            with no_progress_bars():
                loaded = OtherProcess(spec, os.cpu_count() or 1) if engine == "vllm" else start_verifier(spec)
            self._loaded[engine, dtype] = loaded
        return loaded

    def close(self) -> None:
        """End what was loaded; what is asked for afterwards is loaded anew."""
        loaded, self._loaded = self._loaded, {}
        for judging in loaded.values():
            if isinstance(judging, OtherProcess):
                judging.close()


@atexit.register
def _close_all() -> None:
    for engines in list(_LOADED):
        engines.close()


@dataclass(frozen=True)
class Proof:
    """What an engine said when it decoded every prompt that was exact once more: a sequence of verdicts.

    A verdict has `id`, `exact`, `generated_ids`, `first_mismatch`, `engine`, `engine_dtype`, `refusal`.

    Attributes:
        verdicts: one for each of these prompts.
        margins: the stored smallest margin of each, logits.
        num_unproved: texts that were not exact.
        before: who said so first: engines and numerics.
        mode: how the prompts were decoded this time.
    """

    verdicts: list[Verdict]
    margins: list[float]
    num_unproved: int
    before: list[str]
    mode: Mode = GREEDY

    @property
    def num_exact(self) -> int:
        """Prompts that said their text this time."""
        return sum(verdict.exact for verdict in self.verdicts)

    @property
    def is_all_exact(self) -> bool:
        """Every prompt that was exact is so again, and there is one."""
        return 0 < len(self.verdicts) == self.num_exact

    def survival(self) -> list[tuple[float, int, int]]:
        """(lower edge of margin, exact, judged) for each bin that has any."""
        tally = Tally()
        for margin, verdict in zip(self.margins, self.verdicts, strict=True):
            tally.add({"min_margin": margin, "proof": None, "token_ids": None, "first_mismatch": None}, verdict)
        return tally.survival()

    def __len__(self) -> int:
        return len(self.verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __getitem__(self, index: int) -> Verdict:
        return self.verdicts[index]

    def __bool__(self) -> bool:
        """Whether there was something to prove and all of it holds."""
        return self.is_all_exact

    def __repr__(self) -> str:
        if not self.verdicts:
            return f"Proof(nothing to prove: none of {self.num_unproved} texts was exact)"
        first, beams = self.verdicts[0], f", beams of {self.mode.beams}" if self.mode.beams > 1 else ""
        return f"Proof({self.num_exact} of {len(self)} exact on {first.engine} ({first.engine_dtype}{beams}))"


def prove(rows: list[dict[str, Any]], candidates: list[Candidate], judging: Judging, mode: Mode, others: int) -> Proof:
    """Decode prompts that were exact anew.

    Args:
        rows: of these prompts.
        candidates: the prompts, in the same order.
        others: texts that were not exact.
    """
    verdicts = judging.judge(candidates, mode) if candidates else []
    before = sorted({f"{row['engine']} ({row['engine_dtype']})" for row in rows})
    return Proof(verdicts, [row["min_margin"] for row in rows], others, before, mode)
