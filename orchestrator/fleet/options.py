"""What a command that starts solvers and a verifier is told about them.

Owns: those options, their checks, what follows from them for the verifier. Must not know: what the fleet works on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.footprint import Footprint
from engine.frozen_lm import DTYPES
from engine.model_source import ModelSource
from orchestrator.cluster.nodes import Node
from orchestrator.console.errors import UserError
from orchestrator.fleet.verifier_actor import ENGINES, EngineSpec
from orchestrator.fleet.worker import LEASE_S
from orchestrator.sizing.placement import Placement
from orchestrator.sizing.room import Room, Tenancy, make_room
from orchestrator.sizing.sharing import Need


@dataclass(frozen=True, kw_only=True)
class FleetOptions:
    """The models, where they run, and how long they may take.

    Attributes:
        address: of a Ray cluster; None is Ray in this process.
        solvers: solver actors; None is one a GPU, or what the command takes on processors.
        verifiers: verifier actors; None is one, and more on a cluster where candidates wait.
        solver_gpus: GPUs of each solver; None is chosen by what the cluster has.
        table_positions: read positions in a solver's table; None is chosen by device.
        dtype: solver's numerics; None is float32 on a CPU and bfloat16 on a GPU.
        engine: who verifies.
        engine_dtype: verifier's numerics; None is the solver's.
        lease_s: seconds an actor may take over one call before it is replaced.
    """

    source: ModelSource = ModelSource()
    address: str | None = None
    solvers: int | None = None
    verifiers: int | None = None
    solver_gpus: float | None = None
    table_positions: int | None = None
    dtype: str | None = None
    engine: str = "vllm"
    engine_dtype: str | None = None
    dashboard: bool = True
    lease_s: float = LEASE_S

    def require_known(self) -> None:
        """Refuse engines and numerics that are not there.

        Raises:
            UserError: names the flag, its value and what it may be.
        """
        if self.engine not in ENGINES:
            raise UserError(f"--engine {self.engine}: must be one of {', '.join(ENGINES)}")
        for flag, dtype in (("--dtype", self.dtype), ("--verify-dtype", self.engine_dtype)):
            if dtype is not None and dtype not in DTYPES:
                raise UserError(f"{flag} {dtype}: must be one of {', '.join(DTYPES)}")

    def room(
        self, placement: Placement, nodes: Sequence[Node], need: Need, context: int, served: int | None = None
    ) -> Room:
        """What memory these models have and how long their texts may be; Ray must be connected.

        Args:
            need: of the texts.
            context: of the model, in positions.
            served: length that the run which goes on was served with, or None.
        Raises:
            UserError: they do not fit; nothing has been loaded.
        """
        dtype = self.dtype or placement.dtype
        tenancy = Tenancy(self.source, placement, dtype, self.engine_dtype or dtype, served)
        return make_room(tenancy, nodes, need, Footprint.of(self.source, context))

    def engine_spec(self, room: Room, dtype: str) -> EngineSpec:
        """The verifier beside solvers that compute in `dtype`."""
        return EngineSpec(
            engine=self.engine,
            model=self.source.name,
            revision=self.source.revision,
            dtype=self.engine_dtype or dtype,
            context=room.served_length,
            device=room.placement.device,
            memory_frac=room.memory_frac,
            cache=room.cache,
        )
