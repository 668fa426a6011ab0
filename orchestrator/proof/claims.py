"""What a results folder claims to be exact, gone through as often as it is asked for, prompts never all in memory.

Owns: which rows are claims, reading them back. Must not know: engines that judge, what is made of verdicts.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from engine.model_source import ModelSource
from orchestrator.console.errors import UserError
from orchestrator.results import run_record
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord
from orchestrator.results.stored_prompt import stored_candidate
from orchestrator.sizing.room import need_of_stored
from orchestrator.sizing.sharing import Need
from orchestrator.storage.location import Location
from orchestrator.verifiers.contract import Candidate

COLUMNS = ["id", "token_ids", "prompt", "num_vectors", "hidden_size", "exact", "engine", "engine_dtype", "min_margin",
           "proof"]  # fmt: skip
COUNTED = ["token_ids", "num_vectors", "exact", "engine", "engine_dtype", "min_margin"]


@dataclass(frozen=True)
class Claims:
    """The claims of a folder: as long as they are many, and gone through in the order of the parts.

    Attributes:
        lengths: positions of each prompt with its target.
        margins: the stored smallest margin of each, logits.
        before: who said so first: engines and numerics of the stored verdicts.
        num_unproved: rows that claim nothing: invalid, unsolved, rejected.
    """

    record: RunRecord
    ledger: Ledger
    lengths: array
    margins: array
    before: list[str]
    num_unproved: int

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Candidate]:
        return map(stored_candidate, self.rows())

    def rows(self) -> Iterator[Row]:
        """Those claimed exact when these were read, with their prompts."""
        num_left = len(self)
        for row in self.ledger.read(COLUMNS):
            if num_left and row["exact"]:  # a run that goes on has more of them by now
                num_left -= 1
                yield row

    @cached_property
    def source(self) -> ModelSource:
        return ModelSource(self.record.model.name, self.record.model.revision)

    @property
    def need(self) -> Need:
        return need_of_stored(self.lengths)


def read_claims(folder: Location) -> Claims:
    """The rows of a folder that claim to be exact; their prompts stay on the disk.

    Raises:
        UserError: not a run's folder, no rows, damaged part.
    """
    record, ledger = run_record.require_record(folder), Ledger(folder)
    lengths, margins = array("q"), array("f")
    before, num_unproved = set(), 0
    for row in ledger.read(COUNTED):
        if not row["exact"]:
            num_unproved += 1
            continue
        lengths.append(row["num_vectors"] + len(row["token_ids"]))
        margins.append(row["min_margin"])
        before.add(f"{row['engine']} ({row['engine_dtype']})")
    if not lengths and not num_unproved:
        raise UserError(f"{folder}: no committed rows yet; let the run go on first")
    return Claims(record, ledger, lengths, margins, sorted(before), num_unproved)
