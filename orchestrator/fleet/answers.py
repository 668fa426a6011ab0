"""What a solver answers.

Owns: the records. Must not know: how a solver comes to them, what becomes of them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.elsewhere import StateElsewhere
from engine.slots import Attempt
from engine.trajectory import Trajectory
from orchestrator.fleet.under_way import UnderWay


@dataclass(frozen=True)
class SolverInfo:
    """What a solver actor holds.

    Attributes:
        fingerprint: of the weights as they are resident.
        device_name: as the driver calls it.
        end_reach: the largest margin that the token which ends a text can have, logits (`engine.reach`).
    """

    fingerprint: str
    hidden_size: int
    device_name: str
    dtype: str
    num_threads: int
    end_reach: float = math.inf


@dataclass(frozen=True)
class Shortage:
    """Memory ran out during a pass; the table is half as large from here on.

    Attributes:
        too_large: key of the attempt that was alone in the table, if one was and could not be passed in parts.
    """

    too_large: str | None


@dataclass(frozen=True)
class Advance:
    """What one call of `advance` did.

    Attributes:
        attempts: those that ended.
        num_slots: slots still in the table.
        num_steps: passes over the table.
        num_positions: positions passed forward and backward.
        seconds: wall time inside the call.
        table_positions: read positions of the table from here on.
        spent: positions that each attempt still under way has taken, by job key.
        checkpoints: what the attempts still under way can go on from, by job key, where it was asked for.
        making_s: seconds that making them took.
        given_back: keys of the attempts that were let go of, as asked; what they go on from is in `checkpoints`.
        shortage: memory ran out; the table is empty, its attempts' states are in `checkpoints`.
        longest: the attempts under way that have taken the most steps.
        trajectories: of the attempts that ended, by job key.
    """

    attempts: list[Attempt]
    num_slots: int
    num_steps: int
    num_positions: float
    seconds: float
    table_positions: int
    spent: dict[str, float] = field(default_factory=dict)
    checkpoints: Mapping[str, bytes | StateElsewhere] = field(default_factory=dict)
    making_s: float = 0.0
    given_back: tuple[str, ...] = ()
    shortage: Shortage | None = None
    longest: tuple[UnderWay, ...] = ()
    trajectories: dict[str, Trajectory] = field(default_factory=dict)
