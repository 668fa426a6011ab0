"""How what a folder was made with differs from what is asked for now.

Owns: the comparison of nested values. Must not know: which values, what follows.
"""

from collections.abc import Mapping
from typing import Any

ABSENT = "absent"


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Where two nested mappings differ: `a.b: old -> new`, a number that became a schedule part by part."""
    old, new = _flat(then), _flat(now)
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key}: {old.get(key, ABSENT)} -> {new.get(key, ABSENT)}"
        for key in keys
        if (key in old) != (key in new) or old[key] != new[key]
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
