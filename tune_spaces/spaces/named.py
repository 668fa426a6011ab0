"""The named spaces, and finding one by name or path.

Owns: the list. Must not know: what is in a space.
"""

from pathlib import Path

from engine.settings import SettingsError, nearest
from tune_spaces.spaces.curriculum import curriculum
from tune_spaces.spaces.files import load_space
from tune_spaces.spaces.full import full
from tune_spaces.spaces.losses import losses
from tune_spaces.spaces.space import Space

SPACES: dict[str, Space] = {
    "quick": load_space(Path(__file__).with_name("quick.toml"), "quick"),
    "losses": Space("losses", losses),
    "curriculum": Space("curriculum", curriculum),
    "full": Space("full", full),
}


def space(name_or_path: str) -> Space:
    """A named space, or a declared one from a TOML file.

    Raises:
        SettingsError: neither; the nearest name is offered.
    """
    if name_or_path in SPACES:
        return SPACES[name_or_path]
    if name_or_path.endswith(".toml"):
        return load_space(Path(name_or_path))
    names, near = ", ".join(SPACES), nearest(name_or_path, SPACES)
    raise SettingsError(f"space {name_or_path}: must be one of {names}, or a .toml file; the nearest is {near}")
