"""Recipes from TOML files and `--set`, and errors that name key, value and remedy.

Owns: reading a recipe's file, explaining what stages make of an error. Must not know: what the values mean.
"""

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.recipe.named import recipe_names, recipe_path
from engine.recipe.recipe import Recipe
from engine.recipe.sections import MemberRecipe, StageRecipe
from engine.settings import SettingsError, complaint, keys_of, nearest, override
from engine.toml import read_toml

SCHEDULES = ("cosine", "linear", "exponential", "inverse_sigmoid", "logistic", "piecewise")
"""Kinds of schedule, which pydantic names in an error's location."""


class RecipeError(SettingsError):
    """A recipe that cannot be used; the message names key, value and remedy."""


def load_recipe(path: Path | None = None, overrides: list[str] | None = None) -> Recipe:
    """A recipe from a TOML file and `key=value` overrides, dotted keys reaching into sections.

    Args:
        path: of a file, or the name of a shipped recipe.
    Raises:
        RecipeError: unreadable file, unknown key (nearest valid name offered), value out of range.
    """
    return recipe_of({} if path is None else _values(path), overrides or [])


def recipe_of(values: dict[str, Any], overrides: list[str]) -> Recipe:
    """A recipe from values nested by section, changed by `key=value` overrides.

    Raises:
        RecipeError: unknown key (nearest valid name offered), value out of range.
    """
    try:
        return Recipe.model_validate(override(values, overrides, example="optim.lr=0.05"))
    except ValidationError as error:
        raise RecipeError(_explain(error)) from error
    except SettingsError as error:
        raise RecipeError(str(error)) from error


def _values(path: Path) -> dict[str, Any]:
    try:
        return read_toml(recipe_path(path), "--recipe")
    except SettingsError as error:
        is_name = len(path.parts) == 1 and not path.suffix
        also = f"; recipes by name: {', '.join(recipe_names())}" if is_name and not path.exists() else ""
        raise RecipeError(f"{error}{also}") from error


def valid_keys() -> list[str]:
    """Every dotted key a recipe takes."""
    return keys_of(Recipe)


def _explain(error: ValidationError, prefix: str = "") -> str:
    """The first complaint as one line: key, value, remedy. `prefix` is the stage the values were merged from."""
    first = complaint(error, SCHEDULES)
    if first.cause is not None and isinstance(first.cause.__cause__, ValidationError):
        return _explain(first.cause.__cause__, str(first.cause))
    if first.is_unknown:
        valid = nearest(first.key, [*valid_keys(), *_part_keys(first.loc)])
        return f"recipe key {prefix}{first.key}: unknown; the nearest valid key is {prefix}{valid}"
    return first.line(prefix)


def _part_keys(loc: tuple[Any, ...]) -> list[str]:
    """The keys of the stage, or of the portfolio's member, that a location lies in."""
    kinds = {"stages": StageRecipe, "portfolio": MemberRecipe}
    return keys_of(kinds[loc[0]], f"{loc[0]}.{loc[1]}.") if loc[0] in kinds and len(loc) > 1 else []
