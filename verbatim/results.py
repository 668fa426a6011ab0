"""Results in memory: one record a text, with the columns of a results folder as its fields.

Owns: what a result looks like, its short and its HTML form, tables of results. Must not know: how results came to be.

K soft-prompt vectors, D hidden size.
"""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa

from orchestrator.console.terminal import printable
from orchestrator.results.ledger import SCHEMA, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import stored_candidate
from orchestrator.storage.location import parse_location
from orchestrator.verifiers.contract import Mode
from verbatim.errors import VerbatimError, in_python_words
from verbatim.saving import save
from verbatim.shaped import shaped

if TYPE_CHECKING:
    import pandas

    from verbatim.proof import Engines, Proof

SHOWN_ROWS = 50
"""Texts that a notebook's table shows."""
SHOWN_CHARACTERS = 60


@dataclass(frozen=True)
class Result:
    """What became of one text; the fields are the columns of a results folder (docs/python.md lists them).

    Attributes:
        prompt: the soft prompt, (K, D) float32; None where nothing was optimised.
        exact: the verifying engine, decoding freely, emitted exactly the text's tokens.
        status: verified, rejected, unsolved, invalid or poisoned; `reason` says why it is not verified.
        min_margin: smallest gap between a target token and its best rival, logits.
        engine_margin: the same on the verifying engine, the true text before each token; of rejected texts too.
    """

    id: str
    row: int
    text: str | None
    token_ids: list[int] | None
    spelling: str | None
    status: str
    reason: str | None
    exact: bool
    text_exact: bool
    rung: str | None
    proof: str | None
    engine: str | None
    engine_dtype: str | None
    generated_ids: list[int] | None
    num_vectors: int | None
    hidden_size: int | None
    prompt: np.ndarray | None
    min_margin: float | None
    engine_margin: float | None
    log_prob: float | None
    beam_slack: float | None
    first_mismatch: int | None
    teacher_forced_nats: float | None
    token_accuracy: float | None
    seq_rep_4: float | None
    diagnosis: str | None
    steps: int
    positions: int
    attempts: int
    recipe_hash: str
    model_fingerprint: str
    solver_dtype: str
    seconds: float

    @classmethod
    def of(cls, row: Row) -> "Result":
        """From a row of the results, its prompt flat or shaped."""
        prompt = row["prompt"]
        if prompt is not None:
            prompt = np.asarray(prompt, dtype=np.float32).reshape(row["num_vectors"], row["hidden_size"])
        values: Row = row | {"prompt": prompt}
        return cls(**values)

    @property
    def is_exact(self) -> bool:
        """The same as `exact`: proved by the verifying engine."""
        return self.exact

    def __repr__(self) -> str:
        said = "exact" if self.exact else f"{self.status}, {self.reason}"
        facts = [said] if self.prompt is None else [said, f"{self.num_vectors} vectors", f"{self.steps} steps"]
        if self.min_margin is not None:
            facts.append(f"margin {self.min_margin:.2f}")
        return f"Result({self.id}: {', '.join(facts)}: {_short(self.text)})"

    def _repr_html_(self) -> str:
        return _table([self])


class Results(Sequence[Result]):
    """The results of one call, in the order of its texts.

    Args:
        rows: as the ledger has them, prompts flat.
        record: how they were made.
        engines: that can prove them once more.
    """

    def __init__(self, rows: list[Row], record: RunRecord, engines: "Engines"):
        self._rows = rows
        self.record = record
        self._engines = engines

    @cached_property
    def _results(self) -> list[Result]:
        return [Result.of(row) for row in self._rows]

    @property
    def num_exact(self) -> int:
        """Texts that the verifying engine said exactly."""
        return sum(result.exact for result in self._results)

    def verify(
        self, engine: str = "vllm", *, dtype: str | None = None, beams: int = 1, batch_size: int | None = None
    ) -> "Proof":
        """Decode every prompt that is exact once more, on another engine or in other numerics; changes nothing.

        Args:
            engine: `vllm`, in a process of its own that ends with the `Inverter` or with Python, or `hf`.
            dtype: the engine's numerics; None is what the texts were judged in.
            beams: width of a beam search; 1 is greedy.
            batch_size: most prompts decoded together; None leaves it to the engine.
        Raises:
            VerbatimError: no such engine, or it is not installed or cannot run the model.
        """
        from verbatim.proof import prove

        if beams < 1:
            raise VerbatimError(f"beams = {beams}: must be at least 1")
        exact = [row for row in self._rows if row["exact"]]
        with in_python_words():
            judging = self._engines.get(engine, dtype)
            candidates = [stored_candidate(row) for row in exact]
            return prove(exact, candidates, judging, Mode(beams, batch_size), len(self._rows) - len(exact))

    def save(self, folder: str | Path) -> None:
        """Write a results folder, as `verbatim run` does: `verbatim verify`, `decode`, `export` and `report` take it.

        Raises:
            VerbatimError: there is something in the folder.
        """
        with in_python_words():
            save(self._rows, self.record, parse_location(str(folder), "folder"))

    def to_arrow(self) -> pa.Table:
        """A table with the columns of a results folder; prompts are lists of K vectors of D numbers."""
        return shaped(pa.Table.from_pylist(self._rows, schema=SCHEMA))

    def to_pandas(self) -> "pandas.DataFrame":
        """A data frame, one row a text; `prompt` holds arrays of (K, D).

        Raises:
            VerbatimError: pandas is not installed.
        """
        return frame([vars(result) for result in self._results])

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> "Results": ...
    def __getitem__(self, index: int | slice) -> "Result | Results":
        return (
            self._results[index] if isinstance(index, int) else Results(self._rows[index], self.record, self._engines)
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Result]:
        return iter(self._results)

    def __repr__(self) -> str:
        return f"Results({self.num_exact} of {len(self)} exact)"

    def _repr_html_(self) -> str:
        more = f"<p>and {len(self) - SHOWN_ROWS} more</p>" if len(self) > SHOWN_ROWS else ""
        return f"<p>{self.num_exact} of {len(self)} exact</p>{_table(self._results[:SHOWN_ROWS])}{more}"


def frame(rows: list[dict[str, Any]]) -> "pandas.DataFrame":
    """Rows as a data frame with the ledger's columns, or those of them that the rows have.

    Raises:
        VerbatimError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise VerbatimError("to_pandas: needs pandas, which is not installed; pip install pandas") from None
    columns = [name for name in SCHEMA.names if not rows or name in rows[0]]
    return pandas.DataFrame.from_records(rows, columns=columns)


def _table(results: list[Result]) -> str:
    """A small HTML table; everything in it escaped."""
    head = "".join(f"<th>{name}</th>" for name in ("id", "text", "status", "vectors", "steps", "margin"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(map(_table_row, results))}</tbody></table>"


def _table_row(result: Result) -> str:
    margin = "" if result.min_margin is None else f"{result.min_margin:.2f}"
    status = "exact" if result.exact else f"{result.status}: {result.reason}"
    vectors = "" if result.num_vectors is None else str(result.num_vectors)
    cells = (result.id, _short(result.text), status, vectors, str(result.steps), margin)
    return f"<tr>{''.join(f'<td>{html.escape(printable(cell))}</td>' for cell in cells)}</tr>"


def _short(text: str | None) -> str:
    shown = printable(text)
    return shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[: SHOWN_CHARACTERS - 3]}..."
