"""What the pages tell people to type is typed, in a folder that holds what the pages name."""

import gzip
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tests.orchestrator.conftest import Outcome
from tests.test_docs import PAGES, ROOT, name_of, told_commands
from verbatim import inverter

pytestmark = pytest.mark.slow

OTHERWISE = {
    "--serve": "goes on until Ctrl-C",
    "--server": "needs a server",
    "--address": "needs a cluster",
    "s3://": "needs an object store",
    "verbatim submit": "needs a cluster",
    "verbatim verify": "starts Ray",
    "verbatim tune": "takes minutes; its flags are parsed in tests/test_docs.py",
    "verbatim learn": "takes minutes; its flags are parsed in tests/test_docs.py",
}
"""Commands that are not typed here, by what they hold, and why; each has tests of its own."""

TYPED = [page for page in PAGES if page.name != "LOG.md" and told_commands(page)]
LINES = ["She made tea.", "It was late.", "He said no."] * 334


def is_typed(line: str) -> bool:
    return not any(part in line for part in OTHERWISE)


@pytest.fixture
def here(tmp_path, monkeypatch, tiny_folder) -> Path:
    """The corpora and models that the pages name, as the folder that commands are typed in."""
    monkeypatch.chdir(tmp_path)
    table = pa.table({"text": LINES})
    pq.write_table(table, "corpus.parquet")
    pq.write_table(table, "texts.parquet")
    Path("sentences.txt").write_text("\n".join(LINES[:10]))
    Path("texts.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in LINES))
    Path("sayings.jsonl").write_text(json.dumps({"id": "door", "text": LINES[0]}) + "\n")
    Path("texts.jsonl.gz").write_bytes(gzip.compress(Path("texts.jsonl").read_bytes()))
    Path("table.csv").write_text('id,text\n1,"He said \\"hi\\" to us"\n')
    Path("export.dat").write_text("id\ttext\n1\tShe made tea.\n")
    Path("warehouse/sentences/lang=de").mkdir(parents=True)
    pq.write_table(pa.table({"body": LINES[:2]}), "warehouse/sentences/lang=de/part-0.parquet")
    Path("corpora").symlink_to(ROOT / "corpora")
    for recipe in ("learned/recipe.toml", "runs/tune-demo-pocket/best.toml"):
        Path(recipe).parent.mkdir(parents=True)
        shutil.copy(ROOT / "recipes" / "default.toml", recipe)
    Path("Qwen").mkdir()
    Path("Qwen/Qwen3-0.6B").symlink_to(tiny_folder("qwen3"))
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run's folder with the ids that the pages ask for."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    with inverter.Inverter("pocket", set={"num_vectors": 8}) as v:
        v.invert(dict.fromkeys(("door", "row-0", "row-3", "sea"), LINES[0])).save(folder)
    return folder


@pytest.fixture
def typed(here, verbatim, finished, alter_row) -> Callable[[str], Outcome]:
    """Type a command as a page has it; a folder that it reads holds a run, and a run is only foretold."""

    def run_in(folder: str) -> None:
        if folder.startswith("runs/") and not Path(folder).exists():
            shutil.copytree(finished, folder)
            alter_row(Path(folder), "sea", status="unsolved")

    def type_(line: str) -> Outcome:
        _, verb, *arguments = shlex.split(line, comments=True)
        read = [arguments[place + 1] for place, flag in enumerate(arguments) if flag in ("--from", "--against")]
        for folder in read if verb == "run" else [*read, arguments[0]]:
            run_in(folder)
        if verb == "run" and "--dry-run" not in arguments:
            arguments += ["--dry-run"]
        return verbatim(verb, *arguments)

    return type_


@pytest.mark.parametrize("page", TYPED, ids=name_of)
def test_every_command_of_a_page_does_what_the_page_says(page, typed):
    for line, told in told_commands(page):
        if not is_typed(line):
            continue
        outcome = typed(line)
        refusals = [said for said in told if said.startswith("error: ")]
        if refusals:
            assert (outcome.code, outcome.err.splitlines()) == (2, refusals), line
        elif line.startswith("verbatim doctor"):
            assert outcome.code in (0, 2) and "parameters" in outcome.out, (line, outcome)
        else:
            assert outcome.code == 0 and "error: " not in outcome.err, (line, outcome)


def test_most_commands_are_typed():
    lines = [line for page in TYPED for line, _ in told_commands(page)]
    assert sum(map(is_typed, lines)) > 0.6 * len(lines)
    assert all(any(part in line for line in lines) for part in OTHERWISE), "a reason that no command needs"


def test_a_command_that_does_not_work_is_noticed(typed):
    assert typed("verbatim decode runs/sayings --id door").code == 0
    assert typed("verbatim decode runs/sayings --id nobody").code == 2
    assert typed("verbatim run nothing.parquet").code == 2
