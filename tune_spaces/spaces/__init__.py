"""Search spaces: which values of a recipe are searched, in which ranges, under which conditions; and presets."""

from tune_spaces.spaces.named import SPACES, space
from tune_spaces.spaces.presets import Preset, preset
from tune_spaces.spaces.space import Space

__all__ = ["SPACES", "Preset", "Space", "preset", "space"]
