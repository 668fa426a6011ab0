"""Models for the engine's tests alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.frozen_lm import FrozenLM
from tests.tiny import byte_tokenizer


@pytest.fixture(scope="session")
def float64_lm(tiny_folder: Callable[[str], Path]) -> Callable[[str], FrozenLM]:
    """A tiny model that hardly rounds, so that a path differs between pass sizes only if something leaks."""

    def load(family: str) -> FrozenLM:
        model = AutoModelForCausalLM.from_pretrained(tiny_folder(family), dtype=torch.float64)
        return FrozenLM(model, byte_tokenizer())

    return cache(load)
