"""Who gets how much of a card, or of a machine's memory, decided before anything is loaded.

Owns: the sizes of a solver's table and bound and of the verifier's cache. Must not know: Ray, corpora, who asks.

    free = reserve + solvers x (process + weights + table) + verifier (process + weights + workspace + cache)

The sum is kept to whoever starts first: the solver cannot take more than its bound, and the verifier's cache is told to
it in bytes, so that neither measures what the other happens to hold. Estimates err on the side of too much; on a GPU
the table is set anew from what its first passes are seen to take.
"""

from dataclasses import dataclass

from engine.footprint import Footprint
from engine.head import CHUNK_ELEMENTS, CHUNK_ELEMENTS_ON_DEVICE
from orchestrator.console.errors import UserError
from orchestrator.process.memory import GIB, Memory
from orchestrator.verifiers.cache import BLOCK, JUDGED_AT_ONCE, PASS_POSITIONS, Cache, rounded

JUDGED_AT_ONCE_WITH_STATE = 16
"""The same where recurrent layers keep a state for each. Assumption."""

CACHE_SLACK = 1.1
"""What rounding to pages and groups of layers takes beside the positions themselves. Assumption."""

LEAST_POSITIONS = 256
"""Positions of the smallest table and the smallest cache that are worth a start. Assumption."""

LOGITS_BYTES = {"cpu": 3 * 4 * CHUNK_ELEMENTS, "cuda": 3 * 4 * CHUNK_ELEMENTS_ON_DEVICE}
"""A chunk of logits and two more of its size, held during a solver's pass."""

ENGINE_LOGITS_BYTES = 2 * 4 * CHUNK_ELEMENTS
"""Of a verifier, which has no gradient."""


@dataclass(frozen=True)
class Kind:
    """What a device takes beside weights and positions.

    Attributes:
        context: bytes that a process takes as soon as it has the device.
        solver_process, verifier_process: bytes of a process before it holds a model, its context among them; the
            workspace of the verifier's passes comes to it.
        spread: what the allocator takes for a byte that is asked for.
        reserve_frac: share of all memory that nobody is given.
        most_positions: of a solver's table.
        cache_bytes: of a verifier's cache, where its longest text does not need more.
        remedies: for a sum that does not fit.
    """

    context: int
    solver_process: int
    verifier_process: int
    spread: float
    reserve_frac: float
    most_positions: int
    cache_bytes: int
    remedies: str


KINDS = {
    # Spread and processes measured on the embedded model and SmolLM2, 2026-11-25; a table of more than 1,536 leaves
    # the caches, LOG 2026-11-21.
    "cpu": Kind(
        context=0,
        solver_process=GIB,
        verifier_process=2 * GIB,
        spread=1.7,
        reserve_frac=0.02,
        most_positions=1536,
        cache_bytes=GIB,
        remedies="take a machine with more memory or a smaller model",
    ),
    # Assumptions: a context of 0.6 GiB, as much again for vLLM's own buffers; more than 16 k positions a pass fill no
    # card better.
    "cuda": Kind(
        context=int(0.6 * GIB),
        solver_process=int(0.6 * GIB),
        verifier_process=int(1.2 * GIB),
        spread=1.2,
        reserve_frac=0.02,
        most_positions=16384,
        cache_bytes=8 * GIB,
        remedies="take a card with more memory or a smaller model, or compute on processors with --solver-gpus 0",
    ),
}


@dataclass(frozen=True)
class Need:
    """What texts ask of the verifier, in positions: soft prompt, target and what is decoded past it.

    Attributes:
        longest: of the longest text at its first attempt.
        grown: of the longest text when K has grown as often as it may.
        typical: of a text on average.
    """

    longest: int
    grown: int
    typical: int


@dataclass(frozen=True)
class Sharing:
    """What one card or machine gives to those on it.

    Attributes:
        table_positions: read positions of each solver's table.
        kept_positions: of the largest pass that holds all that backward needs; a larger one computes it again.
        solver_bytes: what each solver may take, its context aside; 0 where there is none.
        cache: of the verifier; None where there is none.
        verifier_bytes: all that a verifier takes.
        engine_frac: share of all memory that a verifier takes once it has the device.
    """

    table_positions: int
    kept_positions: int
    solver_bytes: int
    cache: Cache | None
    verifier_bytes: int
    engine_frac: float


@dataclass(frozen=True)
class Tenants:
    """Who is on one card or machine.

    Attributes:
        model: its name, for a refusal.
        dtype: of the solvers.
        engine_dtype: of the verifiers; None where none is here.
        table_positions: asked for, or None.
    """

    model: str
    num_solvers: int
    dtype: str
    engine_dtype: str | None
    table_positions: int | None = None
    num_verifiers: int = 1


def share(memory: Memory, device: str, footprint: Footprint, need: Need, tenants: Tenants) -> Sharing:
    """Give everybody the least that they need, then the verifier's cache what a batch takes, then the tables the rest.

    Args:
        memory: of the card or machine before anything is loaded.
        device: `cpu` or `cuda`.
        footprint: of the model.
        need: of the texts.
        tenants: who shares it.
    Raises:
        UserError: they do not fit; what is needed and what there is.
    """
    kind = KINDS[device]
    free = memory.free - int(kind.reserve_frac * memory.total)
    position = int(kind.spread * footprint.training_bytes_a_position(tenants.dtype, need.typical))
    passing = LOGITS_BYTES[device] + LEAST_POSITIONS * position
    solver = footprint.weights_bytes(tenants.dtype) + max(passing, 2 * footprint.embedding_bytes)
    solvers = tenants.num_solvers * (kind.solver_process + solver)
    verifiers = tenants.num_verifiers
    smallest = cache_of(footprint, tenants.engine_dtype, LEAST_POSITIONS)
    least = verifiers * _verifier_bytes(kind, footprint, tenants, smallest)
    if solvers + least > free:
        raise UserError(_refusal(memory, kind, footprint, tenants, solvers + least))
    left = free - solvers - least
    cache = _widest_cache(kind, footprint, need, tenants.engine_dtype, left // verifiers)
    verifier = _verifier_bytes(kind, footprint, tenants, cache)
    left = (free - solvers - verifiers * verifier) // max(1, tenants.num_solvers)
    table = LEAST_POSITIONS + (left + solver - footprint.weights_bytes(tenants.dtype) - passing) // position
    return Sharing(
        table_positions=tenants.table_positions or min(kind.most_positions, table),
        kept_positions=table,
        solver_bytes=solver + left if tenants.num_solvers else 0,
        cache=cache,
        verifier_bytes=verifier,
        engine_frac=max(0, verifier - kind.context) / memory.total,
    )


def cache_of(footprint: Footprint, dtype: str | None, positions: int) -> Cache | None:
    """A cache of so many positions; None without a verifier."""
    if dtype is None:
        return None
    at_once = JUDGED_AT_ONCE_WITH_STATE if footprint.state_bytes else JUDGED_AT_ONCE
    num_texts = max(1, min(at_once, positions // BLOCK))
    paged = rounded(positions) + BLOCK  # vLLM keeps one block for itself
    return Cache(
        int(CACHE_SLACK * (paged * footprint.kv_bytes_a_position(dtype) + 2 * num_texts * footprint.state_bytes)),
        rounded(positions),
        num_texts,
    )


def _widest_cache(kind: Kind, footprint: Footprint, need: Need, dtype: str | None, left: int) -> Cache | None:
    """For a whole batch of texts and for the longest when it has grown, within bounds; the longest as it is may take
    half of what is left."""
    if dtype is None:
        return None
    a_position = max(1, int(CACHE_SLACK * footprint.kv_bytes_a_position(dtype)))
    wanted = max(min(need.grown, footprint.context), JUDGED_AT_ONCE * rounded(need.typical))
    usual = min(wanted, min(kind.cache_bytes, left // 4) // a_position)
    positions = max(usual, min(need.longest, footprint.context, left // 2 // a_position), LEAST_POSITIONS)
    return cache_of(footprint, dtype, positions)


def _verifier_bytes(kind: Kind, footprint: Footprint, tenants: Tenants, cache: Cache | None) -> int:
    if tenants.engine_dtype is None or cache is None:
        return 0
    workspace = ENGINE_LOGITS_BYTES + PASS_POSITIONS * footprint.layer_bytes_a_position(tenants.engine_dtype)
    return kind.verifier_process + workspace + footprint.weights_bytes(tenants.engine_dtype) + cache.num_bytes


def _refusal(memory: Memory, kind: Kind, footprint: Footprint, tenants: Tenants, needed: int) -> str:
    def weights(dtype: str) -> str:
        return f"{footprint.weights_bytes(dtype) / GIB:.1f} GiB of weights in {dtype}"

    who = []
    if tenants.num_solvers:
        number = "the solver" if tenants.num_solvers == 1 else f"{tenants.num_solvers} solvers"
        who.append(f"{number} ({weights(tenants.dtype)}{' each' if tenants.num_solvers > 1 else ''})")
    if tenants.engine_dtype:
        number = "the verifier" if tenants.num_verifiers == 1 else f"{tenants.num_verifiers} verifiers"
        who.append(f"{number} ({weights(tenants.engine_dtype)}{' each' if tenants.num_verifiers > 1 else ''})")
    alone = "" if len(who) > 1 or max(tenants.num_solvers, tenants.num_verifiers) > 1 else "s"
    second = "give it a second card, " if len(who) > 1 and kind is KINDS["cuda"] else ""
    return (
        f"--model {tenants.model}: {' and '.join(who)} need{alone} at least {needed / GIB:.1f} GiB together with what "
        f"they work in, and {memory.free / GIB:.1f} of {memory.total / GIB:.1f} GiB are free; {second}{kind.remedies}"
    )
