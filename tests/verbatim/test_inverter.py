"""`import verbatim`: the embedded model inverted in this process, judged by transformers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import verbatim
from orchestrator.results.ledger import SCHEMA
from tests.tiny import HIDDEN_SIZE

TEXTS = ["Call me Ishmael.", "", "I would prefer not to."]


@pytest.fixture(scope="module")
def inverter():
    with verbatim.Inverter("pocket") as made:
        yield made


@pytest.fixture(scope="module")
def steps():
    return []


@pytest.fixture(scope="module")
def results(inverter, steps):
    return inverter.invert(TEXTS, on_step=steps.append)


def test_importing_verbatim_imports_nothing_heavy():
    code = "import sys, verbatim; print({'torch', 'ray', 'transformers', 'pyarrow'} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "set()"


def test_no_ray_is_started(results):
    import ray

    assert not ray.is_initialized()


def test_every_text_is_judged_by_the_second_engine(results):
    assert [result.is_exact for result in results] == [True, False, True]
    assert results.num_exact == 2 and results[0].generated_ids == results[0].token_ids
    assert results[0].engine.startswith("hf ") and results[0].rung == "greedy"
    assert (results[1].status, results[1].reason, results[1].prompt) == ("invalid", "empty", None)


def test_a_prompt_has_a_row_a_vector(results):
    first = results[0]
    assert first.prompt.dtype == np.float32
    assert first.prompt.shape == (first.num_vectors, first.hidden_size)


def test_a_result_has_the_columns_of_a_folder_in_their_order(results):
    assert list(vars(results[0])) == SCHEMA.names
    assert list(results.to_pandas().columns) == SCHEMA.names


def test_tables_hold_prompts_by_vectors(results):
    table = results.to_arrow()
    told = table["prompt"].to_pylist()
    assert np.array_equal(np.array(told[2], np.float32), results[2].prompt) and told[1] is None
    assert np.array_equal(results.to_pandas()["prompt"][0], results[0].prompt)


def test_on_step_is_told_of_every_step_and_of_the_end(results, steps):
    most = max(result.steps for result in results)
    assert [progress.step for progress in steps[:-1]] == list(range(1, len(steps)))
    assert len(steps) - 1 >= most
    last = steps[-1]
    assert (last.num_texts, last.num_done, last.num_exact, last.num_under_way) == (3, 3, 2, 0)
    assert last.positions == sum(result.positions for result in results)


def test_proving_again_counts_what_holds_and_what_claims_nothing(results):
    proof = results.verify("hf")
    assert (proof.num_exact, len(proof), proof.num_unproved, bool(proof)) == (2, 2, 1, True)
    assert repr(proof).startswith("Proof(2 of 2 exact on hf ")
    assert not results[1:2].verify("hf")


def test_a_changed_prompt_is_not_exact(inverter, results):
    rows = [dict(row) for row in results[:1]._rows]
    rows[0]["prompt"] = np.zeros_like(rows[0]["prompt"])
    forged = verbatim.Results(rows, results.record, inverter.engines)
    assert forged.verify("hf").num_exact == 0


def test_reprs_are_short_and_html_is_escaped(inverter, results):
    assert repr(results) == "Results(2 of 3 exact)"
    assert all(len(repr(result)) < 160 for result in results)
    assert "Call me Ishmael." in results._repr_html_()
    odd = inverter.invert({"<b>": "<i>x</i>"}, set={"max_steps": 1, "attempts": 1})
    assert "<b>" not in odd._repr_html_() and "&lt;i&gt;x" in odd[0]._repr_html_()


def test_a_text_that_is_not_solved_says_so(inverter):
    result = inverter.invert("Call me Ishmael.", set={"max_steps": 1, "attempts": 2, "num_vectors": 1})[0]
    assert (result.status, result.is_exact, result.attempts, result.num_vectors) == ("unsolved", False, 2, 1)
    assert result.diagnosis not in (None, "exact")


def test_texts_may_be_many_kinds_of_objects(inverter):
    import pandas

    quick = {"max_steps": 1, "attempts": 1}
    assert inverter.invert([]).to_arrow().num_rows == 0
    series = pandas.Series(["A cat.", None], index=["x", "y"])
    assert [r.reason for r in inverter.invert(series, set=quick)] == ["no certified prompt", "null_text"]
    assert [r.id for r in inverter.invert((t for t in ["a", "b"]), ids=[7, 7], set=quick)] == ["7", "7#1"]


def test_an_exception_of_the_callback_ends_the_call_and_harms_no_later_one(inverter):
    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inverter.invert(TEXTS, on_step=stop)
    assert inverter.invert("Call me Ishmael.")[0].is_exact


def test_a_recipe_by_name_is_the_file_of_that_name(inverter):
    result = inverter.invert("Call me Ishmael.", recipe="beam")[0]
    assert result.proof == "beam" and result.beam_slack > 0
    assert "beam" in verbatim.recipe_names()


def test_a_recipe_may_leave_proof_and_order_to_the_model(inverter, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("verbatim.inverter.seconds_for", lambda num_texts: 600.0)  # however busy the machine is
    monkeypatch.setattr("engine.samples.NUM_SAMPLES", {4: 2})
    monkeypatch.setattr("engine.adaptation.LENGTHS", (4,))
    members = [{"name": "slow", "set": {"optim": {"lr": 0.01}}}, {"name": "usual"}]
    changes = {"proof": "auto", "portfolio": members, "num_vectors": 8, "max_steps": 60}
    results = inverter.invert(["So it goes."], set=changes)
    found = results.record.adaptation
    assert found.is_settled and found.member == 1
    assert results[0].is_exact and results[0].proof == results.record.proof == ("beam" if found.price else "greedy")
    assert [path.name for path in (tmp_path / "verbatim").glob("*-adapted-*.json")], "kept for the next run"


def test_an_equal_recipe_is_the_same_by_name_by_path_and_as_an_object():
    from verbatim.recipes import chosen_recipe

    path = Path(__file__).parents[2] / "recipes" / "beam.toml"
    asked = {"optim": {"lr": 0.3}, "loss.name": "cross_entropy", "end_of_text": True}
    by_name = chosen_recipe("beam", asked)
    assert by_name == chosen_recipe(path, asked) == chosen_recipe(chosen_recipe("beam", None), asked)
    assert (by_name.optim.lr, by_name.loss.name, by_name.proof) == (0.3, "cross_entropy", "beam")


def test_results_are_saved_as_a_run_that_the_command_line_takes(results, tmp_path):
    from orchestrator.proof.claims import read_claims

    results.save(tmp_path / "saved")
    assert len(read_claims(tmp_path / "saved")) == 2
    stored = verbatim.load_results(tmp_path / "saved")
    assert repr(list(stored)) == repr(list(results))
    assert stored.record.counts == {"verified": 2, "invalid": 1}
    with pytest.raises(verbatim.VerbatimError, match="holds a run already"):
        results.save(tmp_path / "saved")


MISTAKES = {
    "engine = 'x': must be one of vllm, hf": {"engine": "x"},
    "device = 'tpu': must be cpu or cuda": {"device": "tpu"},
    "verify_dtype = 'int4': must be one of float32": {"verify_dtype": "int4"},
    "recipe = 'bem': no such file; recipes by name: beam, capacity": {"recipe": "bem"},
    "recipe = 3: must be a name, a path or a Recipe": {"recipe": 3},
    "the nearest valid key is optim.lr": {"set": {"optim.lrr": 1}},
    "set = 'a=b': must be a dict": {"set": "a=b"},
    "context = 1: must be from 2 to the model's 1024": {"context": 1},
    "table_positions = 0: must be at least 1": {"table_positions": 0},
    "model = '/nowhere': no such folder": {"model": "/nowhere"},
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_that_names_the_argument(line):
    with pytest.raises(verbatim.VerbatimError) as caught:
        verbatim.Inverter(**MISTAKES[line])
    said = str(caught.value)
    assert line in said and "\n" not in said and "--" not in said


def test_mistakes_of_a_call_name_the_argument(inverter, results):
    with pytest.raises(verbatim.VerbatimError, match="^texts = 5: must be a string"):
        inverter.invert(5)
    with pytest.raises(verbatim.VerbatimError, match="^ids: 1 for 3 texts"):
        inverter.invert(TEXTS, ids=["a"])
    with pytest.raises(verbatim.VerbatimError, match="^engine = 'x': must be one of"):
        results.verify("x")
    with pytest.raises(verbatim.VerbatimError, match="^beams = 0"):
        results.verify("hf", beams=0)


def test_a_closed_inverter_says_so(tiny_folder):
    made = verbatim.Inverter(tiny_folder("llama"), set={"num_vectors": 3, "noise_factor": 0})
    with made as inverter:
        assert inverter.invert("Ada", set={"max_steps": 1, "attempts": 1})[0].hidden_size == HIDDEN_SIZE
    made.close()
    assert repr(made).endswith(", closed)")
    with pytest.raises(verbatim.VerbatimError, match="closed"):
        made.invert("Ada")


def test_running_the_package_is_the_command_line():
    said = subprocess.run([sys.executable, "-m", "verbatim", "--help"], capture_output=True, text=True, check=True)
    assert "Usage: verbatim" in said.stdout
