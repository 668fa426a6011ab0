"""Models for the tests of loss terms."""

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
    """A tiny model that hardly rounds, so that a slow loop and a term differ only where one of them is wrong."""

    def load(family: str) -> FrozenLM:
        model = AutoModelForCausalLM.from_pretrained(tiny_folder(family), dtype=torch.float64)
        return FrozenLM(model, byte_tokenizer())

    return cache(load)
