"""Recipes to TOML: a file that `load_recipe` reads back as the same recipe.

Owns: how a recipe's file is laid out. Must not know: TOML's syntax, who found the recipe.
"""

from collections.abc import Iterator

from engine.recipe.recipe import Recipe
from engine.toml import assignments, comments


def to_toml(recipe: Recipe, header: str = "") -> str:
    """The values that differ from the defaults, sections in the recipe's order.

    Args:
        header: lines of comment on top.
    """
    blocks = ["\n".join(lines) for lines in _blocks(recipe, header)]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _blocks(recipe: Recipe, header: str) -> Iterator[list[str]]:
    values = recipe.model_dump(mode="json", exclude_defaults=True)
    lists = {name: values.pop(name, []) for name in ("stages", "portfolio")}
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    yield [*comments(header)]
    yield [*assignments({name: value for name, value in values.items() if name not in sections})]
    for name, section in sections.items():
        yield [f"[{name}]", *assignments(section)]
    for name, part in ((name, part) for name, parts in lists.items() for part in parts):
        changed = part.pop("set", {})
        yield [f"[[{name}]]", *assignments(part)]
        if changed:
            yield [f"[{name}.set]", *assignments(changed)]
