"""The house: who may import whom, how long a thing may be, and the page that shows it."""

import ast
import re
from importlib import util
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"

_spec = util.spec_from_file_location("architecture", ROOT / "docs" / "architecture.py")
assert _spec is not None and _spec.loader is not None
architecture = util.module_from_spec(_spec)
_spec.loader.exec_module(architecture)

NOT_FOR = {
    "engine": {"ray", "vllm", "optuna", "orchestrator", "tune_spaces", "verbatim"},
    "orchestrator": {"optuna", "tune_spaces", "verbatim"},
    "tune_spaces": {"vllm", "verbatim"},
}
"""What a package must not import, on top of what the floors say."""

LONGEST_MODULE, LONGEST_FUNCTION = 300, 60


def against_the_floors(root: Path) -> list[str]:
    """Imports that go up, or to a neighbour on the same floor."""
    floor_of = {room: number for number, floor in enumerate(architecture.FLOORS) for room in floor}
    drawn = architecture.arrows(root)
    return [why for (of, to), reasons in drawn.items() if floor_of[to] <= floor_of[of] for why in reasons]


def forbidden(root: Path) -> list[str]:
    """Imports of what a package must do without."""
    return [
        f"{module} imports {name}"
        for module, path in architecture.modules(root).items()
        for name in sorted(architecture.imports(path))
        if name.split(".")[0] in NOT_FOR.get(module.split(".")[0], ())
    ]


def too_long(source: str) -> list[str]:
    """What in a file exceeds its bound: itself, functions."""
    found = [f"module: {length} lines"] if (length := len(source.splitlines())) > LONGEST_MODULE else []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            found += [f"{node.name}: {length} lines"] if length > LONGEST_FUNCTION else []
    return found


@pytest.fixture
def house(tmp_path):
    """A made-up house with all rooms, and in them what is given: `house({"orchestrator/work/a.py": source})`."""

    def build(files: dict[str, str]) -> Path:
        rooms = {path.parent.relative_to(ROOT) for path in architecture.modules().values()}
        for name, source in {**{room / "__init__.py": "" for room in rooms}, **files}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(source)
        return tmp_path

    return build


def test_every_room_has_a_floor_and_every_floor_its_rooms():
    stated = [room for floor in architecture.FLOORS for room in floor]
    assert sorted(stated) == sorted(architecture.rooms())
    outside = {path.stem for path in (ROOT / "orchestrator").glob("*.py")}
    assert outside == {"__init__", "app", "cli", "flags", "folder_verbs"}, (
        "a module of orchestrator belongs into a room"
    )


def test_imports_go_down():
    assert against_the_floors(ROOT) == []
    assert len(architecture.arrows()) > 50


def test_packages_do_without_what_is_not_theirs():
    assert forbidden(ROOT) == []


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"orchestrator/work/a.py": "from orchestrator.run.b import c"}, 1),
        ({"orchestrator/work/a.py": "from orchestrator.run import b"}, 1),
        ({"orchestrator/work/a.py": "def f():\n    import orchestrator.run.b"}, 1),
        ({"orchestrator/storage/a.py": "from orchestrator.cli import app"}, 1),
        ({"engine/a.py": "from orchestrator.work.b import c"}, 1),
        ({"orchestrator/work/a.py": "import orchestrator.results.b"}, 1),
        ({"orchestrator/run/a.py": "from orchestrator.work.b import c\nfrom orchestrator.run import d"}, 0),
    ],
)  # fmt: skip
def test_an_arrow_up_or_sideways_is_found(house, files, found):
    assert len(against_the_floors(house(files))) == found


def test_a_circle_is_found(house):
    around = ("process", "storage", "results", "process")
    files = {f"orchestrator/{of}/m.py": f"from orchestrator.{to}.m import x" for of, to in pairwise(around)}
    assert len(against_the_floors(house(files))) == 2, "somewhere it must go up"


@pytest.mark.parametrize("name", ["ray", "vllm.config", "optuna", "orchestrator.cli", "tune_spaces"])
def test_what_the_engine_must_not_import_is_found(house, name):
    assert forbidden(house({"engine/a.py": f"def f():\n    import {name}\n", "engine/b.py": "import raygun"})) == [
        f"engine.a imports {name}"
    ]


@pytest.mark.parametrize("path", architecture.modules().values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_too_long(path):
    assert too_long(path.read_text()) == []


def test_what_is_too_long_is_found():
    function = "def f():\n" + "    pass\n" * 60
    assert too_long(function) == ["f: 61 lines"]
    assert too_long("async " + function) == ["f: 61 lines"]
    assert too_long("a = 1\n" * 301) == ["module: 301 lines"]
    assert too_long("a = 1\n" * 300) == []


def test_tests_lie_as_the_rooms_do():
    rooms = {path.parent.name for path in (ROOT / "orchestrator").glob("*/__init__.py")}
    tested = {path.name for path in (ROOT / "tests" / "orchestrator").iterdir() if (path / "__init__.py").is_file()}
    assert tested and tested <= rooms


def test_the_picture_is_what_the_code_draws():
    assert architecture.PICTURE.read_text() == architecture.picture(), "run python docs/architecture.py"


def test_the_picture_shows_every_room_and_names_files_that_exist():
    shown = architecture.PICTURE.read_text()
    assert [room for room in architecture.rooms() if f'font-weight="bold">{room}<' not in shown] == []
    named = re.findall(r"\b\w+/\w+\.py\b", shown)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / "orchestrator" / name).is_file()] == []


def test_the_page_names_every_room_and_files_that_exist():
    page = PAGE.read_text()
    linked = re.findall(r"\]\(([^)#:]+)", page)
    assert len(linked) > 40
    assert [name for name in linked if not (PAGE.parent / name).exists()] == []
    assert [room for room in architecture.rooms() if f"`{room}`" not in page] == []


def test_the_page_tells_the_floors_as_the_code_has_them():
    rows = re.findall(r"^\| (\d+) \| (.+?) \|$", PAGE.read_text(), flags=re.MULTILINE)
    told = [tuple(re.findall(r"`(\w+)`", rooms)) for _, rooms in rows]
    assert told == list(architecture.FLOORS)
