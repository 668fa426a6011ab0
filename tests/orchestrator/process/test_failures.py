"""One line out of whatever was raised, or reported by Ray."""

import pytest
import torch
from pydantic import BaseModel, ValidationError, field_validator

from engine.model_source import ModelError
from orchestrator.console.errors import UserError
from orchestrator.process.failures import MOST, StartError, reason, told_at_start


class Config(BaseModel):
    architecture: str

    @field_validator("architecture")
    @classmethod
    def known(cls, name: str) -> str:
        raise ValueError(
            f"Model architectures ['{name}'] are not supported for now. Supported architectures: {'x' * 9000}"
        )


def test_a_validation_errors_reason_is_its_message_and_not_where_to_read_about_it():
    with pytest.raises(ValidationError) as raised:
        Config(architecture="GPTNeoForCausalLM")
    assert "For further information visit" in str(raised.value)
    said = "Value error, Model architectures ['GPTNeoForCausalLM'] are not supported for now"
    assert reason(raised.value) == said


def test_the_reason_of_an_error_that_only_says_that_there_was_one_is_beneath():
    with pytest.raises(RuntimeError) as raised:
        try:
            raise ValueError("head_dim=8\n  is not supported.")
        except ValueError as error:
            raise RuntimeError("Engine core initialization failed. See root cause above.") from error
    assert reason(raised.value) == "ValueError: head_dim=8 is not supported"
    alone = RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")
    assert reason(alone) == "RuntimeError: Engine core initialization failed"


def test_advice_for_others_is_left_out_and_what_remains_is_bounded():
    vllms = ValueError("2.0 GiB KV cache is needed, 1.0 GiB is there. Try increasing `gpu_memory_utilization`.")
    assert reason(vllms) == "ValueError: 2.0 GiB KV cache is needed, 1.0 GiB is there"
    assert len(reason(ValueError("x" * 9000))) <= MOST
    assert reason(UserError("--dtype x: must be y")) == "--dtype x: must be y"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ImportError("needs gptqmodel"), "do this"),
        (torch.OutOfMemoryError("Tried to allocate 20.00 GiB. 3.10 GiB is free."), "a larger card"),
        (ValueError("Free memory on device cuda:0 (3.1/79.1 GiB) is less than desired"), "a larger card"),
    ],
)
def test_whatever_a_start_raises_is_one_line_with_its_remedy(error, remedy):
    with pytest.raises(StartError, match=r"^--model m: vLLM cannot run it \(\w+: [^\n]+\); ") as raised:
        with told_at_start("--model m: vLLM cannot run it", "do this"):
            raise error
    assert remedy in str(raised.value)


@pytest.mark.parametrize("kind", [UserError, ModelError])
def test_what_was_already_told_to_the_user_passes_as_it_is(kind):
    with pytest.raises(kind, match="^no such folder$"), told_at_start("what", "remedy"):
        raise kind("no such folder")
