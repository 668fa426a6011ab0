"""Cards that are not there, shared by models that nobody loads."""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from types import SimpleNamespace
from unittest import mock

import pytest

from orchestrator.console.errors import UserError
from orchestrator.process.memory import GIB, Memory
from orchestrator.sizing.sharing import KINDS, LEAST_POSITIONS, Need, Sharing, Tenants, share
from orchestrator.verifiers.cache import BLOCK
from tests.large import LLAMA_8B, LLAMA_70B, QWEN3_06B

SENTENCES = Need(longest=120, grown=300, typical=60)
TENANTS = Tenants("m", num_solvers=1, dtype="bfloat16", engine_dtype="bfloat16")
CUDA = KINDS["cuda"]


def card(gib: float, free: float | None = None) -> Memory:
    return Memory(int(gib * GIB), int((gib - 0.4 if free is None else free) * GIB))


FITTING = [(22.0, QWEN3_06B), (23.5, QWEN3_06B), (79.6, QWEN3_06B), (79.6, LLAMA_8B), (139.8, LLAMA_8B)]


def taken(memory: Memory, sharing: Sharing) -> int:
    """What a solver and the verifier take together, a process of each included."""
    return CUDA.solver_process + sharing.solver_bytes + sharing.verifier_bytes


@pytest.mark.parametrize(("gib", "footprint"), FITTING)
def test_solver_and_verifier_of_a_shared_card_take_no_more_than_is_free_and_hold_a_batch(gib, footprint):
    sharing = share(card(gib), "cuda", footprint, SENTENCES, TENANTS)
    assert taken(card(gib), sharing) <= card(gib).free
    assert sharing.cache.positions >= 16 * SENTENCES.longest
    assert sharing.cache.num_bytes >= sharing.cache.positions * footprint.kv_bytes_a_position("bfloat16")
    assert 8 <= sharing.cache.num_texts < 256
    assert sharing.table_positions >= 2048
    table = sharing.table_positions * footprint.training_bytes_a_position("bfloat16")
    assert sharing.solver_bytes >= footprint.weights_bytes("bfloat16") + table


def test_a_larger_card_has_a_larger_table():
    small, large = (share(card(gib), "cuda", LLAMA_8B, SENTENCES, TENANTS) for gib in (47.5, 79.6))
    assert small.table_positions < large.table_positions


@pytest.mark.parametrize(
    ("gib", "footprint", "numbers"),
    [
        (23.5, LLAMA_8B, ["15.0 GiB of weights in bfloat16", "23.1 of 23.5 GiB are free"]),
        (79.6, LLAMA_70B, ["131.4 GiB of weights in bfloat16", "79.2 of 79.6 GiB are free"]),
    ],
)
def test_what_cannot_fit_is_refused_with_both_numbers_and_what_to_do(gib, footprint, numbers):
    with pytest.raises(UserError) as refusal:
        share(card(gib), "cuda", footprint, SENTENCES, TENANTS)
    line = str(refusal.value)
    assert line.startswith("--model m: the solver (") and "\n" not in line
    assert all(number in line for number in numbers)
    assert "give it a second card" in line and "--solver-gpus 0" in line
    needed = float(line.split("need at least ")[1].split()[0])
    assert 2 * footprint.weights_bytes("bfloat16") / GIB < needed < 2.5 * footprint.weights_bytes("bfloat16") / GIB


def test_a_card_that_somebody_else_fills_is_as_good_as_a_small_one():
    assert share(card(79.6, free=22), "cuda", QWEN3_06B, SENTENCES, TENANTS).table_positions > 0
    with pytest.raises(UserError, match=r"and 22\.0 of 79\.6 GiB are free"):
        share(card(79.6, free=22), "cuda", LLAMA_8B, SENTENCES, TENANTS)


def test_on_cards_of_their_own_the_solver_has_no_cache_and_the_verifier_no_table():
    solver = share(card(23.5), "cuda", LLAMA_8B, SENTENCES, replace(TENANTS, engine_dtype=None))
    verifier = share(card(23.5), "cuda", LLAMA_8B, SENTENCES, replace(TENANTS, num_solvers=0))
    assert solver.cache is None and solver.verifier_bytes == 0 and solver.table_positions > 512
    assert verifier.cache is not None and verifier.solver_bytes == 0
    assert verifier.verifier_bytes <= card(23.5).free


def test_a_text_longer_than_the_usual_cache_gets_a_cache_of_its_length_where_there_is_room_for_it():
    novel = Need(longest=40_000, grown=120_000, typical=900)
    cache = share(card(139.8), "cuda", LLAMA_8B, novel, TENANTS).cache
    assert cache.positions >= 40_000
    crowded = share(card(40.0), "cuda", LLAMA_8B, novel, TENANTS).cache
    assert LEAST_POSITIONS <= crowded.positions < 40_000


def test_nobody_is_given_a_cache_for_more_than_the_model_reads():
    endless = Need(longest=10**9, grown=10**9, typical=10)
    assert share(card(139.8), "cuda", QWEN3_06B, endless, TENANTS).cache.positions <= 40_960 + BLOCK


def test_a_table_that_was_asked_for_is_given():
    assert share(card(79.6), "cuda", LLAMA_8B, SENTENCES, replace(TENANTS, table_positions=64)).table_positions == 64


def test_processors_keep_the_table_near_their_caches_and_shrink_it_where_memory_is_short():
    small = replace(TENANTS, dtype="float32", engine_dtype="float32")
    plenty = share(Memory(64 * GIB, 60 * GIB), "cpu", QWEN3_06B, SENTENCES, small)
    assert plenty.table_positions == 1536 and plenty.cache.num_bytes <= 1.1 * GIB
    short = share(Memory(16 * GIB, 10 * GIB), "cpu", QWEN3_06B, SENTENCES, small)
    assert LEAST_POSITIONS <= short.table_positions < 1536
    # Its weights twice, two processes, a table and a cache for sentences: not a cache for 40,960 positions.
    with pytest.raises(UserError, match="take a machine with more memory"):
        share(Memory(16 * GIB, 7 * GIB), "cpu", QWEN3_06B, SENTENCES, small)


def test_a_pass_may_keep_what_memory_holds_however_small_the_table_is():
    small = replace(TENANTS, dtype="float32", engine_dtype="float32")
    plenty, short = (
        share(Memory(total * GIB, free * GIB), "cpu", QWEN3_06B, SENTENCES, small).kept_positions
        for total, free in ((64, 60), (16, 10))
    )
    assert short < 1536 < plenty
    asked = share(Memory(64 * GIB, 60 * GIB), "cpu", QWEN3_06B, SENTENCES, replace(small, table_positions=10**6))
    assert (asked.table_positions, asked.kept_positions) == (10**6, plenty), "what does not fit is computed again"


def test_solvers_that_share_a_card_share_what_is_left():
    one, three = (
        share(card(79.6), "cuda", QWEN3_06B, SENTENCES, replace(TENANTS, num_solvers=number)) for number in (1, 3)
    )
    assert 3 * (CUDA.solver_process + three.solver_bytes) + three.verifier_bytes <= card(79.6).free
    assert three.table_positions <= one.table_positions


def vllms_view(total: int, solver_before: int, solver_during: int, weights: int, workspace: int, frac: float):
    """What vLLM asks for, finds taken and leaves free on a faked card while a solver loads: (free, its own cache)."""
    import torch
    import vllm.utils.mem_utils as mem_utils
    from vllm.v1.worker.utils import request_memory

    held = {"other": solver_before, "context": int(0.6 * GIB), "now": 0, "peak": 0}
    device = torch.accelerator
    stats = lambda device=None: {"allocated_bytes.all.peak": held["peak"], "allocated_bytes.all.current": held["now"]}  # noqa: E731
    free = lambda: total - held["other"] - held["context"] - held["now"]  # noqa: E731
    fakes = {
        "get_memory_info": lambda device=None: (free(), total),
        "memory_stats": stats,
        "memory_reserved": lambda device=None: held["now"],
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device=None: held.update(peak=held["now"]),
    }
    platform = type(mem_utils.current_platform)
    with (
        mock.patch.multiple(device, **fakes),
        mock.patch.object(platform, "is_integrated_gpu", lambda *args, **kwargs: False, create=True),
    ):
        snapshot = mem_utils.MemorySnapshot(device="cuda:0")
        asked = request_memory(snapshot, SimpleNamespace(gpu_memory_utilization=frac))
        held.update(now=weights, peak=weights)
        held["other"] += solver_during
        with mem_utils.memory_profiling(snapshot, weights_memory=weights) as profile:
            held["peak"] = weights + workspace
    return free() - workspace, asked - profile.non_kv_cache_memory


@pytest.mark.vllm
@pytest.mark.slow
def test_the_cache_fits_beside_a_solver_at_its_bound_whoever_loads_first():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        for gib, footprint in FITTING:
            memory = card(gib)
            sharing = share(memory, "cuda", footprint, SENTENCES, TENANTS)
            solver = CUDA.solver_process + sharing.solver_bytes + memory.total - memory.free
            weights, workspace = footprint.weights_bytes("bfloat16"), int(0.9 * GIB)
            for before, during in ((solver, 0), (memory.total - memory.free, solver - memory.total + memory.free)):
                arguments = memory.total, before, during, weights, workspace, sharing.engine_frac
                try:
                    free, own = process.submit(vllms_view, *arguments).result()
                except (ImportError, AttributeError) as moved:
                    pytest.skip(f"vLLM's accounting is not where it was: {moved}")
                assert free >= sharing.cache.num_bytes, (gib, during)
                # What vLLM would conclude by itself depends on who came first: hence the size it is told.
                assert (own > 0) == (during == 0), (gib, during)
