"""The trajectories of the attempts in a solver's table.

Owns: whose are kept while they are under way. Must not know: what becomes of them.
"""

from collections.abc import Iterable

from torch import Tensor
from torch.nn.functional import pad

from engine.slots import Slot
from engine.trajectory import LARGEST, Trajectory


class Followed:
    """Attempts by key; calibrations and probes in the same table are not followed."""

    def __init__(self) -> None:
        self._siblings: dict[str, dict[int, tuple[Slot, Trajectory]]] = {}

    def begin(self, key: str) -> None:
        """Follow an attempt from here on."""
        self._siblings[key] = {}

    def measured(self, slot: Slot, margin_T: Tensor) -> None:
        """Told by the solver at every step of every slot."""
        siblings = self._siblings.get(slot.job.key)
        if siblings is not None:
            _, trajectory = siblings.setdefault(slot.sibling, (slot, Trajectory()))
            missing = len(slot.target_T) - len(margin_T)
            trajectory.add(slot.step, pad(margin_T, (0, missing), value=-LARGEST) if missing else margin_T)

    def take(self, key: str) -> dict[str, Trajectory]:
        """The trajectory of an attempt that ended, no longer followed: its best sibling's, whose prompt is kept."""
        siblings = [sibling for _, sibling in sorted(self._siblings.pop(key, {}).items())]
        if not siblings:
            return {}
        _, trajectory = max(siblings, key=lambda sibling: sibling[0].rank)
        return {key: trajectory.end()}

    def forget(self, keys: Iterable[str]) -> None:
        """Attempts that went elsewhere."""
        for key in keys:
            self._siblings.pop(key, None)
