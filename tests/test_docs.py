"""What people copy runs as it stands: the Python blocks of the docs, the notebook's cells, the flags of commands."""

import json
import re
import shlex
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import typer

from orchestrator.app import ORDER
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


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("decisions/*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "LOG.md"], ids=name_of)
def test_the_flags_of_every_command_exist(page):
    verbs = typer.main.get_command(app).commands
    for line in commands(page):
        _, verb, *arguments = shlex.split(line, comments=True)
        with verbs[verb].make_context(verb, arguments):
            pass


def made_by(script: str) -> ModuleType:
    """A script of docs/ that makes a page or a picture."""
    spec = spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_commands_say():
    page = (ROOT / "docs" / "cli.md").read_text()
    assert made_by("cli").page() == page, "run python docs/cli.py"
    verbs = typer.main.get_command(app).commands
    assert re.findall(r"^## verbatim (\w+)$", page, flags=re.MULTILINE) == [name for name in ORDER if name in verbs]
    assert set(verbs) <= set(ORDER), "a verb without its place in the help"


def test_the_picture_of_the_ideas_is_what_its_script_draws():
    assert made_by("concepts_picture").picture() == (ROOT / "docs" / "concepts.svg").read_text()


LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """What a forge makes of a page's headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_link_is_dead(page):
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        place, _, anchor = link.partition("#")
        if "://" in link:
            continue
        there = (page.parent / place).resolve() if place else page
        assert there.exists(), link
        assert not anchor or there.suffix != ".md" or anchor in anchors(there), link


def test_the_index_lists_every_page():
    listed = LINK.findall((ROOT / "docs" / "index.md").read_text())
    listed += [f"decisions/{link}" for link in LINK.findall((ROOT / "docs" / "decisions" / "README.md").read_text())]
    pages = {str(page.relative_to(ROOT / "docs")) for page in PAGES[1:]} - {"index.md"}
    assert pages <= set(listed), "a page that docs/index.md or docs/decisions/README.md does not list"


def test_commands_are_found():
    assert len(commands(ROOT / "README.md")) > 8 and len(commands(ROOT / "docs" / "report.md")) == 6
