"""A recipe of two stages for the tests of recipes."""

from pathlib import Path

from engine.recipe import Recipe, load_recipe

STAGES = """
stop_margin = 0.5
[loss]
margin = 1.0
[optim]
lr = 0.25
beta1 = 0.25
[[stages]]
until = 0.25
length_frac = 0.5
[stages.set.optim]
lr = 0.5
[[stages]]
until = 1.0
[stages.set]
{last}
"""


def staged(tmp_path: Path, last: str = "") -> Recipe:
    """Two stages; `last` is what the second changes."""
    path = tmp_path / "recipe.toml"
    path.write_text(STAGES.format(last=last))
    return load_recipe(path)
