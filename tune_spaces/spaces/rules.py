"""The recipe's rules between fields, kept in every draw.

Owns: what is changed, or drawn as well, where values that were drawn apart contradict each other. Must not know:
which values those are.
"""

from engine.recipe.sections import LIKELIHOODS
from tune_spaces.spaces.draw import Draw

REWARDS = ("reinforce", "rloo")


def settle(draw: Draw) -> None:
    """Make the values one recipe."""
    if draw["curriculum.growth"] != "none":
        draw.set("stages", [])  # both say which prefix is trained
    for place in places(draw):
        if draw[f"{place}loss.name"] not in LIKELIHOODS and draw[f"{place}loss.margin"] < draw["stop_margin"]:
            draw.set(f"{place}loss.margin", draw["stop_margin"])
    reward_for_mixer(draw)


def places(draw: Draw) -> list[str]:
    """Prefixes of the keys that say what an attempt does: outside stages, and in each stage."""
    return ["", *(f"stages.{number}.set." for number in range(len(draw["stages"])))]


def reward_for_mixer(draw: Draw) -> None:
    """Draw a weight for RLOO wherever MIXER stands without a reward to learn its tail from."""
    for place in places(draw):
        if draw[f"{place}context.name"] == "mixer" and not any(draw.is_on(f"{place}terms.{name}") for name in REWARDS):
            draw.number(f"{place}terms.rloo", 0.01, 1.0, log=True)
