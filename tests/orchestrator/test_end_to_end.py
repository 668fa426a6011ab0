"""The whole of it: the real command line on real Ray, from a corpus to proved rows and back."""

import json
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from engine import pocket
from orchestrator.proof.ladder import NOISE_SIGMAS, RUNGS
from orchestrator.results.ledger import SCHEMA, Ledger
from tests.orchestrator.made_up import flip_a_bit_of_the_prompts, noise_like
from verbatim import load_results

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SENTENCES = {
    "cat": "The cat sat on the mat.",
    "late": "It was late.",
    "dog": "A dog ran home through the rain.",
    "tea": "She made tea.",
    "sea": "  The sea\nwas grey. ",
}
ROWS = [{"id": id, "text": text} for id, text in SENTENCES.items()]
OTHERS = [{"id": "empty", "text": ""}, {"id": "null", "text": None}, {"id": "cat", "text": "Another cat."}]
SAID = SENTENCES | {"cat#7": "Another cat."}
STATUS = dict.fromkeys(SAID, "verified") | dict.fromkeys(["empty", "null"], "invalid")

SMALL = ("--set", "num_vectors=16", "--set", "max_steps=300", "--no-dashboard", "--engine", "hf")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, write_jsonl):
    return write_jsonl(tmp_path_factory.mktemp("corpus") / "corpus.jsonl", ROWS + OTHERS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus, verbatim):
    """A finished run's folder and what the command said. Shared: to be left as it is."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    return folder, verbatim("run", corpus, "--out", folder, *SMALL)


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished folder, to be damaged."""
    return shutil.copytree(finished[0], tmp_path / "copy")


def test_every_row_has_one_result_and_the_exit_code_tells_of_invalid_ones(finished):
    folder, outcome = finished
    assert outcome.code == 3, outcome
    assert "6 of 8 exact on hf" in outcome.out and "null: invalid, null_text" in outcome.out
    assert "row 7 has the id cat of an earlier row and is called cat#7" in " ".join(outcome.out.split())
    rows = list(Ledger(folder).read())
    assert len(rows) == len(ROWS + OTHERS)
    assert {row["id"]: row["status"] for row in rows} == STATUS
    assert sorted(row["row"] for row in rows) == list(range(8))


def test_verified_rows_are_complete_and_say_their_text(finished):
    recipe = json.loads((finished[0] / "run.json").read_text())["recipe"]
    for row in Ledger(finished[0]).read():
        if row["status"] == "invalid":
            assert row["prompt"] is None and row["exact"] is False and row["reason"]
            continue
        assert row["text"] == SAID[row["id"]]
        assert row["exact"] and row["generated_ids"] == row["token_ids"]
        assert row["first_mismatch"] == len(row["token_ids"]) and row["min_margin"] > 0
        assert len(row["prompt"]) == row["num_vectors"] * row["hidden_size"] and row["num_vectors"] == 16
        assert row["engine"].startswith("hf ") and row["engine_dtype"] == "float32"
        assert 0 < row["steps"] <= recipe["max_steps"] * row["attempts"]


def test_any_parquet_reader_sees_the_schema(finished):
    part = next((finished[0] / "results").iterdir())
    assert pq.read_schema(part).names == SCHEMA.names


def test_the_record_says_what_the_run_was_made_with(finished, corpus):
    record = json.loads((finished[0] / "run.json").read_text())
    assert record["state"] == "finished" and record["num_rows"] == 8
    assert record["corpus"] == str(corpus) and record["text_column"] == "text" and record["id_column"] == "id"
    assert record["counts"] == {"verified": 6, "invalid": 2}
    assert record["recipe"]["num_vectors"] == 16 and record["recipe"]["max_steps"] == 300
    assert {"torch", "transformers", "ray", "pyarrow"} <= set(record["versions"])
    rows = list(Ledger(finished[0]).read(["recipe_hash", "model_fingerprint"]))
    assert {row["recipe_hash"] for row in rows} == {record["recipe_hash"]}
    assert {row["model_fingerprint"] for row in rows} == {record["model"]["fingerprint"]}


def test_the_same_command_again_does_nothing_and_says_so(finished, corpus, verbatim, contents):
    folder, first = finished
    before = contents(folder)
    again = verbatim("run", corpus, "--out", folder, *SMALL)
    assert again.code == first.code and "is finished: 8 rows, nothing to do" in again.out
    assert contents(folder) == before


def as_of_version_4(part):
    table = pq.read_table(part)
    names = ["tokens" if name == "positions" else name for name in table.column_names]
    pq.write_table(table.rename_columns(names), part, write_page_checksum=True)


def test_an_interrupted_run_goes_on_without_touching_what_it_has(finished, corpus, verbatim, contents, tmp_path, capfd):
    folder = tmp_path / "interrupted"
    rows = list(Ledger(finished[0]).read())
    Ledger(folder).commit(rows[:4])
    as_of_version_4(folder / "results" / "part-00000.parquet")
    told = {"state": "interrupted", "counts": {}, "schema_version": 4}
    record = json.loads((finished[0] / "run.json").read_text()) | told
    (folder / "run.json").write_text(json.dumps(record))
    before = contents(folder)
    outcome = verbatim("run", corpus, "--out", folder, *SMALL)
    assert outcome.code == 3, outcome
    assert (outcome.err, *capfd.readouterr()) == ("", "", ""), "a line of Ray's, transformers' or of an actor's"
    after = contents(folder)
    assert after["results/part-00000.parquet"] == before["results/part-00000.parquet"]
    assert after["manifest.jsonl"].startswith(before["manifest.jsonl"])
    stored = list(Ledger(folder).read())
    assert {row["id"]: row["status"] for row in stored} == STATUS and len(stored) == 8
    for now, then in zip(stored[:4], rows[:4], strict=True):
        assert all(np.array_equal(now[name], then[name]) for name in then)
    assert load_results(folder).to_arrow(["positions"])["positions"].to_pylist() == [row["positions"] for row in stored]


def test_verify_with_beams_and_a_batch_size_says_so_and_changes_nothing(finished, verbatim, contents):
    folder = finished[0]
    before = contents(folder)
    outcome = verbatim("verify", folder, "--engine", "hf", "--beams", 3, "--batch-size", 2)
    assert "before: exact on hf" in outcome.out and "beam search of width 3" in outcome.out
    verdicts = json.loads(verbatim("verify", folder, "--engine", "hf", "--batch-size", 1, "--json").out)
    assert {verdict["id"]: verdict["exact"] for verdict in verdicts} == dict.fromkeys(SAID, True)
    assert contents(folder) == before


def test_the_ladder_is_climbed_into_a_file_outside_the_folder(finished, verbatim, contents, tmp_path):
    folder = finished[0]
    before = contents(folder)
    inside = verbatim("verify", folder, "--engine", "hf", "--ladder", "--out", folder / "proof.parquet")
    assert inside.code == 2 and "lies in the folder that is judged" in inside.err
    lost = verbatim("verify", folder, "--engine", "hf", "--ladder", "--out", tmp_path / "none" / "proof.parquet")
    assert lost.code == 2 and "its folder does not exist" in lost.err
    alone = verbatim("verify", folder, "--engine", "hf", "--out", tmp_path / "proof.parquet")
    assert alone.code == 2 and "give --ladder" in alone.err

    outcome = verbatim("verify", folder, "--engine", "hf", "--ladder", "--out", tmp_path / "proof.parquet")
    assert "rounded int8" in outcome.out and "noise withstood" in outcome.out
    table = pq.read_table(tmp_path / "proof.parquet")
    assert table.column_names == ["id", "min_margin", *(rung.name for rung in RUNGS), "noise_radius"]
    assert sorted(table["id"].to_pylist()) == sorted(SAID)
    withstood = {rung.name: table[rung.name].to_pylist() for rung in RUNGS}
    assert all(withstood["greedy_float32"]) and all(withstood["greedy_float32_alone"])
    greedy = [all(withstood[rung.name]) for rung in RUNGS if rung.mode.beams == 1]
    assert outcome.code == (0 if all(greedy) else 3)
    assert all(radius in (0, *np.float32(NOISE_SIGMAS)) for radius in table["noise_radius"].to_pylist())
    assert contents(folder) == before


def test_verify_proves_every_prompt_again_and_changes_nothing(finished, verbatim, contents):
    folder = finished[0]
    before = contents(folder)
    outcome = verbatim("verify", folder, "--engine", "hf")
    # Two rows hold no prompt, so not everything in this folder is proved.
    assert outcome.code == 0 and "6 of 6 stored prompts exact on hf" in outcome.out, outcome
    assert contents(folder) == before


def test_a_prompt_of_noise_is_not_exact_and_one_of_the_wrong_length_is_refused_alone(copy, verbatim):
    part, rows = part_of(copy, "dog")
    forged = next(row for row in rows if row["id"] == "dog")
    forged["prompt"] = noise_like(np.array([forged["prompt"]], dtype=np.float32))[0]
    rewrite(part, rows)
    part, rows = part_of(copy, "tea")
    next(row for row in rows if row["id"] == "tea")["prompt"].pop()
    rewrite(part, rows)
    outcome = verbatim("verify", copy, "--engine", "hf")
    assert outcome.code == 3 and "4 of 6 stored prompts exact" in outcome.out
    assert re.search(r"dog: \d+ of \d+ tokens right, then", outcome.out) and "tea: prompt shape" in outcome.out


def part_of(folder, id):
    """The part that holds a row, and its rows; a slow machine commits more of them."""
    for part in sorted((folder / "results").iterdir()):
        rows = pq.read_table(part).to_pylist()
        if any(row["id"] == id for row in rows):
            return part, rows
    raise AssertionError(f"{id}: in no part")


def rewrite(part, rows):
    pq.write_table(pq.read_table(part).from_pylist(rows, schema=SCHEMA), part)


def test_a_flipped_bit_in_a_prompt_is_refused_with_its_file(copy, verbatim):
    part, _ = part_of(copy, "cat")
    flip_a_bit_of_the_prompts(part)
    for verb in (("verify", copy, "--engine", "hf"), ("decode", copy, "--id", "cat")):
        outcome = verbatim(*verb)
        assert outcome.code == 2 and outcome.out == ""
        line = outcome.err.splitlines()[-1]  # verify reads as it goes: it has started Ray by then
        assert line.startswith("error: results part ") and f"{part.name}: damaged" in line


def test_a_run_does_not_go_on_over_a_damaged_part(copy, corpus, verbatim):
    record = json.loads((copy / "run.json").read_text()) | {"state": "interrupted"}
    (copy / "run.json").write_text(json.dumps(record))
    part, _ = part_of(copy, "cat")
    part.write_bytes(part.read_bytes()[:-100])
    outcome = verbatim("run", corpus, "--out", copy, *SMALL)
    assert outcome.code == 2 and outcome.out == "" and f"{part.name}: damaged" in outcome.err


def test_status_tells_state_and_counts(finished, verbatim):
    status = json.loads(verbatim("status", finished[0], "--json").out)
    assert status["state"] == "finished" and status["num_rows"] == status["num_committed"] == 8
    assert status["counts"] == {"verified": 6, "invalid": 2}
    plain = verbatim("status", finished[0])
    assert plain.code == 0 and ": finished\n8 of 8 rows committed (2 invalid, 6 verified)" in plain.out


def test_a_folder_is_refused_to_another_recipe(finished, corpus, verbatim, contents):
    before = contents(finished[0])
    outcome = verbatim("run", corpus, "--out", finished[0], *SMALL, "--set", "seed=1")
    assert outcome.code == 2 and "holds another run (seed: 0 -> 1)" in outcome.err
    assert contents(finished[0]) == before


def test_a_run_proves_beam_search_and_verify_says_which_rows_claim_it(finished, tmp_path, write_jsonl, verbatim):
    corpus, folder = write_jsonl(tmp_path / "one.jsonl", ROWS[1:2]), tmp_path / "run"
    outcome = verbatim("run", corpus, "--out", folder, *SMALL, "--set", "proof=beam")
    assert outcome.code == 0 and "1 of 1 exact on hf" in outcome.out, outcome
    assert "1 of them for beam search of any width" in outcome.out and "other texts: at least" in outcome.out
    for row in Ledger(folder).read():
        overrun = 8 / len(row["token_ids"]) * -row["log_prob"]
        assert row["proof"] == "beam" and row["beam_slack"] - overrun >= 0.5 > 0 > row["log_prob"]
    again = verbatim("verify", folder, "--engine", "hf", "--beams", 8)
    assert again.code == 0 and "1 of 1 claim beam search of any width; 1 of these hold" in again.out, again
    greedy = verbatim("verify", finished[0], "--engine", "hf", "--beams", 4)
    assert "0 of 6 claim beam search of any width; 0 of these hold" in greedy.out, greedy


@pytest.fixture
def far_sighted(tmp_path):
    """The pocket model with a context of 131,072 positions: a cache for one text of them would take 1.5 GiB."""
    folder = shutil.copytree(pocket.PATH, tmp_path / "far_sighted")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 131072}))
    return folder


@pytest.mark.vllm
def test_vllm_verifies_and_proves_again_with_room_for_the_texts_and_not_for_the_context(
    far_sighted, tmp_path, write_jsonl, verbatim, contents
):
    corpus, folder = write_jsonl(tmp_path / "four.jsonl", ROWS[:4]), tmp_path / "run"
    outcome = verbatim("run", corpus, "--model", far_sighted, "--out", folder, *SMALL, "--engine", "vllm")
    assert outcome.code == 0 and "4 of 4 exact on vllm" in outcome.out, outcome
    assert "anew" not in outcome.out, "one start of the verifier"
    model = json.loads((folder / "run.json").read_text())["model"]
    assert model["context"] == 131072 and 64 < model["served_length"] <= 32768
    assert all(row["exact"] and row["engine"].startswith("vllm ") for row in Ledger(folder).read())
    before = contents(folder)
    again = verbatim("verify", folder, "--engine", "vllm")
    assert again.code == 0 and "4 of 4 stored prompts exact on vllm" in again.out, again
    assert contents(folder) == before
