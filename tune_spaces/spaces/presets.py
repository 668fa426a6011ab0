"""Presets: the settings of a whole search by name or from a TOML file.

Owns: their fields and defaults, reading them. Must not know: how a search goes.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from engine.settings import SettingsError, complaint, keys_of, nearest
from engine.strict import Strict
from engine.toml import read_toml

FOLDER = Path(__file__).parents[1] / "presets"


class Preset(Strict):
    """Settings of a search; what a file leaves out is the default here."""

    space: str = Field(default="quick", description="named space, or a .toml file")
    trials: int = Field(default=40, ge=1, le=100_000, description="recipes tried, the base recipe's own among them")
    texts: int = Field(default=16, ge=2, le=10_000, description="texts that trials are compared on")
    hold_out: int = Field(default=32, ge=0, le=10_000, description="other texts, for the winner against the default")
    budget: float = Field(default=150, ge=1, description="passes over a text before a trial gives it up")
    objective: Literal["cost", "pareto", "capacity"] = Field(
        default="cost", description="what counts: cost; cost and margin; or the longest exact prefix at the budget"
    )
    sampler: Literal["tpe", "random"] = Field(default="tpe", description="how the next recipe is chosen")
    stopping: Literal["wilcoxon", "asha", "median", "none"] = Field(
        default="wilcoxon", description="when a trial is given up before its last text"
    )


def preset(name_or_path: str, **asked: object) -> Preset:
    """A preset of this folder by name, or one from a TOML file.

    Args:
        asked: values that replace the file's; None is not asked for.
    Raises:
        SettingsError: neither, an unknown key, a value out of range.
    """
    told = {key: value for key, value in asked.items() if value is not None}
    try:
        return Preset.model_validate(read_toml(_file(name_or_path), "preset") | told)
    except ValidationError as error:
        first = complaint(error)
        if first.is_unknown:
            near = nearest(first.key, keys_of(Preset))
            raise SettingsError(f"preset {name_or_path}: {first.key}: unknown; the nearest is {near}") from error
        raise SettingsError(f"preset {name_or_path}: {first.line()}") from error


def preset_names() -> list[str]:
    """Names of the presets of this folder."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _file(name_or_path: str) -> Path:
    if name_or_path in preset_names():
        return FOLDER / f"{name_or_path}.toml"
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    names, near = ", ".join(preset_names()), nearest(name_or_path, preset_names())
    raise SettingsError(f"preset {name_or_path}: must be one of {names}, or a .toml file; the nearest is {near}")
