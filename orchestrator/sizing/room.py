"""Room from the work: how long a corpus's texts get with their prompts, and what memory its run is given by that.

Owns: the served length, and what follows from it for solvers and verifier. Must not know: actors, optimisation.

The served length is the number of positions that the verifier reads at most, vLLM's `max_model_len`. It is not the
model's context, for which an engine would set memory aside, but what the cache holds that these texts need. A bounded
part of a corpus is looked at; a text that comes later and is longer than the cache holds ends with a reason.

A model with long-rope reads with other factors beyond its original context, so its served length stays on the side on
which the texts are, and solver and verifier are told the same.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import ray

from engine.capacity import LENGTHS
from engine.footprint import Footprint
from engine.model_source import ModelSource
from engine.recipe import Recipe
from orchestrator.cluster.nodes import Node, memory_of, nodes
from orchestrator.console.errors import UserError
from orchestrator.corpus.intake import Accepted, Taken
from orchestrator.process.memory import Memory
from orchestrator.sizing.placement import Placement, place_judge
from orchestrator.sizing.sharing import Need, Sharing, Tenants, share
from orchestrator.verifiers.cache import Cache
from orchestrator.verifiers.contract import SLACK_TOKENS
from orchestrator.work.retry import most_vectors

LOOK_ROWS = 10_000
LOOK_S = 3.0
"""Rows and seconds after which enough of a corpus has been looked at. Assumption."""


@dataclass(frozen=True)
class Room:
    """What a run is given.

    Attributes:
        placement: with the served length, the size of the solvers' tables and their bound.
        cache: the verifier's.
        memory_frac: share of its card that must be free when the verifier has it.
    """

    placement: Placement
    cache: Cache
    memory_frac: float

    @property
    def served_length(self) -> int:
        """Positions of a soft prompt, its target and what is decoded past it, at most."""
        assert self.placement.served_length is not None, "found together with the room"
        return self.placement.served_length


def need_of_corpus(taken: Iterable[Taken], recipe: Recipe) -> Need:
    """What the first rows of a corpus ask for under a recipe.

    Where K is found by calibration it is not known yet: at most a vector a token, by how calibration is made.
    """
    until = time.monotonic() + LOOK_S
    lengths: list[int] = [max(LENGTHS)]  # the engines are compared on samples of that length
    for item in islice(taken, LOOK_ROWS):
        if isinstance(item, Accepted):
            lengths.append(len(item.job.target.token_ids))
        if time.monotonic() > until:
            break

    def vectors(num_tokens: int) -> int:
        return num_tokens if recipe.num_vectors == "auto" else recipe.num_vectors

    longest = max(lengths)
    typical = sum(length + vectors(length) for length in lengths) / len(lengths)
    return Need(
        longest=longest + vectors(longest) + SLACK_TOKENS,
        grown=longest + most_vectors(vectors(longest), recipe) + SLACK_TOKENS,
        typical=math.ceil(typical) + SLACK_TOKENS,
    )


def need_of_stored(lengths: Sequence[int]) -> Need:
    """What stored prompts ask for, from the positions of each with its target."""
    longest = max(lengths) + SLACK_TOKENS
    return Need(longest, longest, math.ceil(sum(lengths) / len(lengths)) + SLACK_TOKENS)


def judges_room(source: ModelSource, dtype: str, context: int, served: int | None, need: Need) -> Room:
    """Room for stored prompts and a verifier with nobody beside it; Ray must be connected.

    Args:
        served: length that the run which made them was served with, or None.
    Raises:
        UserError: the model does not fit, or not as that run was served.
    """
    placement = place_judge(ray.cluster_resources().get("GPU", 0))
    return make_room(Tenancy(source, placement, dtype, dtype, served), nodes(), need, Footprint.of(source, context))


@dataclass(frozen=True)
class Tenancy:
    """What a command loads.

    Attributes:
        dtype: of the solvers.
        engine_dtype: of the verifier.
        served_length: of the run that this goes on with, or None.
    """

    source: ModelSource
    placement: Placement
    dtype: str
    engine_dtype: str
    served_length: int | None = None


def make_room(tenancy: Tenancy, up: Sequence[Node], need: Need, footprint: Footprint) -> Room:
    """Look at the memory there is and share it; Ray must be connected.

    Raises:
        UserError: the model does not fit; nothing has been loaded.
    """
    return room_in(memory_of(up, tenancy.placement.device), tenancy, len(up), need, footprint)


def room_in(memory: Memory, tenancy: Tenancy, num_nodes: int, need: Need, footprint: Footprint) -> Room:
    """The room that cards, or machines, of this memory have.

    Raises:
        UserError: the model does not fit, or not as the run that goes on was served.
    """
    placement = tenancy.placement
    if footprint.original_context is not None and tenancy.served_length is not None:
        need = replace(need, longest=max(need.longest, tenancy.served_length))
    sharings: list[tuple[Tenants, Sharing]] = []
    for num_solvers, num_verifiers in placement.company(num_nodes):
        tenants = Tenants(
            tenancy.source.name,
            num_solvers,
            tenancy.dtype,
            tenancy.engine_dtype if num_verifiers else None,
            placement.table_positions or None,
            max(1, num_verifiers),
        )
        sharings.append((tenants, share(memory, placement.device, footprint, need, tenants)))
    solvers = [sharing for tenants, sharing in sharings if tenants.num_solvers]
    verifier = next(sharing for _, sharing in sharings if sharing.cache)
    assert verifier.cache is not None
    return Room(
        placement=replace(
            placement,
            served_length=_served(verifier.cache, need, footprint, tenancy),
            table_positions=min((sharing.table_positions for sharing in solvers), default=0),
            kept_positions=min((sharing.kept_positions for sharing in solvers), default=0),
            solver_bytes=min((sharing.solver_bytes for sharing in solvers), default=0),
            is_budget_fixed=placement.table_positions > 0,
        ),
        cache=verifier.cache,
        memory_frac=verifier.engine_frac,
    )


def _served(cache: Cache, need: Need, footprint: Footprint, tenancy: Tenancy) -> int:
    original, asked = footprint.original_context, tenancy.served_length
    limit = footprint.context
    if original is not None and (asked or need.longest) <= original:
        limit = min(limit, original)
    served = min(asked or limit, limit, cache.positions)
    if original is not None and asked is not None and (served > original) != (asked > original):
        raise UserError(
            f"--model {tenancy.source.name}: its run was served {asked} positions, beyond the {original} up to which "
            f"this model reads with other frequencies, and there is memory for {served}; take a larger card or machine"
        )
    return served
