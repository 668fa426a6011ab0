"""The recipes that come with this project, by name.

Owns: their names, where they lie. Must not know: what is in them, who asks.
"""

from pathlib import Path

FOLDER = Path(__file__).with_name("shipped")
"""The repository's `recipes/`; in an installed package a copy of it."""


def recipe_names() -> list[str]:
    """Names that `--recipe` and `recipe=` take instead of a path."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def recipe_path(asked: Path) -> Path:
    """The shipped recipe of that name where there is no file of that name; else the path as it is."""
    is_name = len(asked.parts) == 1 and asked.name in recipe_names()
    return FOLDER / f"{asked.name}.toml" if is_name and not asked.exists() else asked
