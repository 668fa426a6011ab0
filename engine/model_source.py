"""Where a frozen model comes from, and the one error that says it cannot be had.

Owns: names, paths. Must not know: transformers, what a model is made of.
"""

from dataclasses import dataclass
from pathlib import Path

from engine.pocket import PATH as POCKET_PATH

NAMED = ("pocket", "smollm2")
"""Models that come with this project or out of a package: neither folders nor names of a hub."""


class ModelError(ValueError):
    """The model cannot be loaded or is not one this engine can invert."""


@dataclass(frozen=True)
class ModelSource:
    """Where a frozen model comes from, and the one error that says it cannot be had.

    Attributes:
        name: local folder, hub name, `pocket` for the embedded model, or `smollm2` for the one out of a package.
        revision: hub commit, tag or branch; None is the hub's default branch.
    """

    name: str = "pocket"
    revision: str | None = None

    @property
    def path(self) -> str:
        """What `from_pretrained` is given, on this machine: `smollm2` is made at first use.

        Checks a local folder before anything heavy is loaded.

        Raises:
            ModelError: a folder without a model, or `smollm2` without its package.
        """
        if self.name == "pocket":
            return str(POCKET_PATH)
        if self.name == "smollm2":
            from engine.smollm2 import smollm2_folder

            return str(smollm2_folder())
        folder = Path(self.name).expanduser()
        if not folder.exists() and not self.name.startswith((".", "/", "~")):
            return self.name
        from engine.weight_files import check_folder

        try:
            check_folder(folder)
        except ModelError as error:
            raise ModelError(f"--model {self.name}: {error}") from error
        return str(folder)
