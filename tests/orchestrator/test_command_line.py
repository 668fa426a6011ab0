"""Bad input on the command line: exit code 2, one line that names value and remedy, nothing written."""

import errno
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from safetensors.torch import load_file, save_file

from engine import pocket
from tests.orchestrator.made_up import run_record

TEXT = "The cat sat on the mat."


@pytest.fixture
def corpus(tmp_path, write_jsonl):
    return write_jsonl(tmp_path / "corpus.jsonl", [{"id": "a", "text": TEXT}])


@pytest.fixture
def refused(tmp_path, verbatim):
    """Run a command that must be refused: its one line, `error: ` taken off."""
    out = tmp_path / "out"

    def run(*args):
        before = sorted(tmp_path.rglob("*"))
        outcome = verbatim(*args, *(["--out", out] if args[0] == "run" and "--out" not in args else []))
        lines = outcome.err.splitlines()
        assert (outcome.code, outcome.out, len(lines)) == (2, "", 1), outcome
        assert lines[0].startswith("error: ")
        assert sorted(tmp_path.rglob("*")) == before
        return lines[0].removeprefix("error: ")

    return run


def test_a_missing_corpus(refused, tmp_path):
    line = refused("run", tmp_path / "nowhere.parquet")
    assert "nowhere.parquet: no such file; give a .parquet" in line


def test_a_wrong_column(refused, corpus):
    assert "--text-column txt:" in (line := refused("run", corpus, "--text-column", "txt"))
    assert "did you mean text?" in line
    assert "--id-column idd:" in refused("run", corpus, "--id-column", "idd")


def test_a_corrupt_parquet_file(refused, tmp_path):
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"text": [TEXT]}), path)
    path.write_bytes(path.read_bytes()[:-9])
    assert "corpus.parquet: not a readable PARQUET file" in refused("run", path)


def test_a_corpus_without_any_target(refused, tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "empty.jsonl", [{"text": ""}])
    assert "none of its 1 rows can be a target; row 0 is empty" in refused("run", path)


def test_a_text_longer_than_the_context(refused, tmp_path, write_jsonl):
    path = write_jsonl(tmp_path / "long.jsonl", [{"text": TEXT * 1024}])
    line = refused("run", path)
    assert "row 0 is too_long" in line and "context of 1024; cut the text, lower num_vectors" in line


@pytest.mark.parametrize(("key", "near"), [("optim.lrr=1", "optim.lr"), ("num_vector=3", "num_vectors")])
def test_an_unknown_recipe_key_on_the_command_line(refused, corpus, key, near):
    line = refused("run", corpus, "--set", key)
    assert line == f"recipe key {key.partition('=')[0]}: unknown; the nearest valid key is {near}"


def test_an_unknown_recipe_key_in_a_file(refused, corpus, tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("[loss]\nmargn = 2.0\n")
    assert "loss.margn: unknown; the nearest valid key is loss.margin" in refused("run", corpus, "--recipe", recipe)


@pytest.mark.parametrize("content", [None, b"loss = = 2", b"\xff\xfe"])
def test_a_recipe_file_that_is_missing_or_damaged(refused, corpus, tmp_path, content):
    recipe = tmp_path / "recipe.toml"
    if content is not None:
        recipe.write_bytes(content)
    assert f"--recipe {recipe}: " in refused("run", corpus, "--recipe", recipe)


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many"])
def test_a_number_of_vectors_below_one_or_not_whole(refused, corpus, value):
    line = refused("run", corpus, "--set", f"num_vectors={value}")
    assert line.startswith("num_vectors = ") and value in line


def test_more_vectors_than_the_context_holds(refused, corpus):
    assert "num_vectors = 1024: leaves no room" in refused("run", corpus, "--set", "num_vectors=1024")


def test_a_value_out_of_range(refused, corpus):
    assert refused("run", corpus, "--set", "optim.lr=-1").startswith("optim.lr = -1: ")
    assert refused("run", corpus, "--set", "stop_margin=90").startswith("loss.margin = ")
    assert refused("run", corpus, "--set", "seed").startswith("--set seed: must be key=value")


def test_an_unknown_engine_or_dtype(refused, corpus):
    assert refused("run", corpus, "--engine", "vlm") == "--engine vlm: must be one of vllm, hf"
    assert "--dtype fp32: must be one of float32" in refused("run", corpus, "--dtype", "fp32")
    assert "--verify-dtype fp8: must be one of float32" in refused("run", corpus, "--verify-dtype", "fp8")


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_a_model_folder_without_configuration_or_weights(refused, corpus, tmp_path, missing):
    model = tmp_path / "model"
    shutil.copytree(pocket.PATH, model, ignore=shutil.ignore_patterns(missing))
    line = refused("run", corpus, "--model", model)
    assert f"--model {model}: no " in line and missing.removeprefix("model") in line


def test_a_model_that_is_nowhere(refused, corpus, tmp_path):
    assert "--model" in refused("run", corpus, "--model", tmp_path / "nowhere")


def test_a_model_that_lacks_a_weight_is_refused_before_anything_is_started(refused, corpus, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(pocket.PATH, model)
    held = load_file(model / "model.safetensors")
    held.pop("model.layers.1.mlp.up_proj.weight")
    save_file(held, model / "model.safetensors", metadata={"format": "pt"})
    line = refused("run", corpus, "--model", model)
    assert f"--model {model}: the checkpoint lacks 1 of the weights" in line and "layers.1.mlp.up_proj" in line
    assert not ray.is_initialized()


def test_an_output_folder_of_another_run(refused, corpus, tmp_path):
    folder = tmp_path / "earlier"
    run_record(corpus=str(corpus)).write(folder)
    line = refused("run", corpus, "--out", folder, "--set", "seed=7")
    assert "holds another run (seed: 0 -> 7); choose another folder" in line


def test_an_output_folder_of_another_column(refused, corpus, tmp_path):
    folder = tmp_path / "earlier"
    run_record(corpus=str(corpus)).write(folder)
    line = refused("run", corpus, "--out", folder, "--text-column", "id")
    assert "holds another run (text_column: text -> id)" in line


def test_an_output_folder_that_is_not_a_runs(refused, corpus, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert f"--out {folder}: not empty and not a run's folder" in refused("run", corpus, "--out", folder)
    assert "notes.txt: is a file" in refused("run", corpus, "--out", folder / "notes.txt")


@pytest.mark.parametrize("args", [("verify",), ("status",), ("decode", "--id", "a")], ids=lambda args: args[0])
def test_a_folder_that_is_not_a_runs(refused, tmp_path, args):
    verb, *rest = args
    assert f"{tmp_path}: no run.json there; give the --out folder of a run" in refused(verb, tmp_path, *rest)


def test_a_run_without_rows(refused, tmp_path):
    run_record().write(tmp_path / "run")
    assert "no committed rows yet" in refused("verify", tmp_path / "run", "--engine", "hf")
    assert "--id a: " in refused("decode", tmp_path / "run", "--id", "a")


def test_what_verify_and_decode_do_not_know(refused, tmp_path):
    assert refused("verify", tmp_path, "--engine", "x") == "--engine x: must be one of vllm, hf"
    assert "--dtype int8: must be one of" in refused("verify", tmp_path, "--dtype", "int8")
    assert refused("decode", tmp_path, "--id", "a", "--strategy", "sampling").startswith("--strategy sampling: ")
    assert "--dtype int8: must be one of" in refused("decode", tmp_path, "--id", "a", "--dtype", "int8")


def test_a_place_that_cannot_be_a_folder(refused, corpus, tmp_path, verbatim):
    assert f"{corpus} is a file; choose a folder" in refused("run", corpus, "--out", corpus / "sub")
    for verb in (("run", corpus), ("export", tmp_path)):
        assert refused(*verb, "--out", "") == "--out: is empty; give a path or a URI"
    assert "an export is a folder on a disk" in refused("export", tmp_path, "--out", "s3://bucket/x")
    assert refused("run", "") == "CORPUS: is empty; give a path or a URI"


@pytest.mark.parametrize("flag", [("--beams", 4), ("--batch-size", 1)], ids=lambda flag: flag[0])
def test_flags_that_the_ladder_would_ignore(refused, tmp_path, flag):
    assert refused("verify", tmp_path, "--ladder", *flag).startswith(f"{flag[0]}: the ladder has rungs of its own")


HOSTILE = "\x1b[2J\x07\u202e../../etc"


@pytest.mark.parametrize(("args", "flag"), [
    (("status", "DIR", "--port", 0), "--port"), (("report", "DIR", "--port", 0), "--port"),
    (("status", "DIR", "--serve", "--json"), "--json"), (("report", "DIR", "--serve", "--margins"), "--margins"),
], ids=lambda value: value if isinstance(value, str) else None)  # fmt: skip
def test_flags_that_a_page_or_its_absence_would_ignore(refused, sayings, args, flag):
    assert refused(*(sayings if arg == "DIR" else arg for arg in args)).startswith(f"{flag}: ")


def test_how_csv_is_quoted_is_no_question_where_there_is_none(refused, corpus):
    assert refused("run", corpus, "--csv-quotes", "none") == (
        f"--csv-quotes none: {corpus} is neither CSV nor TSV; leave it away"
    )


def test_what_a_terminal_would_act_on_is_spelled_out(refused, corpus, tmp_path, write_jsonl):
    spelled = r"\x1b[2J\x07\u202e../../etc"
    assert spelled in refused("run", corpus, "--text-column", HOSTILE)
    assert spelled in refused("run", corpus, "--set", f"seed={HOSTILE}").replace("\\\\", "\\")
    assert spelled in refused("run", write_jsonl(tmp_path / "keys.jsonl", [{HOSTILE: "a"}]))
    run_record().write(tmp_path / "run")
    assert spelled in refused("decode", tmp_path / "run", "--id", HOSTILE)


def test_a_message_is_short_however_long_the_value(refused, corpus, tmp_path):
    run_record().write(tmp_path / "run")
    for args in (("run", corpus, "--text-column"), ("decode", tmp_path / "run", "--id"), ("run", corpus, "--set")):
        assert len(refused(*args, "a" * 100_000 + "=1")) <= 1000


def test_a_full_disk_is_one_line(verbatim, tmp_path, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "part"))

    monkeypatch.setattr("orchestrator.results.status.read_status", no_room)
    outcome = verbatim("status", tmp_path)
    assert outcome.code == 2
    assert (
        outcome.err
        == f"error: No space left on device ({tmp_path}/part); make room, then the same command goes on from here\n"
    )


def test_a_place_that_may_not_be_written_is_one_line(refused, corpus, tmp_path, monkeypatch):
    def not_ours(*_):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "run.json"))

    monkeypatch.setattr("orchestrator.results.status.read_status", not_ours)
    assert refused("status", tmp_path) == f"Permission denied ({tmp_path}/run.json); choose another place"
    long = "a" * 256
    assert "File name too long" in refused("run", corpus, "--out", tmp_path / long)
    assert f"{long}: File name too long; give another path" in refused("run", tmp_path / long)
