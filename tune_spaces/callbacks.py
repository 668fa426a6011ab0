"""Ray's own callbacks, by name: where a search's figures are shown besides its own report.

Owns: which there are, what each needs, where files go. Must not know: trials, studies.

A trial's figures go out at every report, with what was drawn as its configuration. W&B and MLflow take project,
address and keys from their own environment variables: WANDB_PROJECT_NAME, WANDB_API_KEY, WANDB_MODE;
MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ray.tune import Callback

from engine.settings import nearest
from orchestrator.console.errors import UserError

PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}
"""Callbacks by name, with the package that each imports."""

EVENTS = "tensorboard"
"""Folder of TensorBoard's files in a search's folder: `tensorboard --logdir DIR/tensorboard`."""


def require_callbacks(names: Sequence[str]) -> None:
    """Refuse what cannot be, before anything is started.

    Raises:
        UserError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in PACKAGES:
            known = ", ".join(PACKAGES)
            raise UserError(f"--callback {name}: must be of {known}; the nearest is {nearest(name, PACKAGES)}")
        if find_spec(PACKAGES[name]) is None:
            raise UserError(f"--callback {name}: needs a package that is not there; pip install {PACKAGES[name]}")


def make_callbacks(names: Sequence[str], search: str) -> list[Callback]:
    """The callbacks, as Ray Tune takes them.

    Args:
        search: what the search is called where several are shown.
    """
    made: list[Callback] = []
    if "tensorboard" in names:
        from ray.tune.logger import TBXLoggerCallback

        made.append(TBXLoggerCallback())
    if "wandb" in names:
        from ray.air.integrations.wandb import WandbLoggerCallback

        made.append(WandbLoggerCallback(project=os.environ.get("WANDB_PROJECT_NAME", "verbatim"), group=search))
    if "mlflow" in names:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        made.append(MLflowLoggerCallback(experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", search)))
    return made


@contextmanager
def trials_folder(names: Sequence[str], folder: Path) -> Iterator[str]:
    """Where Ray Tune keeps a folder for each trial: in the search's own for TensorBoard, else one that passes."""
    if "tensorboard" in names:
        try:
            yield str((folder / EVENTS).resolve())
        finally:
            _keep_events(folder / EVENTS)
        return
    with tempfile.TemporaryDirectory(prefix="verbatim-tune-") as passing:
        yield passing


def _keep_events(folder: Path) -> None:
    """Remove what Ray keeps beside TensorBoard's files: the study is the state, and nobody reads Ray's pickles."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.name.startswith("events.out.tfevents."):
            path.unlink(missing_ok=True)
