"""The margin that follows from how far two engines' numerics lie apart."""

import json
import math
import shutil
from contextlib import nullcontext
from dataclasses import asdict, replace

import pytest
import torch

from engine import pocket
from engine.decoding import Greedy
from engine.probes import Probe, measure
from engine.recipe import Recipe
from engine.target import Target
from orchestrator.console.errors import UserError
from orchestrator.measured.margin_control import (
    EngineNoise,
    EnginePair,
    candidates_of,
    compare,
    load_noise,
    noise_mode,
    require_same_model,
    save_noise,
    told_of_end,
    with_margin_for,
)
from orchestrator.verifiers.contract import SCORED, Mode, Verdict
from orchestrator.verifiers.hf_verifier import HfVerifier
from tests.tiny import CONTEXT


def probe(*margins, rounding=1e-5, spread=3.0):
    target = Target("a", "a", tuple(range(1, len(margins) + 1)), ends=False)
    return Probe(target, torch.zeros(1, 3), list(margins), rounding, spread)


def pair(engine="vllm 1", solver_dtype="float32", engine_dtype="float32"):
    return EnginePair("some/model", "f" * 32, "cpu", solver_dtype, engine, engine_dtype)


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


def test_what_was_scored_is_compared_token_by_token_whoever_is_wrong():
    scored = replace(said(), target_margins=(1.5, -0.25, 2.0))
    noise = compare([probe(1.0, -0.5, 2.0)], [scored])
    assert noise == EngineNoise(0.5, 0.25, 3)


def test_vllm_reads_and_transformers_decodes_what_is_compared():
    assert noise_mode("vllm 0.32.0") == SCORED and noise_mode("hf 5.19.0") == Mode(margins=True)


def test_a_margin_is_raised_to_the_noise_and_never_lowered():
    recipe = Recipe(noise_factor=3)
    assert with_margin_for(recipe, None) is recipe
    assert with_margin_for(recipe, EngineNoise(0.1, 0.0, 9)) is recipe
    raised = with_margin_for(recipe, EngineNoise(0.4, 0.0, 9))
    assert raised.stop_margin == pytest.approx(1.2)
    assert raised.loss.margin / raised.stop_margin == pytest.approx(recipe.loss.margin / recipe.stop_margin)


def test_a_logit_sized_difference_in_float32_is_an_error_that_names_both_engines_and_the_remedy():
    with pytest.raises(UserError) as vllm:
        require_same_model([probe(2.0), probe(3.0)], EngineNoise(2.1, 0.9, 40), pair())
    assert str(vllm.value).startswith("--model some/model: the solver and vllm 1 do not compute the same model: ")
    assert "up to 2.1 logits, and rounding explains 1e-05; judge with --engine hf" in str(vllm.value)
    with pytest.raises(UserError, match="the solver and hf 5 do .*; check that the model's folder is whole"):
        require_same_model([probe(2.0)], EngineNoise(0.2, 0.1, 40), pair("hf 5"))


def test_an_engine_that_reads_the_configuration_otherwise_is_caught_and_one_that_does_not_is_not(
    tiny_llama, tiny_folder, tmp_path
):
    other = shutil.copytree(tiny_folder("llama"), tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.5}))
    prompts = [torch.randn(k, tiny_llama.hidden_size) * tiny_llama.embed_rms for k in (5, 11)]
    said = Greedy().decode(tiny_llama, prompts, [17, 17])
    probes = measure(tiny_llama, [Target(str(n), "", tuple(s.token_ids)) for n, s in enumerate(said)], prompts)
    for folder, differs in ((tiny_folder("llama"), False), (other, True)):
        engine = HfVerifier(str(folder), revision=None, dtype="float32", context=CONTEXT)
        noise = compare(probes, engine.judge(candidates_of(probes), Mode(margins=True)))
        assert noise is not None and (noise.largest > 0.1) == differs
        with pytest.raises(UserError, match="do not compute the same model") if differs else nullcontext():
            require_same_model(probes, noise, pair(engine.engine))


@pytest.mark.parametrize(
    ("largest", "rounding", "spread"),
    [(1.7e-5, 1.1e-5, 3.75), (0.08, 1e-5, 3.0), (0.2, 1e-5, 10.0), (2.0, 0.05, 3.0)],
    ids=["SmolLM2", "rounding of a kind", "large logits", "a model that blows its own rounding up"],
)
def test_what_rounding_can_explain_is_a_margin(largest, rounding, spread):
    require_same_model([probe(2.0, rounding=rounding, spread=spread)], EngineNoise(largest, largest, 40), pair())


def test_in_half_precision_a_difference_is_a_margin():
    for dtypes in (("float32", "bfloat16"), ("bfloat16", "float32"), ("float16", "float16")):
        require_same_model([probe(2.0)], EngineNoise(0.4, 0.1, 40), pair("vllm 1", *dtypes))
    require_same_model([probe(-2.0)], None, pair())


def test_a_measurement_is_kept_and_a_damaged_one_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    noise = EngineNoise(0.25, 0.125, 160)
    key = pair(engine_dtype="bfloat16").key
    assert key != pair().key
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


def test_a_model_that_hardly_knows_how_to_end_a_text_is_told_of():
    assert told_of_end(Recipe(), 4.2) is None and told_of_end(Recipe(end_of_text=False), 0.0) is None
    line = told_of_end(Recipe(), 0.0059)
    assert line and "0.0059 logits" in line and "--set end_of_text=false" in line
    assert "is proved for beams" in (told_of_end(Recipe(proof="beam"), 0.0059) or "")
