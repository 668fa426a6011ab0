"""A trained correction as a folder: what is kept, and what is refused in one line."""

import pytest
import torch

from engine.correction.folder import (
    NAME,
    CorrectionError,
    digest_of,
    load_correction,
    resident_correction,
    save_correction,
)
from tests.engine.correction.networks import correction


@pytest.fixture
def folder(tmp_path, tiny_llama):
    save_correction(tmp_path, correction(tiny_llama), tiny_llama)
    return tmp_path


@pytest.mark.parametrize("corrector", ["none", "corrector", "step"])
def test_what_is_loaded_is_what_was_saved_to_the_bit(corrector, tmp_path, tiny_llama):
    made = correction(tiny_llama, corrector)
    digest = save_correction(tmp_path, made, tiny_llama)
    loaded = load_correction(tmp_path, tiny_llama, digest)
    assert loaded.shape == made.shape and loaded.state_dict().keys() == made.state_dict().keys()
    assert all(torch.equal(loaded.state_dict()[name], tensor) for name, tensor in made.state_dict().items())
    assert not any(weight.requires_grad for weight in loaded.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME]


def test_networks_of_another_model_are_refused_by_its_fingerprint(folder, tiny_lm, tiny_llama):
    other = tiny_lm("qwen3")
    assert other.hidden_size == tiny_llama.hidden_size, "nothing but the fingerprint tells them apart"
    with pytest.raises(CorrectionError, match=f"through the model {tiny_llama.fingerprint}, .* is {other.fingerprint}"):
        load_correction(folder, other)


def test_networks_that_were_trained_again_are_refused_by_their_digest(folder, tiny_llama):
    digest = digest_of(folder)
    load_correction(folder, tiny_llama, digest)
    save_correction(folder, correction(tiny_llama, layers=0), tiny_llama)
    with pytest.raises(CorrectionError, match=f"start.digest = '{digest}': .* trained again since"):
        load_correction(folder, tiny_llama, digest)


def test_a_folder_without_networks_is_told_in_one_line(tmp_path, tiny_llama):
    with pytest.raises(CorrectionError, match="no correction.safetensors there .*verbatim learn"):
        load_correction(tmp_path / "nowhere", tiny_llama)


@pytest.mark.parametrize("content", [b"", b"no networks", None])
def test_a_damaged_file_is_told_in_one_line(content, folder, tiny_llama):
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CorrectionError, match="not readable as a learned correction"):
        load_correction(folder, tiny_llama)


def test_networks_are_loaded_once_a_model(folder, tiny_llama):
    first = resident_correction(folder, tiny_llama, digest_of(folder))
    assert resident_correction(folder, tiny_llama, digest_of(folder)) is first
