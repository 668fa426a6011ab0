"""`verbatim tune` as its user has it: whole, killed, and gone on with."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time

import optuna
import psutil
import pyarrow.parquet as pq
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from typer.testing import CliRunner

from engine.recipe import Recipe, load_recipe
from orchestrator.pool.outcome import OutcomeFile
from orchestrator.results.run_log import read_events
from tune_spaces.cli import app
from tune_spaces.objective import figures
from tune_spaces.spaces import space
from tune_spaces.study import ended_trials, winner

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

NUM_TRIALS, NUM_TEXTS = 8, 4
BASE = ["num_vectors=4", "attempts=1", "max_steps=60"]
WHO = ("cat", "dog", "man", "old man")
ACTORS = ("SlotPoolActor", "SolverActor", "VerifierActor", "ImplicitFunc")
"""What computes or waits for it, as the operating system sees it."""

PATIENCE_S = 240

runner = CliRunner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tune")


@pytest.fixture(scope="module")
def command(folder):
    corpus = folder / "corpus.txt"
    corpus.write_text("".join(f"The {who} sat {where}.\n" for who in WHO for where in ("here", "there")))
    settings = ["--trials", NUM_TRIALS, "--texts", NUM_TEXTS, "--hold-out", 4, "--budget", 40, "--sampler", "random"]
    settings += ["--stopping", "none", "--concurrent", 3, "--engine", "hf", "--no-dashboard"]
    settings += ["--callback", "tensorboard"]
    for value in BASE:
        settings += ["--set", value]
    return [sys.executable, "-m", "tune_spaces.cli", "tune", corpus, "--out", folder / "search", *map(str, settings)]


@pytest.fixture
def start(command):
    """Start the search, or start it again, in a process of its own."""
    started = []

    def start_search(*others: str):
        started.append(subprocess.Popen([*command, *others], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start_search
    for process in started:
        process.kill()
        process.communicate()


def study_of(folder) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(folder / "search" / "study.journal")))
    return optuna.load_study(study_name=None, storage=storage)


def num_outcomes(folder) -> int:
    path = folder / "search" / "outcomes.jsonl"
    return len(path.read_bytes().splitlines()) if path.is_file() else 0


def wait_for(process, condition):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"the search did not get there: {process.communicate() if process.poll() is not None else ''}")


def children(process, title: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if title in " ".join(child.cmdline()):
                found.append(child)
    return found


def actors(process) -> list[psutil.Process]:
    return [actor for kind in ACTORS for actor in children(process, kind)]


def test_a_search_killed_again_and_again_comes_to_its_trials(start, folder):
    dice = random.Random(0)
    process = start()
    wait_for(process, lambda: num_outcomes(folder) >= dice.randint(1, 6))
    wait_for(process, lambda: len(actors(process)) >= 4)
    mine = actors(process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert psutil.wait_procs(mine, timeout=60)[1] == [], "nobody computes on"

    before = num_outcomes(folder)
    process = start()
    wait_for(process, lambda: num_outcomes(folder) > before + dice.randint(1, 6))
    children(process, "SolverActor")[0].kill()
    wait_for(process, lambda: any(read_events(folder / "search", "actor_died")))
    before = num_outcomes(folder)  # taken now: what others had in hand has come in without a new solver
    wait_for(process, lambda: num_outcomes(folder) > before)
    for trial in children(process, "ImplicitFunc"):  # those that wait for another trial too
        trial.kill()
    wait_for(process, lambda: num_outcomes(folder) > before + dice.randint(1, 3))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "the same command goes on" in err
    assert_an_interrupted_search_leaves_what_it_has(folder / "search")

    process = start()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert "goes on: " in out and "outcomes are known from before" in out

    study = study_of(folder)
    ended = ended_trials(study)
    assert [trial.state for trial in ended] == [TrialState.COMPLETE] * NUM_TRIALS
    assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
    assert_values_are_those_of_the_outcomes(study, folder)
    assert_draws_are_those_of_a_search_that_was_not_killed(ended)
    best = winner(study)
    assert best.value == min(trial.value for trial in ended)


def assert_an_interrupted_search_leaves_what_it_has(search):
    num_ended = len(ended_trials(study_of(search.parent)))
    note = f"Interrupted after {num_ended} of {NUM_TRIALS} trials, and not checked on held-out texts"
    assert note in (search / "best.toml").read_text() and note in (search / "report" / "data.js").read_text()
    load_recipe(search / "best.toml")
    assert sum(row["state"] == "complete" for row in pq.read_table(search / "trials.parquet").to_pylist()) == num_ended
    told = runner.invoke(app, ["status", str(search), "--json"])
    status = json.loads(told.stdout)
    assert (status["state"], status["num_ended"], status["num_trials"]) == ("interrupted", num_ended, NUM_TRIALS)


def assert_values_are_those_of_the_outcomes(study, folder):
    paid = {}
    for recipe, outcome in OutcomeFile(folder / "search" / "outcomes.jsonl").read():
        assert outcome.id not in paid.setdefault(recipe, {}), "paid for twice"
        paid[recipe][outcome.id] = outcome
    tuned = {id for outcomes in paid.values() for id in outcomes if len(outcomes) == NUM_TEXTS}
    assert len(tuned) == NUM_TEXTS
    for trial in ended_trials(study):
        recipe = Recipe.model_validate_json(trial.user_attrs["recipe"])
        assert trial.value == figures([paid[recipe.hash][id] for id in sorted(tuned)])["cost"]


def assert_draws_are_those_of_a_search_that_was_not_killed(ended):
    from tune_spaces.study import SAMPLERS, SeededByTrial

    calm = optuna.create_study(sampler=SeededByTrial(SAMPLERS["random"], 0))
    base = load_recipe(None, BASE)
    calm.enqueue_trial(space("quick").centre(base))
    drawn = []
    for _ in range(NUM_TRIALS):
        trial = calm.ask()
        space("quick").draw(trial, base)
        drawn.append(trial.params)
    assert sorted(map(json.dumps, drawn)) == sorted(json.dumps(trial.params) for trial in ended)


def test_a_finished_search_has_what_it_was_run_for_and_costs_nothing_more(start, folder):
    search = folder / "search"
    best = load_recipe(search / "best.toml")
    rows = pq.read_table(search / "trials.parquet").to_pylist()
    assert sum(row["state"] == "complete" for row in rows) == NUM_TRIALS
    assert {row["recipe"] for row in rows if row["recipe"]} >= {best.model_dump_json()}
    assert list(search.glob("tensorboard/**/events.out.tfevents.*")), "trials are told to TensorBoard too"
    assert (search / "report" / "index.html").is_file() and not list(search.glob("**/*.pkl"))

    status = json.loads(runner.invoke(app, ["status", str(search), "--json"]).stdout)
    assert (status["state"], status["num_ended"]) == ("finished", NUM_TRIALS)
    assert status["counts"] == {"complete": NUM_TRIALS} and status["trials_an_hour"] > 0
    plain = runner.invoke(app, ["status", str(search)]).stdout
    assert f"a search, finished\n{NUM_TRIALS} of {NUM_TRIALS} trials ended" in plain and "best: trial " in plain
    assert list(read_events(search, "actor_died")) and list(read_events(search, "committed"))

    before = {path.name: path.read_bytes() for path in search.iterdir() if path.is_file()}
    process = start()
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert f"is finished: {NUM_TRIALS} trials, nothing to do" in out
    assert {path.name: path.read_bytes() for path in search.iterdir() if path.is_file()} == before

    process = start("--texts", "5")
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2 and "holds another search (texts: 4 -> 5)" in err
