"""Recipes as a caller gives them.

Owns: names, paths and objects, and what `set` changes. Must not know: what the values mean.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from engine.recipe import Recipe, load_recipe, recipe_of
from engine.toml import value_text
from verbatim.errors import VerbatimError

PLAIN = (bool, int, float, str, list, tuple)


def chosen_recipe(recipe: Any, set: Mapping[str, Any] | None) -> Recipe:
    """A shipped recipe by name, one from a TOML file, or the object itself, with the values of `set` in it.

    Raises:
        VerbatimError, RecipeError: no such recipe, an unknown key (the nearest one is offered), a value out of range.
    """
    if set is not None and not isinstance(set, Mapping):
        raise VerbatimError(f"set = {set!r}: must be a dict from dotted keys to values, as {{'optim.lr': 0.2}}")
    told = [f"{key}={value_text(value)}" for key, value in _flat(set or {})]
    if isinstance(recipe, Recipe):
        return recipe_of(recipe.model_dump(), told) if told else recipe
    if not isinstance(recipe, (str, Path)) or not str(recipe):
        raise VerbatimError(f"recipe = {recipe!r}: must be a name, a path or a Recipe")
    return load_recipe(Path(recipe), told)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Sections within sections as dotted keys."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, PLAIN):
            yield name, value
        else:
            raise VerbatimError(f"set: {name} = {value!r}: must be a number, a string, a bool, a list or a dict")
