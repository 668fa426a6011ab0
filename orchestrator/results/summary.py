"""What a results folder amounts to: counts, and the table a person reads.

Owns: figures over committed rows, their rendering. Must not know: how rows came to be.
"""

import math
import shlex
import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from engine.spelling import Spelling
from orchestrator.console.progress import clock
from orchestrator.console.terminal import cell, cut_off, one_line, say
from orchestrator.results.broke import Says, where_it_broke
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


@dataclass(frozen=True)
class Summary:
    """Figures of one folder.

    Attributes:
        record: what the folder was made with.
        rows: the committed rows without prompts, in corpus order.
    """

    record: RunRecord
    rows: list[Row]

    @property
    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row["status"]] = counts.get(row["status"], 0) + 1
        return counts

    @property
    def num_exact(self) -> int:
        return sum(bool(row["exact"]) for row in self.rows)

    @property
    def num_for_beams(self) -> int:
        """Rows proved for beam search of any width."""
        return sum(row["proof"] == "beam" for row in self.rows)

    @property
    def is_all_verified(self) -> bool:
        """Every row has the proof that was asked for."""
        num_proved = self.num_for_beams if self.record.recipe.proof == "beam" else self.num_exact
        return len(self.rows) == self.record.num_rows and num_proved == len(self.rows)


def summarise(ledger: Ledger, record: RunRecord) -> Summary:
    """Read the committed rows of a folder in corpus order, prompts left on disk."""
    return Summary(record, sorted(ledger.read(COLUMNS), key=lambda row: row["row"]))


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
    rows, record = summary.rows, summary.record
    verdict = f"{summary.num_exact} of {record.num_rows} exact on {record.engine} ({record.engine_dtype})"
    if record.recipe.proof == "beam":
        verdict += f", {summary.num_for_beams} of them for beam search of any width"
    say(console, verdict, "bold green" if summary.is_all_verified else "bold yellow")
    exact = [row for row in rows if row["exact"]]
    if exact:
        steps = [row["steps"] for row in exact]
        margins = [row["min_margin"] for row in exact]
        lines = (
            f"steps: mean {statistics.mean(steps):.0f}, median {statistics.median(steps):.0f}, most {max(steps)}; "
            f"attempts: {statistics.mean(row['attempts'] for row in exact):.2f} a text",
            f"margin: smallest {min(margins):.2f}, median {statistics.median(margins):.2f} logits",
        )
        for line in [*lines, *_beam_lines(exact)]:
            say(console, line)
    respelt = Counter(row["spelling"] for row in rows if row["spelling"] not in (None, Spelling.PLAIN))
    if respelt:
        say(console, _spellings(respelt))
    failed = [row for row in rows if row["diagnosis"] and not row["exact"]]
    if failed:
        say(console, _failures(failed))
    not_exact = [row for row in rows if not row["exact"]]
    for row in not_exact[:MOST_FAILURES]:
        told = [row["status"], where_it_broke(row, says), row["reason"]]
        say(console, one_line(f"{row['id']}: " + ", ".join(part for part in told if part)))
    if len(not_exact) > MOST_FAILURES:
        say(console, f"... and {len(not_exact) - MOST_FAILURES} more")


def print_end(summary: Summary, folder: str, seconds: float, console: Console) -> None:
    """How long the whole command took, where the results are, and what to do with them."""
    record = summary.record
    rate = f", {len(summary.rows) / record.seconds * 60:.0f} texts a minute" if record.seconds > 0 else ""
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
    failed = [row for row in summary.rows if not row["exact"] and row["status"] in ("unsolved", "rejected")]
    if failed:
        more = summary.record.recipe.max_steps * 4
        again = f"verbatim run --from {place} --set max_steps={more} --out {shlex.quote(folder.rstrip('/') + '-again')}"
        commands.append((again, f"the {len(failed)} that failed, with more steps"))
    shown = next(iter([*failed, *(row for row in summary.rows if row["exact"])]), None)
    if shown is not None:
        commands.append((f"verbatim decode {place} --id {shlex.quote(shown['id'])}", "what a prompt says, by token"))
    return commands


def to_json(summary: Summary, folder: str, seconds: float) -> dict[str, Any]:
    """The figures under their own names.

    Args:
        seconds: of the whole command.
    """
    record = summary.record
    exact = [row for row in summary.rows if row["exact"]]
    return {
        "folder": folder,
        "is_all_verified": summary.is_all_verified,
        "num_rows": record.num_rows,
        "num_exact": summary.num_exact,
        "counts": summary.counts,
        "engine": record.engine,
        "engine_dtype": record.engine_dtype,
        "steps_mean": statistics.mean(row["steps"] for row in exact) if exact else None,
        "margin_smallest": min((row["min_margin"] for row in exact), default=None),
        "seconds": round(seconds, 1),
        "seconds_in_loop": round(record.seconds, 1),
        "not_exact": [
            {name: row[name] for name in ("id", "status", "reason", "first_mismatch", "diagnosis")}
            for row in summary.rows
            if not row["exact"]
        ],
    }


def _beam_lines(rows: list[Row]) -> list[str]:
    """How far every other text is behind, and how often plain sampling says the target, where beams are proved."""
    proved = [row for row in rows if row["proof"] == "beam"]
    if not proved:
        return []
    slacks, chances = [row["beam_slack"] for row in proved], [math.exp(row["log_prob"]) for row in proved]
    return [
        f"other texts: at least {min(slacks):.2f} nats behind, median {statistics.median(slacks):.2f}",
        f"plain sampling says a text {min(chances):.0%} of the time at least, median {statistics.median(chances):.0%}",
    ]


def _failures(rows: list[Row]) -> str:
    """Teacher-forced loss beside free-running accuracy, and the kinds of failure."""
    kinds = Counter(row["diagnosis"] for row in rows)
    return (
        f"not exact: teacher-forced loss {statistics.mean(row['teacher_forced_nats'] for row in rows):.3f} nats, "
        f"free-running token accuracy {statistics.mean(row['token_accuracy'] for row in rows):.0%}; "
        + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    )


def _spellings(respelt: Counter[str]) -> str:
    """How many texts the tokenizer's own tokens do not say, and what was done about it."""
    kinds = ", ".join(f"{count} {spelling}" for spelling, count in respelt.most_common())
    return f"spelt in other tokens than the tokenizer's own, which say another text: {kinds}"


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
