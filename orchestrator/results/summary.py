"""What a results folder amounts to: counts, and the table a person reads.

Owns: figures over committed rows, their rendering. Must not know: how rows came to be.
"""

import math
import shlex
import statistics
from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.spelling import Spelling
from orchestrator.console.progress import clock
from orchestrator.console.terminal import cell, cut_off, one_line, say
from orchestrator.results.broke import Says, where_it_broke
from orchestrator.results.first_rows import FirstRows
from orchestrator.results.ledger import Ledger, Row
from orchestrator.results.run_record import RunRecord

COLUMNS = ["id", "row", "text", "token_ids", "generated_ids", "status", "reason", "exact", "proof", "engine",
           "engine_dtype", "num_vectors", "min_margin", "log_prob", "beam_slack", "steps", "positions", "attempts",
           "first_mismatch", "teacher_forced_nats", "token_accuracy", "diagnosis", "spelling"]  # fmt: skip

WIDEST_ID = 20
"""Columns of the terminal that an id may take."""
OTHER_WIDTH = 36
"""Those of the figures and the gaps between all columns."""
NARROWEST_TEXT = 12

MOST_FAILURES = 20
"""Texts that are not exact and get a line of their own."""
SMALL_TABLE = 100
"""Rows up to which a finished run prints its table."""
MOST_LISTED = 10_000
"""Texts that are not exact and stand in the JSON."""


@dataclass
class Summary:
    """Figures of one folder, counted as its rows go by: some 40 bytes a row, however many there are.

    Attributes:
        record: what the folder was made with.
        counts: rows by status.
        num_exact: rows that the verifier said exactly.
        num_for_beams: rows proved for beam search of any width.
        num_again: failed rows that another run may try again.
        spellings: of rows in other tokens than the tokenizer's own.
        diagnoses: of rows that are not exact.
        attempts, nats, accuracy: sums, of the exact rows and of those with a diagnosis.
        steps, margins: of the exact rows.
        slacks, log_probs: of the rows proved for beams, nats.
        first: the first rows without prompts.
        not_exact: the first rows that are not exact.
        again, exact: the first of each.
    """

    record: RunRecord
    counts: Counter[str] = field(default_factory=Counter)
    num_exact: int = 0
    num_for_beams: int = 0
    num_again: int = 0
    spellings: Counter[str] = field(default_factory=Counter)
    diagnoses: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    nats: float = 0.0
    accuracy: float = 0.0
    steps: array = field(default_factory=lambda: array("q"))
    margins: array = field(default_factory=lambda: array("f"))
    slacks: array = field(default_factory=lambda: array("f"))
    log_probs: array = field(default_factory=lambda: array("f"))
    first: FirstRows = field(default_factory=lambda: FirstRows(SMALL_TABLE))
    not_exact: FirstRows = field(default_factory=lambda: FirstRows(MOST_LISTED))
    again: FirstRows = field(default_factory=lambda: FirstRows(1))
    exact: FirstRows = field(default_factory=lambda: FirstRows(1))

    @property
    def num_rows(self) -> int:
        """Committed."""
        return self.counts.total()

    @property
    def num_not_exact(self) -> int:
        return self.num_rows - self.num_exact

    @property
    def rows(self) -> list[Row]:
        """Of a small folder all rows in corpus order; of a larger one the first."""
        return self.first.rows

    @property
    def is_all_verified(self) -> bool:
        """Every row has the proof that was asked for."""
        num_proved = self.num_for_beams if self.record.proof == "beam" else self.num_exact
        return self.num_rows == self.record.num_rows and num_proved == self.num_rows

    def add(self, row: Row) -> None:
        """Count a row."""
        self.counts[row["status"]] += 1
        if row["spelling"] not in (None, Spelling.PLAIN):
            self.spellings[row["spelling"]] += 1
        self.first.add(row)
        if row["exact"]:
            self._add_exact(row)
        else:
            self._add_failed(row)

    def _add_exact(self, row: Row) -> None:
        self.num_exact += 1
        self.attempts += row["attempts"]
        self.steps.append(row["steps"])
        self.margins.append(row["min_margin"])
        self.exact.add(row)
        if row["proof"] == "beam":
            self.num_for_beams += 1
            self.slacks.append(row["beam_slack"])
            self.log_probs.append(row["log_prob"])

    def _add_failed(self, row: Row) -> None:
        self.not_exact.add(row)
        if row["status"] in ("unsolved", "rejected"):
            self.num_again += 1
            self.again.add(row)
        if row["diagnosis"]:
            self.diagnoses[row["diagnosis"]] += 1
            self.nats += row["teacher_forced_nats"]
            self.accuracy += row["token_accuracy"]


def summarise(ledger: Ledger, record: RunRecord) -> Summary:
    """Count the committed rows of a folder, prompts left on disk."""
    summary = Summary(record)
    for row in ledger.read(COLUMNS):
        summary.add(row)
    return summary


def print_table(rows: list[Row], console: Console, says: Says | None = None) -> None:
    """One line a text: what was asked, what it took, what the verifier said."""
    verdicts = [_verdict(row, says) for row in rows]
    widest_id = min(WIDEST_ID, max((cell(row["id"]).cell_len for row in rows), default=0))
    widest_verdict = max((verdict.cell_len for verdict in verdicts), default=0)
    room = console.width - OTHER_WIDTH - widest_id - max(widest_verdict, len("verdict"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True, overflow=cut_off(console), max_width=widest_id)
    table.add_column("text", no_wrap=True, overflow=cut_off(console), max_width=max(NARROWEST_TEXT, room))
    for name in ("tokens", "vectors", "steps", "margin"):
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    table.add_column("verdict", no_wrap=True, overflow=cut_off(console))
    for row, verdict in zip(rows, verdicts, strict=True):
        num_tokens = len(row["token_ids"]) if row["token_ids"] is not None else None
        table.add_row(
            cell(row["id"]), cell(row["text"]), _cell(num_tokens), _cell(row["num_vectors"]), _cell(row["steps"]),
            _cell(row["min_margin"], ".2f"), verdict,
        )  # fmt: skip
    console.print(table)


def print_summary(summary: Summary, console: Console, says: Says | None = None) -> None:
    """The figures in a few lines."""
    record = summary.record
    verdict = f"{summary.num_exact} of {record.num_rows} exact on {record.engine} ({record.engine_dtype})"
    if record.proof == "beam":
        verdict += f", {summary.num_for_beams} of them for beam search of any width"
    say(console, verdict, "bold green" if summary.is_all_verified else "bold yellow")
    for line in [*_exact_lines(summary), *_beam_lines(summary), *_spelling_lines(summary), *_failure_lines(summary)]:
        say(console, line)
    for row in summary.not_exact.rows[:MOST_FAILURES]:
        told = [row["status"], where_it_broke(row, says), row["reason"]]
        say(console, one_line(f"{row['id']}: " + ", ".join(part for part in told if part)))
    if summary.num_not_exact > MOST_FAILURES:
        say(console, f"... and {summary.num_not_exact - MOST_FAILURES} more")


def print_end(summary: Summary, folder: str, seconds: float, console: Console) -> None:
    """How long the whole command took, where the results are, and what to do with them."""
    record = summary.record
    rate = f", {summary.num_rows / record.seconds * 60:.0f} texts a minute" if record.seconds > 0 else ""
    say(console, f"{clock(seconds)} in all; finding and proving took {clock(record.seconds)}{rate}")
    say(console, f"results: {folder}")
    commands = next_commands(summary, folder)
    widest = max(len(command) for command, _ in commands)
    for number, (command, what) in enumerate(commands):
        say(console, f"{'      ' if number else 'next: '}{command.ljust(min(widest, 44))}  # {what}")


def next_commands(summary: Summary, folder: str) -> list[tuple[str, str]]:
    """What one does with results like these, and what it is for."""
    place = shlex.quote(folder)
    commands = [(f"verbatim report {place}", "figures and every text, in a browser")]
    if summary.num_again:
        more = summary.record.recipe.max_steps * 4
        again = f"verbatim run --from {place} --set max_steps={more} --out {shlex.quote(folder.rstrip('/') + '-again')}"
        commands.append((again, f"the {summary.num_again} that failed, with more steps"))
    if shown := next(iter([*summary.again.rows, *summary.exact.rows]), None):
        commands.append((f"verbatim decode {place} --id {shlex.quote(shown['id'])}", "what a prompt says, by token"))
    return commands


def to_json(summary: Summary, folder: str, seconds: float) -> dict[str, Any]:
    """The figures under their own names.

    Args:
        seconds: of the whole command.
    """
    record, steps = summary.record, summary.steps
    return {
        "folder": folder,
        "is_all_verified": summary.is_all_verified,
        "num_rows": record.num_rows,
        "num_exact": summary.num_exact,
        "counts": dict(summary.counts),
        "engine": record.engine,
        "engine_dtype": record.engine_dtype,
        "steps_mean": statistics.mean(steps) if steps else None,
        "margin_smallest": min(summary.margins, default=None),
        "seconds": round(seconds, 1),
        "seconds_in_loop": round(record.seconds, 1),
        "num_not_exact": summary.num_not_exact,
        "not_exact": [
            {name: row[name] for name in ("id", "status", "reason", "first_mismatch", "diagnosis")}
            for row in summary.not_exact.rows
        ],
    }


def _exact_lines(summary: Summary) -> list[str]:
    steps, margins = summary.steps, summary.margins
    if not steps:
        return []
    return [
        f"steps: mean {statistics.fmean(steps):.0f}, median {statistics.median(steps):.0f}, most {max(steps)}; "
        f"attempts: {summary.attempts / summary.num_exact:.2f} a text",
        f"margin: smallest {min(margins):.2f}, median {statistics.median(margins):.2f} logits",
    ]


def _beam_lines(summary: Summary) -> list[str]:
    """How far every other text is behind, and how often plain sampling says the target, where beams are proved."""
    if not summary.slacks:
        return []
    slacks, chances = summary.slacks, [math.exp(log_prob) for log_prob in summary.log_probs]
    return [
        f"other texts: at least {min(slacks):.2f} nats behind, median {statistics.median(slacks):.2f}",
        f"plain sampling says a text {min(chances):.0%} of the time at least, median {statistics.median(chances):.0%}",
    ]


def _failure_lines(summary: Summary) -> list[str]:
    """Teacher-forced loss beside free-running accuracy, and the kinds of failure."""
    if not (num_failed := summary.diagnoses.total()):
        return []
    return [
        f"not exact: teacher-forced loss {summary.nats / num_failed:.3f} nats, "
        f"free-running token accuracy {summary.accuracy / num_failed:.0%}; "
        + ", ".join(f"{count} {kind}" for kind, count in summary.diagnoses.most_common())
    ]


def _spelling_lines(summary: Summary) -> list[str]:
    """How many texts the tokenizer's own tokens do not say, and what was done about it."""
    if not summary.spellings:
        return []
    kinds = ", ".join(f"{count} {spelling}" for spelling, count in summary.spellings.most_common())
    return [f"spelt in other tokens than the tokenizer's own, which say another text: {kinds}"]


def _cell(value: float | int | None, form: str = "d") -> str:
    return "-" if value is None else format(value, form)


def _verdict(row: Row, says: Says | None) -> Text:
    if row["exact"]:
        return cell("exact", "green")
    if row["engine"]:
        return cell(where_it_broke(row, says, is_short=True), "red")
    if (broke := where_it_broke(row, is_short=True)) is not None:
        return cell(f"{row['status']}, {broke}", "yellow")
    # The detail behind a reason is in the lines below the table.
    return cell((row["reason"] or row["status"]).partition(": ")[0], "yellow")
