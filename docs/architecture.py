"""Draw docs/architecture.svg from the code's own imports; the floors, and how data goes, are stated here.

    python docs/architecture.py

Owns: the order of the floors, the way of a text in words. Must not know: the rules about it, which
tests/test_architecture.py states.
"""

import ast
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
PACKAGES = ("verbatim", "tune_spaces", "orchestrator", "engine")

FLOORS = (
    ("verbatim",),
    ("tune_spaces",),
    ("cli",),
    ("pool", "run", "proof", "doctor", "decode", "export", "report", "learn"),
    ("dispatch",),
    ("fleet",),
    ("sizing",),
    ("corpus", "cluster", "work", "measured", "results"),
    ("storage", "verifiers"),
    ("process",),
    ("console",),
    ("engine",),
)
"""Packages, and the rooms of `orchestrator`, from the top floor down. A room imports from floors below its own alone.
`cli` is the modules that lie directly in `orchestrator`."""

STATIONS = (
    (
        "corpus row",
        "corpus/opened.py",
        (("damaged, or no such column", "corpus/opened.py"), ("unpacks to more than memory", "corpus/parquet_rows.py")),
    ),
    (
        "target, or refused",
        "corpus/intake.py",
        (
            ("cannot be a target: a row `invalid`", "corpus/intake.py"),
            ("longer than what is served", "corpus/intake.py"),
        ),
    ),
    (
        "solver",
        "fleet/solver_actor.py",
        (
            ("dies, hangs, loses its node", "fleet/roster.py"),
            ("memory runs out", "sizing/table_size.py"),
            ("one text takes solvers down", "work/work_queue.py"),
        ),
    ),
    (
        "verifier",
        "fleet/verifier_actor.py",
        (
            ("decoded otherwise", "work/retry.py"),
            ("the engines' margins differ", "measured/margin_control.py"),
            ("cannot run the model", "process/failures.py"),
        ),
    ),
    (
        "committed row",
        "results/ledger.py",
        (
            ("killed in a commit", "run/writing.py, storage/local.py, storage/objects.py"),
            ("two runs in one folder", "storage/folder_lock.py, storage/lease.py"),
            ("Ctrl-C, SIGTERM", "process/interrupts.py"),
        ),
    ),
)
"""Where a text passes, in which module, what may go wrong there and who handles it; paths are below `orchestrator`."""

INK, GREY, FAULT, PAPER = "#1c2733", "#8a97a6", "#a3341c", "#ffffff"
FILLS = {"cli": "#e8f0e4", "verbatim": "#e8f0e4", "tune_spaces": "#e8f0e4", "engine": "#fdf0d5"}
WIDTH, MARGIN, GAP = 1560, 24, 8
ROOM_WIDTH, ROOM_HEIGHT, FLOOR = 182, 80, 112
COLUMNS = {
    "fleet": 2.2, "sizing": 2.2, "corpus": 1.0, "cluster": 2.0, "work": 3.0, "measured": 4.2, "results": 5.4,
    "storage": 2.6, "verifiers": 3.8,
}  # fmt: skip
"""Where a room stands that does not stand in the middle of its floor."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the packages, by its dotted name."""
    found = {}
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        found[".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it: `from a import b` gives `a.b`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: import by the whole name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str, known: Iterable[str]) -> str:
    """The package or room that a module, or a name imported from one, belongs to."""
    package, *rest = module.split(".")
    if package != "orchestrator":
        return package
    return rest[0] if rest and f"orchestrator.{rest[0]}.__init__" in known else "cli"


def arrows(root: Path = ROOT) -> dict[tuple[str, str], list[str]]:
    """Which room imports from which other, and by which modules."""
    found = modules(root)
    known = {*found, *(f"{name}.__init__" for name, path in found.items() if path.name == "__init__.py")}
    drawn: dict[tuple[str, str], list[str]] = {}
    for module, path in found.items():
        of = room_of(module, known)
        for name in sorted(imports(path)):
            to = room_of(name, known)
            if to != of and name.split(".")[0] in PACKAGES:
                drawn.setdefault((of, to), []).append(f"{module} imports {name}")
    return drawn


def rooms(root: Path = ROOT) -> dict[str, str]:
    """What each package and room owns, in its own words."""
    owners = {package: root / package / "__init__.py" for package in PACKAGES if package != "orchestrator"}
    owners["cli"] = root / "orchestrator" / "cli.py"
    owners |= {path.parent.name: path for path in sorted((root / "orchestrator").glob("*/__init__.py"))}
    return {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0] for name, path in owners.items()
    }


def longest_ways(drawn: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Arrows that no longer way replaces: the others would only hide them."""
    below: dict[str, set[str]] = {}
    for of, to in drawn:
        below.setdefault(of, set()).add(to)

    def reached(room: str) -> set[str]:
        return {far for near in below.get(room, ()) for far in (near, *reached(near))}

    return sorted((of, to) for of, to in drawn if not any(to in reached(near) for near in below[of]))


def text(x: float, y: float, line: str, size: int = 11, fill: str = INK, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" {extra}>{escape(line)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{fill}" stroke="{GREY}"/>'


def arrow(x1: float, y1: float, x2: float, y2: float, fill: str = INK) -> str:
    middle = (y1 + y2) / 2
    way = f"M{x1:g} {y1:g} C{x1:g} {middle:g} {x2:g} {middle:g} {x2:g} {y2:g}"
    return f'<path d="{way}" fill="none" stroke="{fill}" stroke-width="1.3" marker-end="url(#tip)"/>'


def draw_way(top: float) -> list[str]:
    """A text's way: stations above, the queue they all meet below them, faults under it."""
    width = (WIDTH - 2 * MARGIN - 4 * 18) / 5
    lefts = [MARGIN + i * (width + 18) for i in range(5)]
    queue = top + 112
    parts = [text(MARGIN, top - 12, "A text's way, from corpus row to committed row", 15, extra='font-weight="bold"')]
    for left, (title, path, faults) in zip(lefts, STATIONS, strict=True):
        parts += [box(left, top, width, 56, PAPER), text(left + 12, top + 23, title, 13, extra='font-weight="bold"')]
        parts.append(text(left + 12, top + 43, path))
        for i, (fault, handler) in enumerate(faults):
            parts.append(text(left + 2, queue + 82 + 32 * i, fault, 11, FAULT))
            parts.append(text(left + 2, queue + 96 + 32 * i, handler, 10, "#4a5a6a"))
    first = lefts[1]
    parts.append(box(first, queue, WIDTH - MARGIN - first, 44, "#e4ecf7"))
    parts.append(text(first + 12, queue + 19, "queue", 13, extra='font-weight="bold"'))
    states = (
        "work/work_queue.py: pending, leased, candidate, verified; a failure goes out again with more vectors or margin"
    )
    parts.append(text(first + 12, queue + 36, states))
    parts.append(f'<path d="M{lefts[0] + width:g} {top + 28:g} H{first - 3:g}" stroke="{INK}" marker-end="url(#tip)"/>')
    down, up = (top + 56, queue - 3), (queue, top + 59)
    for station, offset, ends, label in (
        (1, 0.5, down, "job"),
        (2, 0.25, up, "lease"),
        (2, 0.7, down, "attempt"),
        (3, 0.2, up, "candidate"),
        (3, 0.7, down, "verdict"),
        (4, 0.4, up, "row, by run/rows.py"),
    ):
        x = lefts[station] + offset * width
        parts += [arrow(x, ends[0], x, ends[1]), text(x + 7, top + 88, label, 11, "#4a5a6a")]
    parts.append(text(MARGIN, queue + 19, "one visible loop feeds and routes:", 11, "#4a5a6a"))
    parts.append(text(MARGIN, queue + 35, "dispatch/dispatcher.py", 11, "#4a5a6a"))
    parts.append(text(first + 2, queue + 62, "what goes wrong, and who handles it", 11, FAULT, 'font-weight="bold"'))
    return parts


def draw_floors(top: float) -> list[str]:
    """Rooms on their floors, and the arrows between them."""
    owned, at = rooms(), {}
    parts = [text(MARGIN, top - 36, "Who imports whom: downwards alone", 15, extra='font-weight="bold"')]
    for number, floor in enumerate(FLOORS):
        left = (WIDTH - len(floor) * ROOM_WIDTH - (len(floor) - 1) * GAP) / 2
        for index, room in enumerate(floor):
            column = COLUMNS.get(room)
            x = left + index * (ROOM_WIDTH + GAP) if column is None else MARGIN + column * (ROOM_WIDTH + GAP)
            at[room] = (x, top + number * FLOOR)
    for of, to in longest_ways(arrows()):
        if to != "engine":
            (x1, y1), (x2, y2) = at[of], at[to]
            lean = (x2 - x1) / WIDTH * ROOM_WIDTH * 0.6
            parts.append(
                arrow(x1 + ROOM_WIDTH / 2 + lean, y1 + ROOM_HEIGHT, x2 + ROOM_WIDTH / 2 - lean, y2 - 3, "#5b7083")
            )
    for room, (x, y) in at.items():
        parts.append(box(x, y, ROOM_WIDTH, ROOM_HEIGHT, FILLS.get(room, "#f3f6fa")))
        parts.append(text(x + 10, y + 19, room, 13, extra='font-weight="bold"'))
        lines = textwrap.wrap(owned[room].replace("`", ""), 31)
        parts += [text(x + 10, y + 35 + 13 * i, line, 10) for i, line in enumerate(lines)]
    return parts


def picture() -> str:
    """All of it, as SVG."""
    floors_top = 430
    height = floors_top + len(FLOORS) * FLOOR
    note = "A room may import from every floor below its own. An arrow is left out where a longer way says the same."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            f'<path d="M0 0 L8 4 L0 8 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
            *draw_way(50),
            *draw_floors(floors_top),
            text(MARGIN, floors_top - 18, note, 11, "#4a5a6a"),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(picture())
