"""What a search leaves: a recipe that `run` takes, trials as a table, a page by itself."""

import json
import math
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from engine.adaptation import Adaptation
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from orchestrator.console.errors import UserError
from orchestrator.corpus import Reading, open_corpus
from tests.tune_spaces.made_up import NUM_TEXTS, outcome, report, search_on, study_in, tune_record
from tune_spaces import results
from tune_spaces.cli import app
from tune_spaces.folder import FILE
from tune_spaces.hold_out import compare
from tune_spaces.options import TuneOptions
from tune_spaces.record import read_record
from tune_spaces.spaces import Preset, space

LOST = compare([outcome("a", 3.0)], [outcome("a", 2.0)])


@pytest.fixture
def study(tmp_path):
    study = study_in(tmp_path)
    search = search_on(study)
    for number in range(5):
        search.suggest(str(number))
        costs = [float(number + 1)] * (NUM_TEXTS if number < 3 else 1)
        search.on_trial_complete(str(number), report(*costs) | ({"cost": math.nan} if number == 4 else {}))
    return study


def test_the_best_recipe_is_one_that_run_takes_and_says_where_it_comes_from(tmp_path, study):
    best = load_recipe(None, ["optim.lr=0.123", "context.name=two_pass", "context.eps={kind='linear', start=1, end=0}"])
    results.write(tmp_path, study, tune_record(corpus="/some/where/hell\no.jsonl"), best, LOST)
    path = tmp_path / results.BEST
    assert load_recipe(path).hash == best.hash
    assert path.read_text().startswith("# Nothing beat the base: trial 0, the best of 5")
    assert "# Trial 0: 1.0 passes a text" in path.read_text()


def test_the_recipe_of_any_trial_is_written_when_it_is_asked_for(tmp_path, study):
    with pytest.raises(UserError, match="--export-trial 1: .* holds no search"):
        results.export_trial(tmp_path / "nowhere", 1)
    (tmp_path / FILE).write_text(tune_record().model_dump_json())
    path = results.export_trial(tmp_path, 3)
    assert load_recipe(path).model_dump_json() == study.trials[3].user_attrs["recipe"]
    assert "# Trial 3 stopped, 1 of its first 1 texts at an end." in path.read_text()
    told = CliRunner().invoke(app, ["tune", "corpus.txt", "--out", str(tmp_path), "--export-trial", "1", "--json"])
    assert load_recipe(Path(json.loads(told.stdout)["recipe"])).optim.lr == study.trials[1].params["optim.lr"]
    with pytest.raises(UserError, match=r"--export-trial 5: no trial of .* with a recipe; it has 0 to 4"):
        results.export_trial(tmp_path, 5)


def test_trials_are_a_table(tmp_path, study):
    results.write(tmp_path, study, tune_record(), Recipe(), None)
    rows = pq.read_table(tmp_path / results.TRIALS).to_pylist()
    assert [row["state"] for row in rows] == ["complete"] * 3 + ["pruned", "fail"]
    assert [row["cost"] for row in rows[:4]] == [1, 2, 3, 4] and [row["texts"] for row in rows] == [4, 4, 4, 1, 1]
    for row, trial in zip(rows, study.trials, strict=True):
        assert json.loads(row["params"]) == trial.params
        assert Recipe.model_validate_json(row["recipe"]).optim.lr == trial.params["optim.lr"]


def test_a_study_without_a_complete_trial_is_reported_as_such(tmp_path):
    study = study_in(tmp_path)
    search_on(study).suggest("a")
    page = results.write(tmp_path, study, tune_record(), Recipe(), None)
    assert '"headline":"nothing beat the base: no trial is complete"' in page.with_name("data.js").read_text()
    assert load_recipe(tmp_path / results.BEST) == Recipe()


def test_the_optuna_dashboard_shows_the_storage(tmp_path, study):
    from optuna_dashboard import wsgi

    said = {}
    app = wsgi(study._storage)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/api/studies", "wsgi.input": None, "SERVER_NAME": "x",
               "SERVER_PORT": "80", "wsgi.url_scheme": "http"}  # fmt: skip
    body = b"".join(app(environ, lambda status, headers, *_: said.update(status=status)))
    assert said["status"].startswith("200")
    (summary,) = json.loads(body)["study_summaries"]
    assert summary["study_name"] == study.study_name


def test_a_folder_from_before_texts_were_drawn_from_the_whole_corpus_goes_on_no_more(tmp_path):
    tune_record(sizes=None).keep(tmp_path)
    tune_record(sizes=None).keep(tmp_path)
    assert tune_record(sizes=None).study_name == tune_record().study_name
    with pytest.raises(UserError, match="of an earlier version, which drew its texts otherwise"):
        tune_record().keep(tmp_path)


def test_a_folder_goes_on_only_with_the_same_search(tmp_path):
    record = tune_record()
    record.keep(tmp_path)
    record.keep(tmp_path)
    assert tune_record(seed=1).study_name != record.study_name
    differences = rf"holds another search \(base.optim.lr: {Recipe().optim.lr} -> 0.1; texts: 4 -> 5\)"
    with pytest.raises(UserError, match=differences):
        tune_record(base=load_recipe(None, ["optim.lr=0.1"]), texts=5).keep(tmp_path)


def test_a_search_goes_on_only_where_its_base_still_computes_what_it_did(tmp_path):
    beams = load_recipe(None, ["proof=beam"])
    tune_record(base=beams, base_hash="5eed").keep(tmp_path / "beams")
    with pytest.raises(UserError, match=f"holds another search .base_hash: 5eed -> {beams.hash}"):
        tune_record(base=beams, base_hash=beams.hash).keep(tmp_path / "beams")
    assert tune_record(base_hash="5eed").study_name == tune_record().study_name, "folders of before are found"
    tune_record(base_hash=None).keep(tmp_path / "greedy")
    tune_record(base_hash=Recipe().hash).keep(tmp_path / "greedy")


def test_a_search_starts_from_the_recipe_as_it_suits_the_model(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"id": "a", "text": "Ada"}) + "\n")
    corpus = open_corpus(tmp_path / "corpus.jsonl", Reading())
    options = TuneOptions(
        corpus=tmp_path / "corpus.jsonl", out=tmp_path / "search", settings=Preset(), space=space("quick"),
        base=load_recipe(None, ["proof=auto"]), source=ModelSource("pocket"), reading=Reading(),
    )  # fmt: skip
    record = options.record(corpus, "f", "float32", "hf 5", ((8, 2),), (3, 1), Adaptation(price=1.1))
    assert record.base.proof == "beam" and record.base_hash == record.base.hash != options.base.hash
    assert options.suited(record.adaptation).base == record.base
    record.keep(tmp_path / "search")
    kept = read_record(tmp_path / "search")
    assert kept == record and kept.adaptation == Adaptation(price=1.1)
    assert options.suited(None) is options
