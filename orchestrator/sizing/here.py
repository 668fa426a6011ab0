"""This machine as one node of its own, looked at without Ray.

Owns: its cards and memory as a run that joins no cluster would have them. Must not know: models, texts.
"""

import os

import torch

from orchestrator.cluster.nodes import Node
from orchestrator.process.memory import Memory


def node_here() -> Node:
    """What Ray in this process would tell of this machine."""
    return Node("here", os.cpu_count() or 1, torch.cuda.device_count(), is_draining=False)


def memories_here() -> tuple[Memory, ...]:
    """Of each card, or of the machine where there is none; opens a context on a card."""
    return tuple(_card(index) for index in range(torch.cuda.device_count())) or (Memory.here("cpu"),)


def _card(index: int) -> Memory:
    free, total = torch.cuda.mem_get_info(index)
    return Memory(total, free)
