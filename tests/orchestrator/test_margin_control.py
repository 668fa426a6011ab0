"""The margin that follows from how far two engines' numerics lie apart."""

import json
import math
from dataclasses import asdict

import pytest
import torch

from engine import pocket
from engine.probes import Probe
from engine.recipe import Recipe
from engine.target import Target
from orchestrator import margin_control
from orchestrator.margin_control import EngineNoise, compare, load_noise, save_noise, with_margin_for
from orchestrator.verifier import Verdict


def probe(*margins):
    target = Target("a", "a", tuple(range(1, len(margins) + 1)), ends=False)
    return Probe(target, torch.zeros(1, 3), list(margins))


def said(*margins, refusal=None):
    return Verdict("a", True, (), len(margins), "made up 1", "float32", refusal, tuple(margins))


def test_the_noise_is_the_largest_move_of_a_margin():
    noise = compare([probe(1.0, 2.0, 3.0), probe(0.5)], [said(1.1, 1.6, 3.0), said(0.5)])
    assert noise == EngineNoise(pytest.approx(0.4), pytest.approx(0.1), 4)


def test_where_the_engine_alone_goes_wrong_the_margin_moved_by_at_least_itself():
    noise = compare([probe(1.0, 0.7, 3.0)], [said(1.1)])
    assert noise is not None and noise.largest == pytest.approx(0.7) and noise.num_tokens == 2


def test_what_the_solver_got_wrong_says_nothing():
    noise = compare([probe(1.0, -0.2, 9.0)], [said(1.0, 5.0, 1.0)])
    assert noise == EngineNoise(0.0, 0.0, 1)
    assert compare([probe(-1.0)], [said(3.0)]) is None
    assert compare([probe(2.0)], [said(refusal="too wide")]) is None


def test_a_margin_is_raised_to_the_noise_and_never_lowered():
    recipe = Recipe(noise_factor=3)
    assert with_margin_for(recipe, None) is recipe
    assert with_margin_for(recipe, EngineNoise(0.1, 0.0, 9)) is recipe
    raised = with_margin_for(recipe, EngineNoise(0.4, 0.0, 9))
    assert raised.stop_margin == pytest.approx(1.2)
    assert raised.loss.margin / raised.stop_margin == pytest.approx(recipe.loss.margin / recipe.stop_margin)


def test_a_measurement_is_kept_and_a_damaged_one_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    noise = EngineNoise(0.25, 0.125, 160)
    key = margin_control.cache_key("f" * 32, "cpu", "vllm 1", "bfloat16")
    assert key != margin_control.cache_key("f" * 32, "cpu", "vllm 1", "float32")
    assert load_noise(key) is None
    save_noise(key, noise)
    assert load_noise(key) == noise
    absurd = [json.dumps(asdict(noise) | {"largest": value}) for value in (math.nan, math.inf, -1, "x", None)]
    for broken in ("", "[]", '{"largest": 1}', "[" * 100_000, *absurd):
        (tmp_path / "verbatim" / f"{key}.json").write_text(broken)
        assert load_noise(key) is None


def test_the_shipped_measurements_are_the_pocket_models_and_below_the_default_margin():
    shipped = json.loads((pocket.PATH / "engine_noise.json").read_text())
    assert len(shipped) >= 4
    for values in shipped.values():
        assert Recipe().noise_factor * EngineNoise(**values).largest < Recipe().stop_margin
