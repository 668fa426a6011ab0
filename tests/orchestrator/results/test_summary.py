"""The figures of a folder, as a person reads them."""

import io
import json

import pytest
from rich.console import Console

from engine.adaptation import Adaptation
from engine.recipe import Recipe
from orchestrator.results.broke import where_it_broke
from orchestrator.results.first_rows import FirstRows
from orchestrator.results.ledger import Ledger
from orchestrator.results.summary import print_end, print_summary, print_table, summarise, to_json
from orchestrator.run.rows import result_row
from orchestrator.work.item import Item, State
from tests.orchestrator.made_up import ROW_CONTEXT, attempt, job, run_record, verdict, verified_item


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


def test_where_auto_came_to_beams_a_row_without_their_proof_is_not_all_that_was_asked_for(tmp_path):
    Ledger(tmp_path).commit([result_row(verified_item("text 0", 0), ROW_CONTEXT)])
    left_open = run_record(num_rows=1).model_copy(update={"recipe": Recipe(proof="auto")})
    assert summarise(Ledger(tmp_path), left_open.model_copy(update={"adaptation": Adaptation()})).is_all_verified
    dear = left_open.model_copy(update={"adaptation": Adaptation(price=1.1)})
    assert not summarise(Ledger(tmp_path), dear).is_all_verified


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


def rows_that_failed():
    """One that the verifier decoded otherwise, one that was never solved."""
    rejected = verified_item("wrong", 0)
    rejected.state, rejected.verdict = State.REJECTED, verdict("wrong", exact=False)
    unsolved = verified_item("slow", 1)
    unsolved.state, unsolved.verdict, unsolved.attempt = State.UNSOLVED, None, attempt(job("slow"), is_solved=False)
    return [result_row(item, ROW_CONTEXT) for item in (rejected, unsolved)]


def said_of_failures(tmp_path, width=80):
    Ledger(tmp_path).commit(rows_that_failed())
    console = Console(file=io.StringIO(), width=width)
    summary = summarise(Ledger(tmp_path), run_record(num_rows=2))
    print_table(summary.rows, console, says=lambda ids: "".join(f"<{id}>" for id in ids))
    print_summary(summary, console, says=lambda ids: "".join(f"<{id}>" for id in ids))
    print_end(summary, "/runs/a b", 65.0, console)
    return summary, console.file.getvalue().splitlines()


def test_a_failure_says_how_far_it_came_and_what_came_then(tmp_path):
    _, lines = said_of_failures(tmp_path)
    assert "wrong: rejected, 2 of 5 tokens right, then cut off" in lines
    assert "slow: unsolved, 1 of 5 tokens right" in lines
    assert any("wrong" in line and "2 of 5, then cut off" in line for line in lines)
    assert max(map(len, lines[:3])) <= 80


def test_the_end_counts_the_whole_command_and_says_what_to_try_next(tmp_path):
    _, lines = said_of_failures(tmp_path)
    end = lines.index("1:05 in all; finding and proving took 0:05, 24 texts a minute")
    assert lines[end + 1] == "results: /runs/a b"
    assert [line.split("#")[0].strip() for line in lines[end + 2 :]] == [
        "next: verbatim report '/runs/a b'",
        "verbatim run --from '/runs/a b' --set max_steps=2000 --out '/runs/a b-again'",
        "verbatim decode '/runs/a b' --id wrong",
    ]


def test_json_has_the_same_figures(tmp_path):
    summary, _ = said_of_failures(tmp_path)
    told = json.loads(json.dumps(to_json(summary, "/runs/a", 65.0)))
    assert told["num_exact"] == 0 and told["seconds"] == 65.0 and told["counts"] == {"rejected": 1, "unsolved": 1}
    assert [(row["id"], row["first_mismatch"]) for row in told["not_exact"]] == [("wrong", 2), ("slow", 1)]


@pytest.mark.parametrize(
    ("said", "broke", "told"),
    [
        ([1, 2, 9], 2, "2 of 5 tokens right, then '<9>'"),
        ([1, 2, 0], 2, "2 of 5 tokens right, then it ends"),
        ([1, 2, 3, 4, 0], 5, "5 of 5 tokens right, then cut off"),
        (None, 1, "1 of 5 tokens right"),
    ],
)
def test_where_a_text_broke(said, broke, told):
    row = {"first_mismatch": broke, "token_ids": [1, 2, 3, 4, 0], "generated_ids": said}
    assert where_it_broke(row, lambda ids: "".join(f"<{id}>" for id in ids if id)) == told


def test_of_rows_in_any_order_the_first_of_the_corpus_are_shown(tmp_path):
    rows = [result_row(verified_item(f"text {row}", row), ROW_CONTEXT) for row in (7, 2, 9, 0)]
    kept = FirstRows(2)
    for row in rows:
        kept.add(row)
    assert [row["row"] for row in kept.rows] == [0, 2]
    Ledger(tmp_path).commit(rows)
    summary = summarise(Ledger(tmp_path), run_record(num_rows=4))
    assert [row["row"] for row in summary.rows] == [0, 2, 7, 9] and summary.num_rows == 4
    assert "prompt" not in summary.rows[0]
