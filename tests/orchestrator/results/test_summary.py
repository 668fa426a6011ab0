"""The figures of a folder, as a person reads them."""

import io

from rich.console import Console

from orchestrator.results.ledger import Ledger
from orchestrator.results.summary import print_summary, print_table, summarise
from orchestrator.run.rows import result_row
from orchestrator.work.item import Item, State
from tests.orchestrator.made_up import ROW_CONTEXT, run_record, verified_item


def printed(folder, *spellings) -> str:
    """What is said of a folder of verified rows."""
    items = [verified_item(f"text {row}", row) for row in range(len(spellings))]
    rows = [
        result_row(item, ROW_CONTEXT) | {"spelling": spelling} for item, spelling in zip(items, spellings, strict=True)
    ]
    Ledger(folder).commit(rows)
    console = Console(file=io.StringIO(), width=200)
    print_summary(summarise(Ledger(folder), run_record(num_rows=len(rows))), console)
    return console.file.getvalue()


def test_texts_in_other_tokens_than_the_tokenizers_own_are_counted_in_one_line(tmp_path):
    said = printed(tmp_path, "plain", "as_written", "bytes", "as_written")
    (line,) = [line for line in said.splitlines() if "spelt" in line]
    assert line.endswith(": 2 as_written, 1 bytes")


def test_nothing_is_said_of_spellings_where_all_are_plain_or_from_before_there_was_a_choice(tmp_path):
    assert "spelt" not in printed(tmp_path, "plain", None)


def test_the_table_names_a_reason_and_the_lines_below_it_the_detail(tmp_path):
    refusal = "not_round_trippable: its tokens say 'ada' where the text says 'Ada'"
    row = result_row(Item(0, "a", "Ada", State.INVALID, reason=refusal), ROW_CONTEXT)
    Ledger(tmp_path).commit([row])
    console = Console(file=io.StringIO(), width=80)
    summary = summarise(Ledger(tmp_path), run_record(num_rows=1))
    print_table(summary.rows, console)
    assert "not_round_trippable\n" in "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
    print_summary(summary, console)
    assert f"a: invalid, {refusal}" in console.file.getvalue()
