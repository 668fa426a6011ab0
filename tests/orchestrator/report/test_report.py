"""`verbatim report`: what is written, without a browser."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import verbatim
from orchestrator.report import ReportOptions, chosen, write_report
from orchestrator.report.chosen import Chosen, Window
from orchestrator.report.figures import Figures
from orchestrator.report.written import SITE
from tests.verbatim.made_up import made_row, make_run
from tune_spaces.cli import app

STATUSES = ("verified", "verified", "unsolved", "verified", "rejected", "verified", "invalid")


def data_of(site: Path) -> dict:
    return json.loads((site / "data.js").read_text().removeprefix("window.VERBATIM=").removesuffix(";\n"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A thousand texts, of which some are not exact."""
    rows = [made_row(n, status=STATUSES[n % len(STATUSES)]) for n in range(1000)]
    return make_run(tmp_path_factory.mktemp("runs") / "made_up", rows[:600], rows[600:])


@pytest.fixture(scope="module")
def site(run, tmp_path_factory):
    return write_report(ReportOptions(run, tmp_path_factory.mktemp("sites") / "site")).page.parent


def test_a_thousand_texts_take_less_than_a_megabyte(site):
    assert sum(path.stat().st_size for path in site.iterdir()) < 1_000_000
    assert len(data_of(site)["texts"]["id"]) == 1000


def test_figures_are_those_of_the_rows(run, site):
    rows, told = list(verbatim.load_results(run)), data_of(site)["figures"]
    exact = [row for row in rows if row.exact]
    assert (told["num_rows"], told["num_exact"]) == (1000, len(exact))
    assert told["mean_steps"] == pytest.approx(sum(row.steps for row in exact) / len(exact), abs=0.05)
    assert told["least_margin"] == pytest.approx(min(row.min_margin for row in exact), rel=1e-3)
    assert told["engines"] == [["hf 5.19.0", "float32", len(exact), sum(row.engine is not None for row in rows)]]
    assert sum(count for _, count in told["diagnoses"]) == sum(row.status in ("unsolved", "rejected") for row in rows)
    bins = told["margins"]
    assert sum(bins["exact"]) == len(exact)
    assert sum(bins["other"]) == sum(row.min_margin is not None for row in rows) - len(exact)
    assert told["work"][0] == 0 and told["work"][-1] == 1 and told["work"] == sorted(told["work"])


def test_a_text_is_told_as_its_row_has_it(run, site):
    texts = data_of(site)["texts"]
    row = verbatim.load_results(run)["row-4"]
    status = texts["status"]
    assert status["names"][status["of"][4]] == row.status == "rejected"
    ids = data_of(site)["tokens"]["ids"]
    assert [ids[number] for number in texts["target"][4]] == row.token_ids
    assert [ids[number] for number in texts["said"][4]] == row.generated_ids
    assert texts["said"][0] is None, "what an exact text said is the text"
    assert texts["first_mismatch"][4] == row.first_mismatch and texts["text"][4] == row.text


def test_the_site_asks_for_nothing_and_takes_no_text_for_markup():
    scripts = "".join(path.read_text() for path in SITE.glob("*.js"))
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|srcdoc", scripts)
    everything = scripts + "".join(path.read_text() for path in [*SITE.glob("*.css"), *SITE.glob("*.html")])
    named = set(re.findall(r"https?://[^\"' ]*", everything))
    assert named == {"http://www.w3.org/2000/svg"}, "the namespace of SVG, which nobody fetches"
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|sendBeacon|WebSocket|EventSource", everything)
    assert "connect-src 'none'" in (SITE / "index.html").read_text()
    assert all(len(path.read_text().splitlines()) <= 300 for path in SITE.iterdir())


def test_a_report_is_written_over_and_nothing_else_is(run, tmp_path):
    first = write_report(ReportOptions(run, tmp_path / "site"))
    again = write_report(ReportOptions(run, tmp_path / "site"))
    assert first == again and "1000 texts" in first.line()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text("<p>mine</p>")
    with pytest.raises(ValueError, match="other: not empty and not a report"):
        write_report(ReportOptions(run, tmp_path / "other"))
    assert (tmp_path / "other" / "index.html").read_text() == "<p>mine</p>"


def test_a_report_in_the_runs_folder_does_not_harm_the_run(tmp_path):
    folder = make_run(tmp_path / "run", [made_row(0), made_row(1)])
    assert write_report(ReportOptions(folder)).page == folder / "report" / "index.html"
    assert len(verbatim.load_results(folder)) == 2


def test_the_command_says_where_the_page_is(run, tmp_path):
    result = CliRunner().invoke(app, ["report", str(run), "--out", str(tmp_path / "site")])
    assert result.exit_code == 0 and result.stdout.startswith(f"report: {tmp_path}/site/index.html (1000 texts, ")


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["{here}"], "no run.json there"),
        (["{run}", "--against", "{here}"], "no run.json there"),
        (["{run}", "--out", "{run}/run.json"], "is a file; choose a folder"),
        (["s3://bucket/run"], "s3://bucket/run: "),
    ],
)
def test_what_cannot_be_reported_is_one_line(arguments, line, run, tmp_path):
    asked = [argument.format(run=run, here=tmp_path) for argument in arguments]
    result = CliRunner().invoke(app, ["report", *asked])
    assert result.exit_code in (1, 2) and line in result.stderr and result.stderr.count("\n") == 1


def test_a_model_that_is_gone_costs_the_tokens_only(tmp_path):
    folder = make_run(tmp_path / "run", [made_row(0), made_row(2, status="unsolved")], model=str(tmp_path / "gone"))
    site = write_report(ReportOptions(folder, tmp_path / "site")).page.parent
    assert data_of(site)["tokens"]["texts"] is None and len(data_of(site)["texts"]["text"]) == 2


def test_of_a_very_long_run_failures_are_kept_first(monkeypatch):
    rows, kept = [made_row(n, status="unsolved" if n % 20 == 3 else "verified") for n in range(400)], Chosen()
    kept.exact.limit, kept.other.limit = 50, 50
    for row in rows:
        kept.add(row)
    assert sum(not row["exact"] for row in kept.rows) == 20 and len(kept.rows) == 70
    assert kept.num_left_out == 330 and [r["row"] for r in kept.rows] == sorted(r["row"] for r in kept.rows)


def test_of_a_long_text_the_tokens_around_the_break_are_kept():
    ids = list(range(3000))
    row = made_row(0, status="unsolved") | {"token_ids": ids, "generated_ids": ids, "first_mismatch": 1500}
    window = Window.of(row)
    assert window.start <= 1500 < window.end and window.end - window.start == chosen.MOST_TOKENS
    assert window.cut(ids)[1500 - window.start] == 1500
    assert Window.of(row | {"exact": True}).start == 0


def test_margins_of_one_large_text_do_not_flatten_the_picture():
    figures = Figures()
    for n in range(200):
        figures.add(made_row(n) | {"min_margin": 1000.0 if n == 7 else 0.5 + n / 400})
    told = figures.told()["margins"]
    assert told["high"] < 2 and told["beyond"] >= 1 and sum(told["exact"]) == 200


def test_margins_are_measured_where_asked_for(tmp_path):
    with verbatim.Inverter("pocket") as inverter:
        results = inverter.invert(["Call me Ishmael.", ""])
    results.save(tmp_path / "run")
    site = write_report(ReportOptions(tmp_path / "run", tmp_path / "site", margins=True)).page.parent
    texts, tokens = data_of(site)["texts"], data_of(site)["tokens"]["texts"]
    assert min(texts["margins"][0]) == pytest.approx(100 * results[0].min_margin, abs=1)
    assert sum(texts["nats"][0]) == pytest.approx(-1000 * results[0].log_prob, abs=10)
    assert len(texts["near"][0]) == results[0].num_vectors and texts["margins"][1] is None
    assert "".join(tokens[id] for id in texts["target"][0]) == "Call me Ishmael."
    assert all(isinstance(tokens[number], str) for numbers in texts["near"][0] for number in numbers)


def test_a_ladder_that_was_climbed_is_shown(tmp_path):
    from orchestrator.proof.ladder import Proof, write_proof

    folder = make_run(tmp_path / "run", [made_row(0), made_row(1)])
    passed = {"greedy_float32": [True, True], "greedy_bfloat16": [True, False]}
    write_proof(Proof("vllm 0.32.0", ["row-0", "row-1"], [1.0, 0.6], passed, [0.1, 0.0]), folder / "proof.parquet")
    site = write_report(ReportOptions(folder)).page.parent
    assert data_of(site)["figures"]["ladder"] == [["greedy_float32", 2, 2], ["greedy_bfloat16", 1, 2]]
