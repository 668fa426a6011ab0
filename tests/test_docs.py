"""What people copy runs as it stands: the Python blocks of the docs, the notebook's cells, the flags of commands."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer

from tune_spaces.cli import app

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NEEDED = re.compile(r"^import (\w+)$", flags=re.MULTILINE)


@pytest.mark.vllm
@pytest.mark.slow
def test_the_page_on_python_runs_from_top_to_bottom(capsys):
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = BLOCK.findall(page)
    assert len(blocks) == page.count("```python\n") > 5
    names: dict = {}
    for block in blocks:
        if all(find_spec(name) for name in NEEDED.findall(block)):
            exec(compile(block, "docs/python.md", "exec"), names)
    said = capsys.readouterr().out
    assert "Results(2 of 2 exact)" in said
    assert "Proof(2 of 2 exact on vllm " in said
    assert "recipe key optim.learning_rate: unknown; the nearest valid key is optim.lr" in said


def test_only_what_is_not_installed_is_left_out_of_the_page():
    page = (ROOT / "docs" / "python.md").read_text()
    needed = {name for block in BLOCK.findall(page) for name in NEEDED.findall(block)}
    assert {name for name in needed if not find_spec(name)} <= {"duckdb"}


def test_the_notebook_runs_from_top_to_bottom(capsys):
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4 and len(cells) > 5
    names: dict = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), names)
    assert names["results"].num_exact == 3
    assert "8 verified" in capsys.readouterr().out


def commands(page: Path) -> list[str]:
    """The lines of a page's code blocks that run `verbatim`, those with an omission left out."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    return [line for line in lines if line.startswith("verbatim ") and "..." not in line and "[" not in line]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=lambda page: page.name)
def test_the_flags_of_every_command_exist(page):
    verbs = typer.main.get_command(app).commands
    for line in commands(page):
        _, verb, *arguments = shlex.split(line, comments=True)
        with verbs[verb].make_context(verb, arguments):
            pass


def test_commands_are_found():
    assert len(commands(ROOT / "README.md")) > 8 and len(commands(ROOT / "docs" / "report.md")) == 6
