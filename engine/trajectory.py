"""How the margins of a text's tokens moved over the steps of an attempt, within a bound.

Owns: which steps are kept, in how few bytes. Must not know: the solver, who looks at them.

T tokens. A frame is one byte a token: its margin in eighths of a logit, cut off at +-15.875.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

MOST_FRAMES = 32
"""Steps kept of one attempt: of twice as many every other one is dropped, and from there on every other one taken."""

SCALE, LARGEST = 8, 127


@dataclass
class Trajectory:
    """The frames of one attempt.

    Attributes:
        steps: at which they were measured.
        every: steps between two of them.
    """

    steps: list[int] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    every: int = 1
    _last: tuple[int, Tensor] | None = None

    def add(self, step: int, margin_T: Tensor) -> None:
        """A measurement; the tensor is kept until the next and must not be written into."""
        self._last = step, margin_T
        if step % self.every:
            return
        self._keep(step, margin_T)
        if len(self.steps) >= 2 * MOST_FRAMES:
            self.steps, self.frames, self.every = self.steps[::2], self.frames[::2], 2 * self.every

    def end(self) -> "Trajectory":
        """With the last measurement as its last frame."""
        if self._last is not None and (not self.steps or self.steps[-1] != self._last[0]):
            self._keep(*self._last)
        self._last = None
        return self

    def _keep(self, step: int, margin_T: Tensor) -> None:
        eighths_T = (torch.nan_to_num(margin_T.float(), nan=-LARGEST) * SCALE).round().clamp(-LARGEST, LARGEST)
        self.steps.append(step)
        self.frames.append(eighths_T.to(torch.int8).numpy().tobytes())
