"""Results folders from Python: committed rows, read as they are asked for.

Owns: a folder as a data set of pyarrow, its rows as results. Must not know: how they came to be.
"""

import html
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from pyarrow.fs import FSSpecHandler, PyFileSystem

from orchestrator.results.ledger import EARLIER, SCHEMA, SCHEMA_VERSION, Ledger
from orchestrator.results.run_record import RunRecord, require_record
from orchestrator.storage.location import Location, connect, parse_location
from orchestrator.storage.protocol import RESULTS
from verbatim.errors import VerbatimError, in_python_words
from verbatim.results import Result, frame
from verbatim.shaped import shaped, shaped_batch, vectors_field

if TYPE_CHECKING:
    import pandas

WITHOUT_PROMPTS = [name for name in SCHEMA.names if name != "prompt"]
"""Prompts are most of a folder; they are read where they are asked for by name."""

BATCH, BATCH_BYTES = 1024, 16 << 20
"""Rows of a batch without prompts, bytes of the prompts of one with them."""

FORMAT = pads.ParquetFileFormat(
    default_fragment_scan_options=pads.ParquetFragmentScanOptions(
        page_checksum_verification=True, use_buffered_stream=True, buffer_size=1 << 20, pre_buffer=False
    )
)


class StoredResults:
    """The committed rows of a run's folder; none is read before it is asked for.

    Attributes:
        folder: where they lie.
        record: what `run.json` says: model, recipe, versions, counts.
    """

    def __init__(self, folder: Location):
        self.folder = folder
        self.record: RunRecord = require_record(folder)
        self._ledger = Ledger(folder)
        self._entries = [(entry["part"], entry["rows"]) for entry in self._ledger.entries()]

    @cached_property
    def dataset(self) -> pads.Dataset:
        """The committed parts as a data set of pyarrow, for DuckDB, polars and whatever else reads one.

        Prompts are flat in it, K * D numbers each; `batches` has them as vectors. It is of the parts that there are
        now: a run that ends merges them, and then the folder is to be opened again. Checksums of pages are verified;
        types are those of the schema. A folder begun by an earlier version has the columns that were renamed since
        under both names.
        """
        if isinstance(self.folder, Path):
            root, files = str(self.folder), None
        else:
            store, root = connect(self.folder)
            files = PyFileSystem(FSSpecHandler(store))
        paths = [f"{root}/{RESULTS}/{part}" for part, _ in self._entries]
        return pads.dataset(paths, schema=self._schema, format=FORMAT, filesystem=files)

    def batches(
        self, columns: Sequence[str] | None = None, *, filter: "pads.Expression | None" = None, rows: int | None = None
    ) -> pa.RecordBatchReader:
        """The rows a batch at a time, however many there are, for whatever reads Arrow's streams.

        Prompts, where they are among the columns, are lists of K vectors of D numbers each, one D for all.

        Args:
            columns: None is all but `prompt`.
            filter: an expression of pyarrow, for example `pyarrow.compute.field("exact")`.
            rows: of a batch, at most; None takes 1024, or as many as have 16 MiB of prompts.
        Raises:
            VerbatimError: no such column.
        """
        names = self._columns(columns)
        num_vectors, width = self._prompt_shape if "prompt" in names else (1, 1)
        rows = rows or max(1, min(BATCH, BATCH_BYTES // (4 * num_vectors * width)))
        scanner = self._scanner(
            names, filter, batch_size=rows, batch_readahead=1, fragment_readahead=1, use_threads=False
        )
        schema = pa.schema([vectors_field(width) if name == "prompt" else SCHEMA.field(name) for name in names])
        shaped_batches = (shaped_batch(batch, width, schema) for batch in scanner.to_batches() if len(batch))
        return pa.RecordBatchReader.from_batches(schema, shaped_batches)

    def to_arrow(self, columns: Sequence[str] | None = None, *, filter: "pads.Expression | None" = None) -> pa.Table:
        """A table of the rows; prompts, where they are among the columns, as lists of K vectors.

        Args:
            columns: None is all but `prompt`.
            filter: an expression of pyarrow, for example `pyarrow.compute.field("exact")`.
        Raises:
            VerbatimError: no such column.
        """
        names = self._columns(columns)
        asked = [*names, *(["hidden_size"] if "prompt" in names and "hidden_size" not in names else [])]
        return shaped(self._scanner(asked, filter).to_table()).select(names)

    def to_pandas(self, columns: Sequence[str] | None = None) -> "pandas.DataFrame":
        """A data frame of the rows; `prompt`, where it is among the columns, holds arrays of (K, D).

        Raises:
            VerbatimError: no such column, or pandas is not installed.
        """
        names = self._columns(columns)
        if "prompt" not in names:
            return frame(self.to_arrow(names).to_pylist())
        return frame([{name: getattr(result, name) for name in names} for result in self])

    def __iter__(self) -> Iterator[Result]:
        """Row after row, few in memory at a time.

        Raises:
            VerbatimError: a part is missing or damaged.
        """
        with in_python_words():
            for row in self._ledger.read():
                yield Result.of(row)

    def __getitem__(self, id: str) -> Result:
        """The row of a text, by its id.

        Raises:
            VerbatimError: no such row.
        """
        with in_python_words():
            return Result.of(self._ledger.read_id(id))

    def __len__(self) -> int:
        return sum(rows for _, rows in self._entries)

    def __repr__(self) -> str:
        return f"StoredResults({self.folder}: {len(self)} of {self.record.num_rows} rows, {self.record.state})"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self)[len('StoredResults(') : -1])}</p>"

    @cached_property
    def _prompt_shape(self) -> tuple[int, int]:
        """Vectors of the longest prompt among the first rows, and their width, which is the model's."""
        columns = ["num_vectors", "hidden_size"]
        first = self.dataset.head(BATCH, columns=columns, batch_size=BATCH, use_threads=False).to_pylist()
        shapes = [(row["num_vectors"], row["hidden_size"]) for row in first if row["num_vectors"]]
        return max(shapes, default=(1, self.record.model.hidden_size))

    @property
    def _schema(self) -> pa.Schema:
        """The parts' columns: today's, and where parts may be older what they were called then."""
        if self.record.schema_version >= SCHEMA_VERSION:
            return SCHEMA
        return pa.schema([*SCHEMA, *(SCHEMA.field(name).with_name(earlier) for name, earlier in EARLIER.items())])

    def _values(self, names: list[str]) -> "dict[str, pads.Expression]":
        """Where each column's values come from."""
        values = {name: pads.field(name) for name in names}
        for name in EARLIER.keys() & names if self._schema is not SCHEMA else ():
            # pyarrow makes its functions when it is imported, where no type checker sees them.
            values[name] = pc.coalesce(values[name], pads.field(EARLIER[name]))  # pyright: ignore[reportAttributeAccessIssue]
        return values

    def _scanner(self, names: list[str], filter: "pads.Expression | None", **how: Any) -> pads.Scanner:
        """What reads columns; an expression means them by their present names, so renaming comes before it."""
        if filter is None or self._schema is SCHEMA:
            return self.dataset.scanner(self._values(names), filter=filter, **how)
        every = list(dict.fromkeys([*names, *WITHOUT_PROMPTS]))
        renamed = self.dataset.scanner(self._values(every), **how).to_reader()
        return pads.Scanner.from_batches(renamed, columns=names, filter=filter, **how)

    def _columns(self, columns: Sequence[str] | None) -> list[str]:
        names = WITHOUT_PROMPTS if columns is None else [columns] if isinstance(columns, str) else list(columns)
        if unknown := [name for name in names if name not in SCHEMA.names]:
            raise VerbatimError(f"columns: no column {unknown[0]!r}; there are {', '.join(SCHEMA.names)}")
        return names


def load_results(folder: Any) -> StoredResults:
    """Open what `verbatim run` left in a folder, or under a URI of an object store.

    Rows that are not committed do not count; nothing is written.

    Raises:
        VerbatimError: no run's folder.
    """
    with in_python_words():
        return StoredResults(parse_location(str(folder), "folder"))
