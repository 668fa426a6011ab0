"""What a search leaves: a recipe that `run` takes, trials as a table, a page by itself."""

import json
import math
import re

import pyarrow.parquet as pq
import pytest

from engine.recipe import Recipe, load_recipe
from orchestrator.console.errors import UserError
from tests.tune_spaces.made_up import NUM_TEXTS, outcome, report, search_on, study_in, tune_record
from tune_spaces import results
from tune_spaces.hold_out import compare

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
    assert (
        "# Trial 0: 1.0 passes a text" in path.read_text()
        and "# The winner is no better on held-out" in path.read_text()
    )


def test_trials_are_a_table(tmp_path, study):
    results.write(tmp_path, study, tune_record(), Recipe(), None)
    rows = pq.read_table(tmp_path / results.TRIALS).to_pylist()
    assert [row["state"] for row in rows] == ["complete"] * 3 + ["pruned", "fail"]
    assert [row["cost"] for row in rows[:4]] == [1, 2, 3, 4] and [row["texts"] for row in rows] == [4, 4, 4, 1, 1]
    for row, trial in zip(rows, study.trials, strict=True):
        assert json.loads(row["params"]) == trial.params
        assert Recipe.model_validate_json(row["recipe"]).optim.lr == trial.params["optim.lr"]


@pytest.mark.parametrize("objective", ["cost", "pareto"])
def test_the_report_needs_nothing_from_elsewhere_and_escapes_what_it_is_told(tmp_path, objective):
    study = study_in(tmp_path, objective=objective)
    search = search_on(study, objective)
    for number in range(3):
        search.suggest(str(number))
        search.on_trial_complete(str(number), report(*[number + 1.0] * NUM_TEXTS))
    results.write(tmp_path, study, tune_record(corpus="/<script>alert(1)</script>.jsonl"), Recipe(), LOST)
    page = (tmp_path / results.REPORT).read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", page)
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    titles = ("History", "Importance of parameters", "Parallel coordinates", "Pareto front", "Timeline")
    assert [title for title in titles if f"<h2>{title}</h2>" in page] == list(titles)
    assert page.count("Plotly.newPlot(") >= len(titles)
    assert LOST.verdict.replace("'", "&#39;") in page


def test_a_study_without_a_complete_trial_is_reported_as_such(tmp_path):
    study = study_in(tmp_path)
    search_on(study).suggest("a")
    results.write(tmp_path, study, tune_record(), Recipe(), None)
    page = (tmp_path / results.REPORT).read_text()
    assert "none: no trial is complete" in page and "no pictures" in page
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


def test_a_folder_goes_on_only_with_the_same_search(tmp_path):
    record = tune_record()
    record.keep(tmp_path)
    record.keep(tmp_path)
    assert tune_record(seed=1).study_name != record.study_name
    differences = rf"holds another search \(base.optim.lr: {Recipe().optim.lr} -> 0.1; texts: 4 -> 5\)"
    with pytest.raises(UserError, match=differences):
        tune_record(base=load_recipe(None, ["optim.lr=0.1"]), texts=5).keep(tmp_path)
