"""The page of a search: what it is told, and how it is used in a browser."""

import json
import random

import pytest
from typer.testing import CliRunner

from orchestrator.console.errors import UserError
from tests.orchestrator.report.browser import Browser, find_browser
from tests.tune_spaces.made_up import study_in, tune_record
from tests.tune_spaces.report.made_up_search import IDS, make_search
from tune_spaces.cli import app
from tune_spaces.report import write_search_report
from tune_spaces.report.explained import explain

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>"
ROWS = "[...document.querySelectorAll('#table tbody tr')]"
NUMBERS = f"{ROWS}.map(r => +r.querySelector('.c-number').textContent)"


def told(page) -> dict:
    return json.loads(page.with_name("data.js").read_text().removeprefix("window.VERBATIM=").rstrip().rstrip(";"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_search(tmp_path_factory.mktemp("searches") / "made up", ids=[*IDS[:-1], HOSTILE])


def test_a_searchs_own_page_and_the_commands_are_the_same_and_small(folder, tmp_path):
    page = folder / "report" / "index.html"
    assert sum(path.stat().st_size for path in page.parent.iterdir()) < 200_000
    result = CliRunner().invoke(app, ["report", str(folder), "--out", str(tmp_path / "site"), "--json"])
    assert json.loads(result.stdout)["page"] == str(tmp_path / "site" / "index.html")
    assert told(tmp_path / "site" / "index.html") == told(page)


def test_nothing_beat_the_base_is_the_first_thing_on_the_page(tmp_path):
    lost = make_search(tmp_path / "lost", num_trials=5, gain=1.02)
    data = told(lost / "report" / "index.html")
    assert data["headline"].startswith("nothing beat the base: trial ") and not data["beat"]
    assert data["recipe"] == "\n", "best.toml is the base, the default recipe"
    assert data["held_out"]["num_texts"] == len(data["held_out"]["id"]) == 24


def test_a_search_without_trials_is_refused(tmp_path):
    with pytest.raises(UserError, match="a search without trials yet"):
        write_search_report(tmp_path)
    study_in(tmp_path)
    (tmp_path / "tune.json").write_text(tune_record().model_dump_json())
    with pytest.raises(UserError, match="a search without trials yet"):
        write_search_report(tmp_path)


def test_a_parameter_is_named_where_it_explains_costs_and_nowhere_else():
    dice = random.Random(0)

    def trials(weight, number=80):
        drawn = [{"rate": dice.random(), "loss": dice.choice("ab"), "noise": dice.random()} for _ in range(number)]
        return [(params, 20 + weight * (params["rate"] - 0.5) ** 2 + dice.random()) for params in drawn]

    (named,) = explain(trials(30)).named
    assert named.name == "rate" and 0.3 < named.share <= 1 and named.best.startswith(("0.2", "0.3", "0.4", "0.5"))
    assert explain(trials(30)).num_tested == 3
    assert explain(trials(30, number=19)).num_tested == 0, "too few to say anything"
    luck = [explain(trials(0)).named for _ in range(60)]
    assert sum(map(bool, luck)) <= 8, "one in twenty or so"


def test_costs_that_do_not_differ_are_explained_by_nothing():
    assert explain([({"rate": float(i)}, 7.0) for i in range(40)]).named == []


@pytest.fixture(scope="module")
def browser():
    if find_browser() is None:
        pytest.skip("no chromium on this machine; apt-get install chromium")
    with Browser(find_browser()) as opened:
        yield opened


@pytest.fixture
def opened(browser, folder):
    browser.resize(1280)
    browser.open(folder / "report" / "index.html")
    return browser


def text_of(browser, id):
    return browser.run(f"document.getElementById({id!r}).innerText")


@pytest.mark.slow
def test_it_opens_from_a_disk_and_says_first_what_came_of_it(opened):
    assert opened.complaints == []
    assert all(url.startswith(("file:", "about:")) for url in opened.requests)
    headline = text_of(opened, "headline")
    assert headline.startswith("Trial ") and " beat the base on texts that" in headline
    assert opened.run("document.querySelectorAll('#charts figure').length") == 5
    assert "optim.lr" in opened.run("[...document.querySelectorAll('figure')].pop().innerText")
    assert opened.run(f"{ROWS}.length") == 40


@pytest.mark.slow
def test_trials_are_searched_filtered_sorted_and_each_has_an_address(opened, folder):
    opened.run("document.querySelector('[data-sort=cost]').click()")
    costs = opened.run(f"{ROWS}.map(r => r.querySelector('.c-cost').textContent)")
    known = [float(cost) for cost in costs if cost]
    assert known == sorted(known) and costs[: len(known)] == [cost for cost in costs if cost]
    opened.run("document.querySelector('[data-value=failed]').click()")
    assert opened.run(NUMBERS) == [7] and opened.run("location.hash") == "#state=failed&sort=cost"
    opened.open(folder / "report" / "index.html", "#q=violation_norm")
    assert 0 < opened.run(f"{ROWS}.length") < 40
    assert opened.run(f"{ROWS}.every(r => r.textContent.includes('violation_norm'))")
    opened.press("j")
    opened.press("Enter")
    opened.wait("!document.getElementById('one').hidden")
    assert "violation_norm" in text_of(opened, "one") and "--export-trial" in text_of(opened, "one")
    opened.press("Escape")
    opened.wait("document.getElementById('one').hidden")
    assert opened.run("document.getElementById('search').value") == "violation_norm"


@pytest.mark.slow
@pytest.mark.parametrize("address", ["", "#trial=3", "#trial=99"])
def test_a_hostile_text_does_nothing_and_a_narrow_screen_cuts_nothing_off(browser, folder, address):
    browser.resize(400)
    browser.open(folder / "report" / "index.html", address)
    assert browser.complaints == [] and browser.run(
        "window.hacked === undefined && !document.querySelector('main img')"
    )
    assert browser.run("document.documentElement.scrollWidth") <= 400
    assert "false" not in text_of(browser, "one")
    if address == "#trial=3":
        assert "</script><script>" in text_of(browser, "one")
    if address == "#trial=99":
        assert "No trial here is 99." in text_of(browser, "one")
