"""The fingerprint of a search space: what it follows, and what it does not."""

import os
import subprocess
import sys
from pathlib import Path

from tune_spaces.spaces import SPACES, Space
from tune_spaces.spaces.draw import Draw

ROOT = Path(__file__).parents[2]


def test_a_fingerprint_is_the_same_in_another_process_which_loads_no_model_code():
    code = (
        "import sys; from tune_spaces.spaces import SPACES; "
        "print([space.fingerprint for space in SPACES.values()], {'torch', 'ray'} & set(sys.modules))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    ).stdout
    fingerprints = [space.fingerprint for space in SPACES.values()]
    assert said.strip() == f"{fingerprints} set()"
    assert len(set(fingerprints)) == len(SPACES) and all(len(value) == 16 for value in fingerprints)


def test_the_fingerprint_of_a_function_follows_ranges_conditions_and_what_is_made_of_values():
    def plain(draw: Draw) -> None:
        if draw.choice("optim.name", ("adam", "sgd")) == "adam":
            draw.number("optim.beta2", 0.5, 0.9)

    def wider(draw: Draw) -> None:
        if draw.choice("optim.name", ("adam", "sgd")) == "adam":
            draw.number("optim.beta2", 0.5, 0.99)

    def elsewhere(draw: Draw) -> None:
        if draw.choice("optim.name", ("adam", "sgd")) == "sgd":
            draw.number("optim.beta2", 0.5, 0.9)

    def otherwise(draw: Draw) -> None:
        plain(draw)
        draw.set("optim.beta1", 0.5)

    def copied(draw: Draw) -> None:
        plain(draw)

    prints = {space.__name__: Space("one", space).fingerprint for space in (plain, wider, elsewhere, otherwise, copied)}
    assert prints["plain"] == prints["copied"] and len(set(prints.values())) == 4
