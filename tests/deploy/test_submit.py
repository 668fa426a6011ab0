"""`verbatim submit`: what it prints, refuses and hands on."""

import shlex
from types import SimpleNamespace

import pytest
from ray.job_submission import JobStatus

from orchestrator.cluster import submit
from orchestrator.console.errors import UserError
from orchestrator.console.parsed import parse
from tune_spaces.cli import app

CORPUS = "corpora/demo.parquet"
OUT = ("--out", "/results/demo")


@pytest.fixture
def refused(verbatim):
    def run(*arguments):
        outcome = verbatim("submit", *arguments)
        lines = outcome.err.splitlines()
        assert (outcome.code, outcome.out, len(lines)) == (2, "", 1), outcome
        return lines[0].removeprefix("error: ")

    return run


def test_print_gives_rays_own_command_and_sends_nothing(verbatim):
    outcome = verbatim("submit", CORPUS, *OUT, "--solvers", 2, "--print")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        "ray job submit --address http://127.0.0.1:8265 --runtime-env deploy/runtime_env.yaml -- "
        "verbatim run corpora/demo.parquet --out /results/demo --solvers 2 --address auto\n"
    )


def test_what_is_printed_survives_a_shell(verbatim):
    asked = [CORPUS, "--out", "/my results/$HOME's", "--set", "loss.name=margin", "--set", "optim.lr=1"]
    printed = verbatim("submit", *asked[:-4], "--print", "--address", "http://head:8265").out
    words = shlex.split(printed)
    assert words[words.index("--") + 1 :] == ["verbatim", "run", *asked[:-4], "--address", "auto"]
    assert words[words.index("--address") + 1] == "http://head:8265"
    assert words.count("--address") == 2


def test_options_may_stand_before_the_corpus_and_between(verbatim):
    outcome = verbatim("submit", "--print", *OUT, CORPUS, "--engine", "hf")
    assert outcome.out.endswith("-- verbatim run --out /results/demo corpora/demo.parquet --engine hf --address auto\n")


def test_what_is_sent_parses_as_our_own_command():
    sent = submit.Submission((CORPUS, *OUT, "--set", "optim.lr=0.5"))
    values = parse(app, "run", shlex.split(sent.entrypoint)[2:])
    assert values["address"] == "auto" and str(values["out"]) == "/results/demo" and values["set_"] == ["optim.lr=0.5"]


def test_an_option_that_run_does_not_have(refused):
    assert refused(CORPUS, *OUT, "--sloers", 2, "--print").startswith("No such option: --sloers")
    assert "--solvers" in refused(CORPUS, *OUT, "--sloers", 2)


def test_a_value_that_run_would_refuse(refused):
    assert "'--solvers'" in refused(CORPUS, *OUT, "--solvers", 0, "--print")
    assert "the nearest valid key is optim.lr" in refused(CORPUS, *OUT, "--set", "optim.rl=1", "--print")
    assert "unexpected extra argument" in refused(CORPUS, "another.txt", *OUT)


def test_no_corpus_or_one_that_cannot_be_sent(refused, tmp_path):
    assert "CORPUS" in refused("--print")
    assert "no such file here; a relative path is sent along" in refused("nowhere.parquet", *OUT, "--print")
    (tmp_path / "texts.txt").write_text("Tea.\n")
    outside = f"../../../../../../../..{tmp_path}/texts.txt"
    assert "outside this folder, so not sent along" in refused(outside, *OUT, "--print")


def test_an_earlier_run_and_a_file_of_ids_must_be_there_for_the_job(refused, verbatim):
    assert refused("--from", "runs/x", *OUT, "--print").startswith("--from runs/x: results are not sent along; give an")
    assert refused(CORPUS, *OUT, "--ids", "@nowhere", "--print").startswith("--ids nowhere: no such file here")
    assert refused(*OUT, "--print") == "CORPUS: is empty; give a path or a URI"
    outcome = verbatim("submit", "--from", "/runs/x", *OUT, "--ids", "a,b", "--print")
    assert outcome.out.endswith("-- verbatim run --from /runs/x --out /results/demo --ids a,b --address auto\n")


def test_an_absolute_corpus_is_the_clusters_own(verbatim):
    assert verbatim("submit", "/data/on-the-cluster.parquet", *OUT, "--print").code == 0


def test_uris_mean_the_same_on_the_cluster(verbatim):
    outcome = verbatim("submit", "s3://bucket/texts.parquet", "--out", "s3://bucket/run", "--print")
    assert (outcome.code, outcome.err) == (0, "")
    assert "verbatim run s3://bucket/texts.parquet --out s3://bucket/run" in outcome.out


@pytest.mark.parametrize("out", [(), ("--out", "runs/demo")])
def test_results_that_would_be_thrown_away(verbatim, refused, out):
    assert "the job's own folder is thrown away" in refused(CORPUS, *out)
    outcome = verbatim("submit", CORPUS, *out, "--print")
    assert outcome.code == 0 and outcome.out.startswith("ray job submit")
    assert outcome.err.startswith("note: ") and "give --out an absolute folder" in outcome.err


def test_an_address_where_no_dashboard_is(refused):
    assert "must be the dashboard's" in refused(CORPUS, *OUT, "--address", "auto")
    assert "no Ray dashboard answers" in refused(CORPUS, *OUT, "--address", "http://127.0.0.1:9")


def test_a_runtime_environment_that_is_none(tmp_path):
    path = tmp_path / "env.yaml"
    with pytest.raises(UserError, match="no such file; run from the checkout's root"):
        submit._read_runtime_env(path)
    for text, said in (("a: [", "not readable YAML"), ("- a", "must be a mapping")):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            submit._read_runtime_env(path)


@pytest.mark.parametrize(
    "status, driver, code",
    [
        ("SUCCEEDED", 0, 0),
        ("FAILED", 3, 3),
        ("FAILED", 2, 2),
        ("FAILED", None, 1),
        ("FAILED", -9, 1),
        ("STOPPED", None, 1),
    ],
)
def test_the_exit_code_is_the_jobs_where_ray_knows_it(status, driver, code):
    assert submit.exit_code(status, driver) == code


class Client:
    """A job client without a cluster: its log breaks off, then the job is seen running, then ended."""

    def __init__(self, *statuses: str, gives_out: bool = False):
        self.statuses = list(statuses)
        self.gives_out = gives_out

    def submit_job(self, **job):
        assert job["entrypoint"].startswith("verbatim run ") and job["runtime_env"]["working_dir"] == "."
        return "job-1"

    async def tail_job_logs(self, job):
        yield "3 of 4\n"
        raise RuntimeError("WebSocket closed\nlong story")

    def get_job_info(self, job):
        if self.gives_out:
            raise ConnectionError("tunnel closed")
        return SimpleNamespace(status=JobStatus(self.statuses.pop(0)), driver_exit_code=3)


@pytest.fixture
def at_root(monkeypatch, root):
    monkeypatch.chdir(root)
    monkeypatch.setattr(submit, "POLL_S", 0)


def test_a_job_is_waited_for_though_its_log_breaks_off(monkeypatch, capsys, at_root):
    monkeypatch.setattr(submit, "_client", lambda address: Client("RUNNING", "FAILED"))
    said = []
    assert submit.submit(submit.Submission((CORPUS, *OUT)), said.append) == 3
    assert capsys.readouterr().out == "3 of 4\n"
    assert said[1:] == ["the log broke off (WebSocket closed); waiting for the job's end", "job job-1: FAILED"]


def test_a_job_out_of_sight_is_told_of(monkeypatch, at_root):
    monkeypatch.setattr(submit, "_client", lambda address: Client(gives_out=True))
    said = []
    assert submit.submit(submit.Submission((CORPUS, *OUT)), said.append) == 1
    assert said[-1] == "lost sight of the job (tunnel closed); it may go on: ray job status job-1"


def test_a_search_is_sent_as_a_run_is(verbatim, refused):
    outcome = verbatim("submit", "tune", CORPUS, "--out", "/results/search", "--trials", 8, "--print")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith(
        "-- verbatim tune corpora/demo.parquet --out /results/search --trials 8 --address auto\n"
    )
    assert verbatim("submit", "run", CORPUS, *OUT, "--print").out == verbatim("submit", CORPUS, *OUT, "--print").out
    assert verbatim("submit", "tune", CORPUS, "--print").err.startswith("note: give --out")
    assert refused("tune", CORPUS, *OUT, "--trails", 8, "--print").startswith("No such option: --trails")
    kept = verbatim("submit", "tune", CORPUS, "--out", "s3://bucket/search", "--print")
    assert (kept.code, kept.err) == (0, "") and "--out s3://bucket/search" in kept.out
    assert "--space mine.toml: no such file here" in refused("tune", CORPUS, *OUT, "--space", "mine.toml", "--print")
    assert "the nearest is quick" in refused("tune", CORPUS, *OUT, "--preset", "quik", "--print")
