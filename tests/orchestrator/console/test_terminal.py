"""What reaches a terminal: nothing that it would act on, whoever wrote it, and nothing that it cannot show."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from engine import pocket
from orchestrator.console.progress import make_reporter
from orchestrator.console.terminal import Streamed, make_console, printable, say, say_json
from orchestrator.proof.ladder import Proof, print_proof
from orchestrator.proof.tally import Tally, print_tally
from orchestrator.results.ledger import SCHEMA, Ledger
from orchestrator.results.run_log import RunLog
from orchestrator.verifiers.contract import Mode
from tests.orchestrator.made_up import verdict
from tune_spaces.cli import app

CLIPBOARD = "\x1b]52;c;cm0gLXJmIC8=\x07"
LINK = "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\"
HOSTILE = f"{CLIPBOARD}{LINK}\x9b2J\x7f\u202e[/][red]:skull:[link=x]é雨"
"""What a terminal would act on, what rich would, and what some terminals cannot show."""


def is_harmless(said):
    """Whether nothing but line ends lies outside what prints; markup and emoji names are as they were."""
    return all(c == "\n" or c.isprintable() for c in said) and "\N{SKULL}" not in said


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, sayings):
    """A finished run's folder in which every string that can be is hostile, under a hostile name, and its corpus."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE.replace("/", "|")
    (folder / "results").mkdir(parents=True)
    (folder / "model").symlink_to(pocket.PATH)
    texts = {f"{name}{HOSTILE}": f"{name} {HOSTILE}" for name in ("door", "sea", "odd", "nothing")}
    corpus = folder.parent / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"id": id, "text": text}) + "\n" for id, text in texts.items()))
    rows = sorted(Ledger(sayings).read(), key=lambda row: row["row"])
    kept = ("status", "recipe_hash", "model_fingerprint")
    strings = [field.name for field in SCHEMA if pa.types.is_string(field.type) and field.name not in kept]
    for row, (id, text) in zip(rows, texts.items(), strict=True):
        row.update({name: HOSTILE for name in strings if row[name] is not None or name == "reason"}, id=id, text=text)
    Ledger(folder).commit(rows)
    earlier = json.loads((sayings / "run.json").read_text())
    model = earlier["model"] | {"name": str(folder / "model")}
    record = earlier | {"corpus": str(corpus), "corpus_fingerprint": None, "model": model, "engine": HOSTILE}
    (folder / "run.json").write_text(json.dumps(record))
    with RunLog(folder) as log:
        log.info("judged", id=HOSTILE, cause=HOSTILE)
    return folder, corpus, record


@pytest.mark.parametrize("charset", ["utf-8", "ascii"])
@pytest.mark.parametrize("verb", ["run", "status", "status --json", "decode", "decode --json", "export", "verify"])
def test_no_command_passes_on_what_a_folder_holds(hostile, tmp_path, verb, charset):
    folder, corpus, record = hostile
    (id,) = [row["id"] for row in Ledger(folder).read(["id"]) if row["id"].startswith("door")]
    args = {
        "run": [corpus, "--model", record["model"]["name"], "--out", folder, "--set", "num_vectors=12"],
        "decode": [folder, "--id", id],
        "export": [folder, "--out", tmp_path / HOSTILE.replace("/", "|"), "--id", id],
        "verify": [folder, "--ladder", "--out", tmp_path / HOSTILE],
    }.get(verb.split()[0], [folder])
    command = [verb.split()[0], *map(str, args), *verb.split()[1:]]
    result = CliRunner(charset=charset).invoke(app, command)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == {"run": 3, "verify": 2}.get(verb, 0), result.output
    assert result.output and is_harmless(result.output), ascii(result.output)
    if "--json" in verb:
        assert json.dumps(HOSTILE)[1:-1] in json.dumps(json.loads(result.stdout))


def test_new_verdicts_and_a_proof_are_printed_harmlessly(capsys):
    tally = Tally([HOSTILE], 1, Mode(beams=4), says=lambda ids: HOSTILE)
    for is_exact, margin in ((False, 1.0), (True, 2.0)):
        row = {"min_margin": margin, "proof": "beam", "first_mismatch": None, "token_ids": [1, 2]}
        tally.add(row, dataclasses.replace(verdict(HOSTILE, exact=is_exact), engine=HOSTILE))
    print_tally(tally, make_console())
    assert (tally.num_judged, tally.num_exact, tally.num_for_beams, tally.num_held) == (2, 1, 2, 1)
    assert tally.survival() == [(1.0, 0, 1), (2.0, 1, 1)] and len(tally.lost) == 1
    proof = Proof(ids=["a"], margins=[1.0], passed={"greedy_float32": [True]}, noise_radius=[0.1], engine=HOSTILE)
    print_proof(proof, make_console())
    assert is_harmless(capsys.readouterr().out)


def test_a_list_is_printed_as_json_while_it_is_made(capsys):
    out_by_then = []

    def values():
        for number in range(3):
            out_by_then.append(capsys.readouterr().out)
            yield {"id": HOSTILE, "number": number}

    say_json({"all": Streamed(values(), 3), "none": Streamed(iter(()), 0)})
    said = "".join(out_by_then) + capsys.readouterr().out
    assert '"number": 1' in out_by_then[2] and '"number": 2' not in out_by_then[2]
    say_json({"all": [{"id": HOSTILE, "number": number} for number in range(3)], "none": []})
    assert said == capsys.readouterr().out and is_harmless(said)


@pytest.mark.parametrize("is_terminal", [True, False])
def test_progress_says_what_it_is_told_harmlessly_in_any_encoding(is_terminal):
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding="ascii"), force_terminal=is_terminal, width=300, color_system=None
    )
    reporter = make_reporter(console, 10)
    reporter.say(printable(HOSTILE).encode("ascii", "backslashreplace").decode())
    reporter.update(3, "half-way")
    reporter.close()
    console.file.flush()
    said = raw.getvalue().decode("ascii")
    assert "\x1b]" not in said and ":skull:" in said and "[red]" in said


def test_a_line_and_json_say_the_same_value(capsys):
    value = {HOSTILE: [HOSTILE, '\n\t\\"', 1.5, None]}
    say_json(value)
    said = capsys.readouterr().out
    assert json.loads(said) == value and is_harmless(said) and "雨" in said
    say(make_console(), HOSTILE)
    said = capsys.readouterr().out
    assert is_harmless(said) and r"\x1b]52;c;" in said and r"\x9b2J\x7f\u202e[/][red]:skull:[link=x]é雨" in said


def test_a_terminal_that_is_not_utf8_gets_escaped_texts(hostile):
    command = [sys.executable, "-m", "tune_spaces.cli", "status", str(hostile[0])]
    done = subprocess.run(command, env=os.environ | {"PYTHONIOENCODING": "cp1252"}, capture_output=True, check=True)
    said = done.stdout.decode("cp1252")
    assert done.stderr == b"" and is_harmless(said) and r"\u96e8" in said and "é" in said
