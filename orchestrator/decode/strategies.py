"""Decoding strategies by name, with settings from `--set`.

Owns: what `--strategy` and `--set STRATEGY.KEY=VALUE` come to. Must not know: how a strategy decodes.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from engine.decoding import STRATEGIES, Strategy
from engine.settings import complaint, keys_of, nearest, override
from orchestrator.console.errors import UserError

ALL = "all"
EXAMPLE = "beam.width=8"


def choose(names: Sequence[str], told: Sequence[str]) -> dict[str, Strategy]:
    """The strategies asked for, in the order asked for.

    Args:
        names: of strategies, or `all`.
        told: `STRATEGY.KEY=VALUE` with TOML values.
    Raises:
        UserError: unknown strategy or key (nearest valid one offered), value out of range, settings of a strategy
            that is not asked for.
    """
    for name in names:
        if name not in STRATEGIES and name != ALL:
            raise UserError(f"--strategy {name}: must be one of {', '.join(STRATEGIES)} or {ALL}")
    chosen = list(STRATEGIES) if ALL in names else list(dict.fromkeys(names))
    values = override({}, told, example=EXAMPLE)
    for name, settings in values.items():
        if not isinstance(settings, dict):
            raise UserError(f"--set {name}: must be STRATEGY.KEY=VALUE, for example --set {EXAMPLE}")
        if name not in STRATEGIES:
            raise _unknown(f"{name}.{next(iter(settings))}")
        if name not in chosen:
            raise UserError(f"--set {name}.{next(iter(settings))}: {name} is not asked for; add --strategy {name}")
    return {name: _make(name, values.get(name, {})) for name in chosen}


def _make(name: str, settings: dict[str, Any]) -> Strategy:
    try:
        return STRATEGIES[name].model_validate(settings)
    except ValidationError as error:
        first = complaint(error)
        if first.is_unknown:
            raise _unknown(f"{name}.{first.key}") from error
        raise UserError(f"--set {first.line(f'{name}.')}") from error


def _unknown(key: str) -> UserError:
    valid = [known for name, strategy in STRATEGIES.items() for known in keys_of(strategy, f"{name}.")]
    settable = [known for known in valid if known.count(".") > 1 or not known.endswith(".name")]
    return UserError(f"--set {key}: unknown; the nearest valid key is {nearest(key, settable)}")
