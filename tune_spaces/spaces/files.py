"""Files of declared spaces: read, and refused in one line where no recipe would take what they say.

Owns: the way from a path to a space. Must not know: how a declaration draws.
"""

from collections.abc import Callable, Iterator
from graphlib import CycleError
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from engine.recipe import Recipe, valid_keys
from engine.recipe.loading import SCHEDULES
from engine.recipe.recipe import STAGE_SECTIONS
from engine.recipe.sections import StageRecipe
from engine.settings import SettingsError, complaint, nearest
from engine.toml import read_toml
from tune_spaces.spaces.declared import (
    COUNT,
    KINDS,
    Condition,
    Declared,
    Integer,
    Parameter,
    stage_of,
    without_switch,
)
from tune_spaces.spaces.space import Space

NOT_SEARCHED = {
    "stages": "name what of them is: stages.count, stages.0.until, stages.0.set.context.eps",
    "seed": "only luck tells seeds apart",
    "curriculum.order": "it changes no text's attempt",
} | dict.fromkeys(
    (
        "end_of_text",
        "proof",
        "beam_overrun",
        "margin_growth",
        "noise_factor",
        "stop_margin",
        "parameterisation.serving_dtype",
    ),
    "it says what is asked of a prompt, and a trial must not win by asking less",
)
MOST_STAGES = 8
"""Stages that a declared space may give a recipe. Assumption."""

IN_STAGE = "set."
"""What of a stage's key stands before a key that has its place outside stages too."""

COMPANY = "it reads what other texts came to, so that a trial would depend on its company"


def load_space(path: Path, name: str | None = None) -> Space:
    """A declared space, checked against what a recipe takes.

    Args:
        name: what it is called; the path by default.
    Raises:
        SettingsError: no such file, a form that is none, a key or a value that no recipe takes.
    """
    values = read_toml(path, "space")
    try:
        declared = _parse(values)
        for key, parameter in declared.parameters.items():
            _check(key, parameter)
    except ValidationError as error:
        raise SettingsError(f"space {path}: {_explain(error)}") from error
    except SettingsError as error:
        raise SettingsError(f"space {path}: {error}") from error
    return Space(
        name or str(path), declared.suggest, declared.model_dump_json(exclude={"description"}), declared.refusal
    )


def _parse(values: dict[str, Any]) -> Declared:
    parameters = values.get("parameters")
    if isinstance(parameters, dict):
        values = values | {
            "parameters": {key: _with_flat_conditions(one) for key, one in _flat(parameters, _is_section)}
        }
    declared = Declared.model_validate(values)
    try:
        declared.order()
    except CycleError as error:
        raise SettingsError(f"{' waits for '.join(error.args[1])}: conditions must not go round") from error
    return declared


def _flat(table: dict[str, Any], is_section: Callable[[Any], bool], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key, whether the file nests them or quotes the key."""
    for key, value in table.items():
        if is_section(value):
            yield from _flat(value, is_section, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _is_section(value: Any) -> bool:
    """Whether a table holds parameters; one that says anything itself is a parameter."""
    return isinstance(value, dict) and bool(value) and all(isinstance(inner, dict) for inner in value.values())


def _with_flat_conditions(parameter: Any) -> Any:
    """`when` as a list of conditions; a file may give one alone."""
    if not isinstance(parameter, dict) or "when" not in parameter:
        return parameter
    given = parameter["when"] if isinstance(parameter["when"], list) else [parameter["when"]]
    conditions = [dict(_flat(one, lambda v: isinstance(v, dict))) if isinstance(one, dict) else one for one in given]
    return parameter | {"when": conditions}


def _check(key: str, parameter: Parameter) -> None:
    _require_key(key)
    if key in NOT_SEARCHED:
        raise SettingsError(f"{key} is not searched: {NOT_SEARCHED[key]}")
    if key == COUNT:
        _check_count(parameter)
        return
    for value in parameter.examples():
        _require_value(key, value)
        if (key, value) == ("start.name", "neighbour"):
            raise SettingsError(f"{key} = {value!r} is not searched: {COMPANY}")
    for condition in parameter.when:
        _check_condition(key, condition)


def _check_condition(key: str, condition: Condition) -> None:
    for name, values in condition.items():
        if without_switch(name) == COUNT:
            raise SettingsError(f"{key}.when.{name}: no condition; a stage's keys are drawn where it is there")
        _require_key(without_switch(name), f"{key}.when.")
        for value in values:
            if without_switch(name) == name:
                _require_value(name, value, f"{key}.when.")
            elif not isinstance(value, bool):
                raise SettingsError(f"{key}.when.{name} = {value!r}: must be true or false")


def _check_count(parameter: Parameter) -> None:
    """A number of stages, drawn whatever else is: what lies in a stage waits for it."""
    is_number = isinstance(parameter, Integer) and 1 <= parameter.low <= parameter.high <= MOST_STAGES
    if parameter.optional or parameter.when or not is_number:
        raise SettingsError(
            f"{COUNT}: must be {{ kind = 'int', low = 1, high = {MOST_STAGES} }} or narrower, and neither optional nor "
            "with a condition"
        )


def _require_key(key: str, prefix: str = "") -> None:
    if key == COUNT:
        return
    inside = key.partition(".")[2].partition(".")[2] if stage_of(key) >= 0 else key
    if stage_of(key) >= MOST_STAGES:
        raise SettingsError(f"{prefix}{key}: a space has at most {MOST_STAGES} stages, the first is stages.0")
    if stage_of(key) >= 0 and not inside.startswith(IN_STAGE):
        valid = [*(name for name in StageRecipe.model_fields if name not in ("name", "set")), "set.SECTION.KEY"]
    else:
        valid = [name for name in valid_keys() if inside == key or name.startswith(STAGE_SECTIONS)]
        inside = inside.removeprefix(IN_STAGE)
    if inside not in valid:
        raise SettingsError(f"{prefix}{key}: no key of a recipe; the nearest is {_like(key, inside, valid)}")


def _like(key: str, inside: str, valid: list[str]) -> str:
    """The nearest valid key, with the stage that the wrong one lies in."""
    return key.removesuffix(inside) + nearest(inside, valid)


def _require_value(key: str, value: Any, prefix: str = "") -> None:
    """Whether a recipe takes the value, all else being the default."""
    section, _, field = key.rpartition(".")
    given: dict[str, Any] = {field: value}
    if stage_of(key) >= 0 and IN_STAGE not in key:
        model, given = StageRecipe, {"until": 1.0} | given
    else:
        section = section.rpartition(f".{IN_STAGE}")[2]
        model = type(getattr(Recipe(), section)) if section else Recipe
    try:
        model.model_validate(given)
    except ValidationError as error:
        reason = complaint(error, SCHEDULES).message
        raise SettingsError(f"{prefix}{key} = {value!r}: a recipe does not take it ({reason})") from error


def _explain(error: ValidationError) -> str:
    first = complaint(error, tuple(KINDS))
    if not first.is_unknown:
        return first.line()
    fields = (
        Declared.model_fields
        if len(first.loc) == 1
        else {name for kind in KINDS.values() for name in kind.model_fields}
    )
    return f"{first.key}: unknown; the nearest valid key is {nearest(str(first.loc[-1]), fields)}"
