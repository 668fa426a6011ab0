"""What a training goes on from, in the folder that it writes.

Owns: the file, what is refused when it is another training's. Must not know: how training works, what is shown.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.correction.folder import load_tensors, save_correction, save_tensors
from engine.correction.trainer import Trainer
from orchestrator.console.errors import UserError

NAME = "training.safetensors"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        seconds: of training, earlier calls included.
        curve: points with `seconds`, `steps`, `positions`, `nats` of the batches since the last one and, by round,
            the held-out `rounds`.
    """

    seconds: float = 0.0
    curve: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Identity:
    """What must be the same for a training to go on.

    Attributes:
        begun_with: digest of the networks that it took over; empty where it began with none.
    """

    fingerprint: str
    texts: str
    settings: dict[str, Any]
    begun_with: str = ""


def save(folder: Path, trainer: Trainer, identity: Identity, progress: Progress) -> str:
    """Write the networks as they are to be used and what the training goes on from; the digest of the first."""
    digest = save_correction(folder, trainer.averaged, trainer.lm)
    save_tensors(folder / NAME, trainer.state_dict(), asdict(identity) | asdict(progress))
    return digest


def resume(folder: Path, trainer: Trainer, identity: Identity) -> Progress:
    """Have the trainer go on where the folder's training stopped; from the start where there is none.

    Raises:
        UserError: the folder holds another training, or something else.
    """
    path = folder / NAME
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"--out {folder}: holds something that is no training; choose another folder")
        return Progress()
    tensors, told = load_tensors(path)
    for name, value in asdict(identity).items():
        if told.get(name, "") != value:
            raise UserError(
                f"--out {folder}: holds a training with {name} = {told.get(name)}, and this one has {value}; "
                "choose another folder, or give what it was begun with"
            )
    trainer.load_state_dict(tensors)
    return Progress(float(told["seconds"]), list(told["curve"]))
