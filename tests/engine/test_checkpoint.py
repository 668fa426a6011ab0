"""Checkpoints that are not what they should be; test_resume.py has those that are."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load, save

from engine.checkpoint import PLAIN, Checkpoint, from_bytes, to_bytes
from tests.engine.jobs import NEVER, job_of, slots_after


@pytest.fixture
def job(tiny_llama):
    return job_of(tiny_llama, "Ada!", *NEVER)


@pytest.fixture
def content(tiny_llama, job):
    return to_bytes(Checkpoint(job, [slot.state_dict() for slot in slots_after(tiny_llama, 3, job)]))


def altered(content, **changes):
    tensors = load(content)
    plain = json.loads(bytes(tensors[PLAIN].tolist())) | changes
    tensors[PLAIN] = torch.frombuffer(bytearray(json.dumps(plain).encode()), dtype=torch.uint8)
    return save(tensors)


def test_a_checkpoint_of_another_text_is_none(content, job):
    assert from_bytes(content, job.target) is not None
    assert from_bytes(content, replace(job.target, id="other")) is None
    assert from_bytes(content, replace(job.target, token_ids=job.target.token_ids[:-1])) is None


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1])
def test_a_torn_checkpoint_is_none(content, job, cut):
    assert from_bytes(content[:cut], job.target) is None


@pytest.mark.parametrize("foreign", [b"", b"\0" * 64, b"\x80\x04}.", b"{}" * 40, save({"x": torch.zeros(3)})])
def test_a_foreign_file_is_none(foreign, job):
    assert from_bytes(foreign, job.target) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"recipe_hash": "of a version that computed the same values otherwise"},
        {"recipe": {"optim": {"lr": -1}}},
        {"recipe": {"unheard": 1}},
        {"states": {"list": [{"record": "Popen", "fields": {"dict": {"args": "true"}}}]}},
        {"states": {"tensor": "nowhere"}},
        {"states": {"dict": ["a"]}},
    ],
    ids=str,
)
def test_another_version_an_invalid_recipe_or_an_unknown_record_is_none(changes, content, job):
    assert from_bytes(altered(content), job.target) is not None
    assert from_bytes(altered(content, **changes), job.target) is None


def test_the_bytes_hold_no_pickle(content):
    assert b"torch" not in content and not content.startswith(b"PK") and b"\x80\x04" not in content[:2]
