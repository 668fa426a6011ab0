"""The engine on a device that is not the CPU: nothing is made, read or left on the wrong one."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from engine.decoding import STRATEGIES
from engine.decoding.processors import Processors
from engine.difficulty import surprisal_difficulty
from engine.frozen_lm import FrozenLM
from engine.head import Head
from engine.probes import make_probes
from engine.recipe import load_recipe
from engine.slots import Job, Slot
from engine.snapshot import Snapshot
from engine.soft_prompt import STARTS
from engine.solver import Solver
from tests.engine.fake_device import DEVICE, WAITS, fake_device, to_fake_device
from tests.engine.jobs import NEVER, K, assert_same_path, job_of, slots_after, solve
from tests.engine.test_company import METHODS as UNLIKE
from tests.engine.test_recipes_folder import EVERY_RECIPE
from tests.engine.test_resume import METHODS, resumed
from tests.tiny import CONTEXT, byte_tokenizer


@pytest.fixture(scope="module")
def moved_lm(tiny_folder) -> FrozenLM:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder("llama"), dtype=torch.float32)
    with fake_device():
        return FrozenLM(to_fake_device(model), byte_tokenizer())


@pytest.fixture
def device_lm(moved_lm):
    """The tiny Llama on the fake device, which is entered for as long as the test runs."""
    with fake_device():
        yield moved_lm


def placed(value: Any) -> list[str]:
    """Devices of all tensors in a slot's state."""
    if isinstance(value, Tensor):
        return [value.device.type]
    values = value.values() if isinstance(value, dict) else vars(value).values() if isinstance(value, Snapshot) else ()
    return [device for item in values for device in placed(item)]


def assert_on_device(slot: Slot) -> None:
    state = slot.state_dict()
    random_stream = state.pop("generator")
    assert random_stream.device.type == "cpu" and set(placed(state)) == {DEVICE.type}


def test_the_fake_device_refuses_what_cuda_refuses(device_lm):
    ours, theirs = torch.ones(3, device=DEVICE), torch.ones(3)
    with pytest.raises(RuntimeError, match="on the device and on the CPU"):
        _ = ours + theirs
    with pytest.raises(TypeError):
        ours.numpy()
    assert (ours + torch.tensor(2.0)).tolist() == [3.0] * 3 and (ours.cpu() + theirs).tolist() == [2.0] * 3


def test_a_text_is_solved_on_another_device_as_on_the_cpu(device_lm, tiny_llama):
    ours, theirs = (solve(lm, job_of(lm, "ab"))["ab"] for lm in (device_lm, tiny_llama))
    assert ours.prompt_KD.device.type == "cpu" and ours.steps == theirs.steps and ours.is_candidate
    assert_same_path(ours.prompt_KD, theirs.prompt_KD, tiny_llama)


@pytest.mark.parametrize("stage", ["likelihood", "norm", "both"])
def test_a_pass_makes_the_host_wait_once(stage, device_lm, monkeypatch):
    """Where the certificates are read; every other wait would leave the device without work, once a text.

    Packed, because transformers itself waits once in a padded pass.
    """
    monkeypatch.setattr(device_lm, "packs_up_to", CONTEXT)
    norm = ("loss.name=violation_norm",)
    told = {"likelihood": [()] * 3, "norm": [norm] * 3, "both": [(), norm, ()]}[stage]
    solver = Solver(device_lm, table_positions=2048)
    for text, overrides in zip(("Ada!", "Bob?", "Eve."), told, strict=True):
        solver.submit(job_of(device_lm, text, *NEVER, *overrides))
    solver.step()
    WAITS.clear()
    solver.step()
    assert WAITS == ["aten::_to_copy"]


@pytest.mark.parametrize("method", METHODS)
def test_a_restored_attempt_goes_on_where_its_model_is(method, device_lm):
    """From bytes, which know no device."""
    job = job_of(device_lm, "Ada!", *METHODS[method], *NEVER)
    solver = resumed(device_lm, job, slots_after(device_lm, 1, job))
    assert solver.step() == [] and len(solver.active) == job.recipe.siblings
    for slot in solver.active:
        assert_on_device(slot)
        assert slot.step == 2 and slot.prompt_KD.isfinite().all()


@pytest.mark.parametrize("method", UNLIKE)
def test_every_method_works_on_another_device(method, device_lm):
    job = job_of(device_lm, "Ada!", "loss.name=cross_entropy", *UNLIKE[method], *NEVER)
    for slot in slots_after(device_lm, 1, job):
        assert_on_device(slot)


@EVERY_RECIPE
def test_every_recipe_works_on_another_device(path, device_lm):
    recipe = load_recipe(path, ["max_steps=2", "stop_margin=100", "loss.margin=100"])
    target = job_of(device_lm, "Ada!").target
    (attempt,) = Solver(device_lm).solve([Job(target, recipe, K)])
    assert attempt.steps == 2 and attempt.prompt_KD.device.type == "cpu"


@pytest.mark.parametrize("start", [name for name in STARTS if name != "learned"])
def test_every_start_works_on_another_device(start, device_lm):
    solver = Solver(device_lm)
    solver.solved.add([1, 2], torch.ones(2, device_lm.hidden_size))  # for the one that borrows
    solver.submit(job_of(device_lm, "ab", f"start.name={start}"))
    solver.step()
    assert_on_device(solver.active[0])


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_decoding_strategy_works_on_another_device(name, device_lm, tiny_llama):
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(rows, device_lm.hidden_size, generator=generator) for rows in (2, 5)]
    fields = STRATEGIES[name].model_fields
    penalties = Processors(repetition_penalty=1.2, no_repeat_ngram=2, lz_penalty=0.1)
    strategy = STRATEGIES[name].model_validate({"processors": penalties} if "processors" in fields else {})
    ours, theirs = (strategy.decode(lm, prompts, [6, 4]) for lm in (device_lm, tiny_llama))
    assert [text.token_ids for text in ours] == [text.token_ids for text in theirs]


def test_probes_and_difficulties_come_from_another_device(device_lm):
    recipe = load_recipe(None, ["max_steps=1", "num_vectors=2"])
    assert all(
        len(probe.margins) == len(probe.target.token_ids) for probe in make_probes(Solver(device_lm), recipe, None)
    )
    targets = [job_of(device_lm, text).target for text in ("ab", "Ada!")]
    assert all(nats > 0 for nats in surprisal_difficulty(device_lm, targets))


def test_half_precision_heads_work_on_another_device(device_lm):
    weight_VD, hidden_ND = torch.randn(11, 7).bfloat16().to(DEVICE), torch.randn(3, 7).bfloat16().to(DEVICE)
    scores_N = Head(weight_VD).score(hidden_ND.requires_grad_(), torch.tensor([1, 2, 3], device=DEVICE))
    (grad_ND,) = torch.autograd.grad((scores_N.nll - scores_N.margin).sum(), hidden_ND)
    assert scores_N.margin.device == grad_ND.device == DEVICE and grad_ND.isfinite().all()
