"""Recipes from TOML files and `--set`, and errors that name key, value and remedy.

Owns: reading, overriding, explaining. Must not know: what the values mean.
"""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from rapidfuzz import fuzz

from engine.recipe.recipe import Recipe
from engine.recipe.sections import StageRecipe


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names key, value and remedy."""


def load_recipe(path: Path | None = None, overrides: list[str] | None = None) -> Recipe:
    """A recipe from a TOML file and `key=value` overrides, dotted keys reaching into sections.

    Raises:
        RecipeError: unreadable file, unknown key (nearest valid name offered), value out of range.
    """
    values = _read_toml(path) if path else {}
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise RecipeError(f"--set {override}: must be key=value, for example --set optim.lr=0.05")
        _assign(values, key.strip().split("."), _parse_value(text.strip()), override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from error


def valid_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every dotted key a recipe takes."""
    keys = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += valid_keys(section, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"--recipe {path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"--recipe {path}: not a TOML file ({error})") from error


def _parse_value(text: str) -> Any:
    """A TOML value; anything that is not one is taken as a bare string (`loss.name=cross_entropy`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {override}: {key} is a value, not a section")
    values[keys[-1]] = value


def _explain(error: ValidationError, prefix: str = "") -> str:
    """The first complaint as one line: key, value, remedy. `prefix` is the stage the values were merged from."""
    first = _deepest(error.errors())
    said = first.get("ctx", {}).get("error")
    if isinstance(said, ValueError) and isinstance(said.__cause__, ValidationError):
        return _explain(said.__cause__, str(said))
    key = ".".join(str(part) for part in first["loc"] if _is_key(part))
    if first["type"] == "extra_forbidden":
        # Partial matches count, so that learning_rate finds lr.
        nearest = max([*valid_keys(), *_stage_keys(first["loc"])], key=lambda valid: fuzz.WRatio(key, valid))
        return f"recipe key {prefix}{key}: unknown; the nearest valid key is {prefix}{nearest}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{prefix}{key} = {first['input']!r}: {message}" if key else f"{prefix.rstrip('.')}: {message}".lstrip(": ")


def _stage_keys(loc: tuple[Any, ...]) -> list[str]:
    """The keys of the stage that a location lies in."""
    return valid_keys(StageRecipe, f"stages.{loc[1]}.") if loc[0] == "stages" and len(loc) > 1 else []


def _deepest(errors: list[Any]) -> Any:
    """The first key's complaint; of a union's branches the one that got furthest into the value."""
    first = errors[0]
    key = [part for part in first["loc"] if _is_key(part)]
    same = [error for error in errors if [part for part in error["loc"] if _is_key(part)][: len(key)] == key]
    return max(same, key=lambda error: (len(error["loc"]), error["type"].startswith("union_tag")))


def _is_key(part: Any) -> bool:
    """Whether part of an error's location is a key of ours, and not a branch of a union."""
    branches = ("int", "float", "cosine", "linear", "exponential", "inverse_sigmoid", "logistic", "piecewise")
    return part not in branches and not str(part).startswith(("literal[", "tagged-union["))
