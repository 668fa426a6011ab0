"""What people copy runs as it stands: the Python blocks of the docs, the notebook's cells, the flags of commands."""

import inspect
import json
import re
import shlex
import tomllib
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import typer

import verbatim
from engine.recipe import Recipe
from orchestrator.app import ORDER
from tune_spaces.cli import app
from tune_spaces.spaces.files import load_space

ROOT = Path(__file__).parent.parent
USAGE = re.compile(r"\.\.\.|\[[A-Z]")
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NEEDED = re.compile(r"^import (\w+)$", flags=re.MULTILINE)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("decisions/*.md"))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


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


OTHER_BLOCKS = [
    page for page in PAGES if BLOCK.search(page.read_text()) and page.name not in ("README.md", "python.md")
]


@pytest.mark.parametrize("page", OTHER_BLOCKS, ids=name_of)
def test_the_python_of_other_pages_runs(page, capsys):
    names: dict = {}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, page.name, "exec"), names)
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", [page for page in PAGES if "```toml\n" in page.read_text()], ids=name_of)
def test_the_recipes_and_spaces_of_a_page_are_taken(page, tmp_path):
    for block in re.findall(r"^```toml\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        values = tomllib.loads(block)
        if "parameters" in values:
            (tmp_path / "mine.toml").write_text(block)
            load_space(tmp_path / "mine.toml")
        elif set(values) <= set(Recipe.model_fields):
            Recipe.model_validate(values)
        else:
            assert len(values) == 1, "a fragment of a recipe is one value"


MODULE = re.compile(r"python -m (bench[\w.]*)([^`\n#]*)")


@pytest.mark.parametrize("page", [page for page in PAGES if MODULE.search(page.read_text())], ids=name_of)
def test_the_benchmarks_that_a_page_names_exist_with_their_flags(page):
    for module, arguments in MODULE.findall(page.read_text()):
        spec = find_spec(module)
        assert spec and spec.origin, module
        source = Path(spec.origin).read_text()
        missing = [flag for flag in re.findall(r"--[a-z][\w-]*", arguments) if f'"{flag}"' not in source]
        assert not missing, (module, missing)


def test_only_what_is_not_installed_is_left_out_of_the_page():
    page = (ROOT / "docs" / "python.md").read_text()
    needed = {name for block in BLOCK.findall(page) for name in NEEDED.findall(block)}
    assert {name for name in needed if not find_spec(name)} <= {"duckdb", "datasets"}


def test_the_notebook_runs_from_top_to_bottom(capsys):
    notebook = json.loads((ROOT / "examples" / "first_steps.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert notebook["nbformat"] == 4 and len(cells) > 5
    names: dict = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), "first_steps.ipynb", "exec"), names)
    assert names["results"].num_exact == 3
    assert "8 verified" in capsys.readouterr().out


def told_commands(page: Path) -> list[tuple[str, list[str]]]:
    """The commands in a page's code blocks that run `verbatim`, and what the page has them say.

    A usage line is none: it holds an omission, or brackets around what may be left out.
    """
    told: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE):
        is_listening = False
        for line in block.replace("\\\n", "").splitlines():
            command = line.strip().removeprefix("$ ")
            if command.startswith("verbatim "):
                is_listening = not USAGE.search(command)
                told += [(command, [])] * is_listening
            elif is_listening:
                told[-1][1].append(line)
    return told


def commands(page: Path) -> list[str]:
    return [line for line, _ in told_commands(page)]


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


def test_the_python_reference_has_every_name_and_argument():
    page = (ROOT / "docs" / "python_reference.md").read_text()
    parts = {part.split("\n")[0]: part for part in page.split("## verbatim.")[1:]}
    assert sorted(parts) == sorted(name for name in verbatim.__all__ if not name.startswith("__")), "run make docs"
    for name, part in parts.items():
        thing = getattr(verbatim, name)
        calls = [thing] if inspect.isfunction(thing) or name == "Inverter" else []
        if isinstance(thing, type) and thing.__module__.startswith("verbatim."):
            calls += [member for key, member in vars(thing).items() if inspect.isfunction(member) and key[0] != "_"]
        for call in calls:
            names = [each for each in inspect.signature(call).parameters if each != "self"]
            assert all(f"{each}: " in part for each in names), (name, call, "run make docs")


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
    assert len(commands(ROOT / "README.md")) > 8 and len(commands(ROOT / "docs" / "report.md")) == 7
