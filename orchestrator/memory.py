"""Running out of memory: which errors say so, and giving back what a failed pass held.

Owns: the ways in which memory's end is told. Must not know: what the memory was for.
"""

import gc

import torch

SAID_BY_TORCH = ("can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED", "out of memory")
"""What torch says in a plain RuntimeError where an allocator other than CUDA's gives up."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that this process, or its device, has no memory left."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in SAID_BY_TORCH)


def reclaim() -> None:
    """Give back what nobody holds any more. To be called after the `except`: a traceback holds its frames' tensors."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
