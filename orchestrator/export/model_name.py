"""What others call the model of a run.

Owns: names of models on the hub, and where they can be loaded from here. Must not know: formats.
"""

from pathlib import Path

from engine.model_source import NAMED, ModelSource

HUB = {"smollm2": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Models that are called otherwise here. The weights of a package may be rounded otherwise than the hub's."""


def hub_name(name: str) -> str | None:
    """The model's name on the hub; None where it is a folder, or comes with this project or a package alone."""
    return None if name in NAMED or Path(name).exists() else name


def ancestor(name: str) -> str | None:
    """The hub's model that this is or was made from."""
    return HUB.get(name) or hub_name(name)


def loadable(name: str) -> str:
    """A folder from which transformers loads it on this machine."""
    return str(ModelSource(name).path)
