"""`verbatim learn` from corpus to folder, on a tiny model."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from engine.correction.folder import NAME, digest_of
from engine.recipe import load_recipe
from engine.solver import Solver
from orchestrator.learn import command
from orchestrator.learn import state as state_file
from orchestrator.learn.state import Progress
from tests.engine.jobs import job_of
from tune_spaces.cli import app

SETTINGS = ("--train", "batch=8", "--train", "shape.width=16", "--train", "shape.layers=1", "--longest", "12")
RECIPE = ("--set", "max_steps=3")


@pytest.fixture
def corpus(tmp_path, write_jsonl):
    rows = [{"text": f"{n}: the keeper wrote down the weather every evening."} for n in range(20)]
    return write_jsonl(tmp_path / "corpus.jsonl", rows)


@pytest.fixture
def learn(corpus, tiny_folder):
    def run(out, *args, model=None, code=0):
        model = model or tiny_folder("llama")
        told = ("learn", corpus, "--model", model, "--out", out, *SETTINGS, *RECIPE, *args)
        result = CliRunner().invoke(app, [str(arg) for arg in told])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return result

    return run


def test_a_folder_holds_the_networks_a_card_and_a_recipe_that_uses_them(learn, tmp_path, tiny_llama):
    out = tmp_path / "learned"
    said = learn(out, "--steps", "3").stdout
    assert "pieces to learn from" in said and "learned start: " in said.splitlines()[-1]
    names = [NAME, "README.md", "card.json", "recipe.toml", state_file.NAME]
    assert sorted(path.name for path in out.iterdir()) == sorted(names)
    recipe = load_recipe(out / "recipe.toml")
    assert recipe.start.name == "learned" and recipe.start.digest == digest_of(out) and recipe.max_steps == 3
    card = json.loads((out / "card.json").read_text())
    assert card["fingerprint"] == tiny_llama.fingerprint and card["steps"] == 3 and len(card["curve"]) == 1
    assert card["worth"]["texts"] > 0 and card["positions"] > 0
    page = (out / "README.md").read_text()
    assert tiny_llama.fingerprint in page and recipe.start.digest in page and "## Curve" in page
    solver = Solver(tiny_llama)
    solver.submit(job_of(tiny_llama, "Ada!", *(f"start.{name}={value}" for name, value in recipe.start)))
    solver.step()
    assert solver.active[0].prompt_KD.isfinite().all()


def test_a_training_in_two_calls_is_the_training_in_one_to_the_bit(learn, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    learn(whole, "--steps", "4")
    learn(parts, "--steps", "2")
    assert "going on after 2 steps" in learn(parts, "--steps", "4").stdout
    assert digest_of(whole) == digest_of(parts)
    before = digest_of(parts)
    learn(parts, "--steps", "4")
    assert digest_of(parts) == before, "it was over"


def test_an_interrupted_training_goes_on(learn, tmp_path, monkeypatch):
    out, steps = tmp_path / "out", []
    step = command.Trainer.step

    def interrupted(self):
        steps.append(self.num_steps)
        if self.num_steps == 2 and len(steps) == 3:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(command.Trainer, "step", interrupted)
    assert "interrupted; the same command goes on from here" in learn(out, "--steps", "4", code=130).stderr
    learn(out, "--steps", "4")
    assert steps == [0, 1, 2, 2, 3]
    monkeypatch.undo()
    learn(tmp_path / "whole", "--steps", "4")
    assert digest_of(out) == digest_of(tmp_path / "whole")


def test_networks_can_be_taken_over_and_the_folder_says_which(learn, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    learn(first, "--steps", "3")
    begun = ("--begin-with", first, "--train", "rounds=2", "--train", "lr=1e-9")
    learn(second, "--steps", "1", *begun)
    ours, theirs = (load_file(folder / NAME) for folder in (second, first))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert load_recipe(second / "recipe.toml").start.corrections == 2, "as many as were trained"
    assert json.loads((second / "card.json").read_text())["begun_with"] == digest_of(first)
    assert "holds a training with begun_with" in learn(second, "--steps", "2", *begun[2:], code=2).stderr
    other = learn(tmp_path / "third", "--steps", "1", "--begin-with", first, "--train", "shape.layers=2", code=2)
    assert "its networks are shape.corrector=corrector shape.width=16 shape.layers=1" in other.stderr


def test_progress_tells_the_time_left():
    options = type("Options", (), {"minutes": 10.0, "max_steps": None})
    trainer = type("Trainer", (), {"num_steps": 30})
    assert command._told(options, trainer, Progress(150.0)) == "step 30, 150 s, 450 s left"
    options.max_steps = 40
    assert command._told(options, trainer, Progress(150.0)) == "step 30, 150 s, 50 s left"


def test_a_folder_of_another_training_is_refused_and_left_as_it_is(learn, tmp_path, tiny_folder, contents):
    out = tmp_path / "out"
    learn(out, "--steps", "1")
    before = contents(out)
    for args, told in (
        (("--steps", "2", "--train", "seed=5"), "holds a training with settings"),
        (("--steps", "2", "--longest", "9"), "holds a training with texts"),
        (("--steps", "2", "--model", tiny_folder("qwen3")), "holds a training with fingerprint"),
    ):
        error = learn(out, *args, code=2).stderr
        assert told in error and len(error.splitlines()) == 1, error
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    assert "holds something that is no training" in learn(other, "--steps", "1", code=2).stderr
    assert contents(out) == before


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("--train", "lrr=1"), "--train lrr: unknown; the nearest valid key is lr"),
        (("--train", "lr=-1"), "--train lr = -1: "),
        (("--train", "lr"), "--train lr: must be key=value"),
        (("--longest", "64"), "--longest 64: the model's context is 64 tokens"),
        (("--held-out", "nowhere.jsonl"), "nowhere.jsonl: no such file"),
    ],
)
def test_what_cannot_be_learned_is_told_in_one_line(learn, tmp_path, args, told):
    error = learn(tmp_path / "out", *args, code=2).stderr
    assert told in error and len(error.splitlines()) == 1, error
    assert not (tmp_path / "out").exists()


def test_the_card_does_not_call_a_loss_a_gain():
    from orchestrator.learn.card import told_worth
    from orchestrator.learn.comparison import Worth

    gain = Worth(9, 0.5, 0.4, 0.6, (9, 9), (5, 10), (100, 200))
    assert told_worth(gain, 1000).endswith("pays from 10 texts on")
    assert re.search(r"110% of the work \(90% to 130%\).* not known to pay$", told_worth(
        Worth(9, 1.1, 0.9, 1.3, (9, 9), (11, 10), (220, 200)), 1000))  # fmt: skip
    assert told_worth(None, 1000).startswith("not measured")
