"""What every test may ask for: tiny random models by family, and a real one, loaded once a session.

Nothing here reaches a network.
"""

import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # so that no test leaves one in the user's home
os.environ["RAY_worker_niceness"] = "0"  # Ray's 15 starves its workers beside a test that computes in its own process

import pytest
import torch

from engine import smollm2
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelError, ModelSource
from tests.tiny import save_tiny


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the tiny model of a family, as `--model` takes it."""
    return cache(lambda family: save_tiny(family, tmp_path_factory.mktemp(family)))


@pytest.fixture(scope="session")
def tiny_lm(tiny_folder: Callable[[str], Path]) -> Callable[[str], FrozenLM]:
    """The tiny model of a family, float32 on the CPU. Shared: frozen, and to be left so."""
    return cache(lambda family: FrozenLM.load(ModelSource(str(tiny_folder(family)))))


@pytest.fixture(scope="session")
def tiny_llama(tiny_lm: Callable[[str], FrozenLM]) -> FrozenLM:
    return tiny_lm("llama")


@pytest.fixture(scope="session")
def smollm2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2-135M-Instruct as `--model` takes it, made afresh. Mark a test that asks for it `smollm2`."""
    try:
        smollm2.packaged_file()
    except ModelError as error:
        pytest.skip(str(error))
    is_parallel = "PYTEST_XDIST_WORKER" in os.environ
    session = tmp_path_factory.getbasetemp().parent if is_parallel else tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(session / "cache"))  # one for all workers: it is half a gigabyte
        return smollm2.smollm2_folder()


@pytest.fixture(scope="session")
def smollm2_lm(smollm2_folder: Path) -> FrozenLM:
    """SmolLM2-135M-Instruct, float32 on the CPU. Shared: frozen, and to be left so."""
    return FrozenLM.load(ModelSource(str(smollm2_folder)))
