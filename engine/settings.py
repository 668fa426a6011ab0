"""Settings told as `KEY=VALUE`, and one line for a key or a value that is refused.

Owns: reading such texts, the nearest valid key, what a validation error comes to. Must not know: recipes, strategies,
files, what any setting means.
"""

import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from rapidfuzz import fuzz

from engine.bounded_toml import parse_toml

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
"""What a message shows of a value: bounded in length and in depth."""


class SettingsError(ValueError):
    """Settings that cannot be used; the message names key, value and remedy."""


@dataclass(frozen=True)
class Complaint:
    """What is wrong with the first value that a model refused.

    Attributes:
        loc: keys from the outside in, branches of unions left out.
        value: what was given; the values around it where a key is unknown or missing.
        message: pydantic's, or ours where a validator raised it.
        is_unknown: whether there is no such key.
        cause: what a validator of ours raised, or None.
    """

    loc: tuple[Any, ...]
    value: Any
    message: str
    is_unknown: bool
    cause: ValueError | None

    @property
    def key(self) -> str:
        return ".".join(str(part) for part in self.loc)

    def line(self, prefix: str = "") -> str:
        """Key, value and remedy; a complaint about all values together has no key."""
        if not self.loc:
            return f"{prefix.rstrip('.')}: {self.message}".lstrip(": ")
        return f"{prefix}{self.key} = {_shown(self.value)}: {self.message}"


def override(values: dict[str, Any], told: Iterable[str], *, example: str, flag: str = "--set") -> dict[str, Any]:
    """`values` with every `key=value` of `told` put in its place, dotted keys reaching into sections.

    Args:
        values: nested by section; changed in place.
        told: TOML values; anything that is not one is taken as a bare string (`loss.name=cross_entropy`).
        example: a right one, for the message.
        flag: that they were given with, likewise.
    Raises:
        SettingsError: no `=`, or a key that reaches into a value.
    """
    for text in told:
        key, separator, value = text.partition("=")
        if not separator or not key.strip():
            raise SettingsError(f"{flag} {text}: must be key=value, for example {flag} {example}")
        *sections, last = key.strip().split(".")
        section = values
        for name in sections:
            section = section.setdefault(name, {})
            if not isinstance(section, dict):
                raise SettingsError(f"{flag} {text}: {name} is a value, not a section")
        section[last] = _parse_value(value.strip())
    return values


def keys_of(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key a settings class takes."""
    keys = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += keys_of(section, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def nearest(key: str, valid: Iterable[str]) -> str:
    """The valid key most like a wrong one. Partial matches count, so that learning_rate finds lr."""
    return max(valid, key=lambda candidate: fuzz.WRatio(key, candidate))


def complaint(error: ValidationError, branches: Sequence[str] = ()) -> Complaint:
    """The first key's complaint; of a union's branches the one that got furthest into the value.

    Args:
        error: what a settings class raised.
        branches: tags of its unions, which pydantic puts among the keys.
    """

    def keys(one: Any) -> tuple[Any, ...]:
        return tuple(part for part in one["loc"] if _is_key(part, branches))

    errors: list[Any] = list(error.errors())
    first = keys(errors[0])
    same = [one for one in errors if keys(one)[: len(first)] == first]
    deepest = max(same, key=lambda one: (len(one["loc"]), one["type"].startswith("union_tag")))
    cause = deepest.get("ctx", {}).get("error")
    return Complaint(
        loc=keys(deepest),
        value=deepest["input"],
        message=deepest["msg"].removeprefix("Value error, "),
        is_unknown=deepest["type"] == "extra_forbidden",
        cause=cause if isinstance(cause, ValueError) else None,
    )


def _parse_value(text: str) -> Any:
    try:
        values = parse_toml(f"value = {text}")
    except ValueError:
        return text
    return values["value"] if len(values) == 1 else text  # else it held a line break and more keys


def _shown(value: Any) -> str:
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number too long to show"


def _is_key(part: Any, branches: Sequence[str]) -> bool:
    """Whether part of an error's location is a key of ours, and not a branch of a union."""
    return part not in ("int", "constrained-int", "float", *branches) and not str(part).startswith(
        ("literal[", "tagged-union[")
    )
