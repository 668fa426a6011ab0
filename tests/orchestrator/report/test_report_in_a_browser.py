"""The report as people use it: filters, keys, addresses, narrow screens, ten thousand texts, hostile texts."""

import shlex
import time

import pytest
import torch

import verbatim
from engine.trajectory import Trajectory
from orchestrator.report import ReportOptions, write_report
from orchestrator.results.history import History
from tests.orchestrator.report.browser import Browser, find_browser
from tests.verbatim.made_up import made_row, make_run

pytestmark = [
    pytest.mark.skipif(find_browser() is None, reason="no chromium on this machine; apt-get install chromium"),
    pytest.mark.slow,
]

STATUSES = ("verified", "verified", "unsolved", "verified", "rejected", "verified", "invalid")
HOSTILE = "<img src=x onerror=window.hacked=1>'\"&#%+ $(touch x) \u202ek"
EVIL_TEXT = "</script><script>window.hacked=1</script> <b>bold</b> javascript:alert(1) \u2028"

ROWS = "[...document.querySelectorAll('#table tbody tr')]"
IDS = f"{ROWS}.map(r => r.querySelector('a').textContent)"
SHOWN = "document.getElementById('count').textContent"


@pytest.fixture(scope="module")
def browser():
    with Browser(find_browser()) as opened:
        yield opened


def site_of(folder, tmp, **options):
    return write_report(ReportOptions(folder, tmp / "site", **options)).page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = [made_row(n, status=STATUSES[n % len(STATUSES)]) for n in range(300)]
    rows[5] |= {"id": HOSTILE, "text": EVIL_TEXT}
    return make_run(tmp_path_factory.mktemp("runs") / "made up", rows)


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return site_of(run, tmp_path_factory.mktemp("page"))


@pytest.fixture
def opened(browser, page):
    browser.resize(1280)
    browser.prefer("light")
    browser.open(page)
    return browser


def click(browser, selector):
    browser.run(f"document.querySelector({selector!r}).click()")


def choose(browser, id, event, value):
    place = f"document.getElementById({id!r})"
    browser.run(f"{place}.value = {value!r}; {place}.dispatchEvent(new Event({event!r}))")


def type_into(browser, selector, text):
    browser.run(f"document.querySelector({selector!r}).focus()")
    for key in text:
        browser.press(key)


def test_it_opens_from_a_disk_and_asks_for_nothing_else(opened):
    assert opened.complaints == []
    assert {url.rpartition("/")[2] for url in opened.requests if url != "about:blank"} == {
        "index.html", "report.css", "data.js", "dom.js", "charts.js", "table.js", "text.js",
        "overview.js", "main.js",
    }  # fmt: skip
    assert all(url.startswith(("file:", "about:")) for url in opened.requests)


def test_tiles_and_pictures_are_there(opened, run):
    exact = sum(row.exact for row in verbatim.load_results(run))
    tiles = opened.run("document.getElementById('tiles').innerText")
    assert f"exact: {exact} of 300" in tiles and "hf 5.19.0, float32" in tiles
    assert opened.run("document.querySelectorAll('#charts svg').length") == 3
    assert opened.run("document.querySelectorAll('#charts figure').length") == 5
    assert opened.run("document.querySelectorAll('#charts circle').length") == 300 - 300 // 7


def test_a_status_and_a_diagnosis_filter_the_table(opened, run):
    rows = list(verbatim.load_results(run))
    click(opened, "[data-value=unsolved]")
    unsolved = [row for row in rows if row.status == "unsolved"]
    assert opened.run(SHOWN) == f"{len(unsolved)} of 300 texts"
    assert opened.run(IDS) == [row.id for row in unsolved][:50]
    opened.run(
        "(s => { s.value = 'loop'; s.dispatchEvent(new Event('change')); })(document.getElementById('diagnosis'))"
    )
    loops = [row.id for row in unsolved if row.diagnosis == "loop"]
    assert opened.run(IDS) == loops[:50]
    assert opened.run("location.hash") == "#status=unsolved&diagnosis=loop"
    click(opened, "[data-value=unsolved]")
    assert opened.run("location.hash") == "#diagnosis=loop"


def test_a_choice_has_an_address(browser, page, run):
    browser.open(page, "#q=whale&status=rejected&sort=steps&down=1")
    rows = [row for row in verbatim.load_results(run) if row.status == "rejected" and "whale" in row.text]
    steps = sorted((row.steps for row in rows), reverse=True)
    assert browser.run(f"{ROWS}.map(r => +r.querySelector('.c-steps').textContent)") == steps[:50]
    assert browser.run("document.getElementById('search').value") == "whale"


def test_columns_sort_both_ways_and_what_has_no_value_is_last(opened, run):
    margins = sorted(round(row.min_margin, 2) for row in verbatim.load_results(run) if row.min_margin is not None)
    of_rows = f"{ROWS}.map(r => r.querySelector('.c-min_margin').textContent)"
    click(opened, "[data-sort=min_margin]")
    assert [float(text) for text in opened.run(of_rows)] == pytest.approx(margins[:50], abs=0.011)
    click(opened, "[data-sort=min_margin]")
    assert [float(text) for text in opened.run(of_rows)] == pytest.approx(margins[::-1][:50], abs=0.011)
    assert opened.run("document.querySelector('[aria-sort=descending] button').dataset.sort") == "min_margin"


def test_keys_search_walk_open_turn_and_come_back(opened, run):
    opened.press("/")
    assert opened.run("document.activeElement.id") == "search"
    for key in "whale":
        opened.press(key)
    ids = opened.run(IDS)
    assert 1 < len(ids) <= 50 and opened.run("document.getElementById('search').value") == "whale"
    opened.press("Escape")
    opened.press("j")
    opened.press("j")
    assert opened.run("document.activeElement.textContent") == ids[1]
    opened.press("Enter")
    opened.wait("!document.getElementById('one').hidden")
    assert opened.run("document.getElementById('title').firstChild.textContent") == ids[1]
    opened.press("ArrowRight")
    opened.wait(f"document.title.startsWith({ids[2]!r})")
    opened.press("ArrowLeft")
    opened.press("Escape")
    opened.wait("document.getElementById('one').hidden")
    assert opened.run(IDS) == ids, "the search is as it was left"


def test_a_text_has_a_page_of_its_own(browser, page, run):
    row = verbatim.load_results(run)["row-4"]
    browser.open(page, "#id=row-4")
    said = browser.run("document.getElementById('one').innerText")
    assert row.text in said and "rejected" in said and f"{row.first_mismatch} of {len(row.token_ids)}" in said
    assert "not every token's" in said, "no margin of a single token is stored, and none is made up"
    assert browser.run("document.querySelectorAll('.strip').length") == 2
    assert browser.run("document.querySelectorAll('.strip')[1].querySelectorAll('.broke').length") == 1
    assert browser.complaints == []
    browser.open(page, "#id=nobody")
    assert "No text here has the id nobody" in browser.run("document.getElementById('one').innerText")


def test_a_text_can_be_embedded(browser, page):
    browser.open(page, "#id=row-4&embed")
    assert browser.run("getComputedStyle(document.querySelector('header')).display") == "none"
    assert not browser.run("document.getElementById('one').hidden")


def test_a_hostile_text_is_shown_and_does_nothing(browser, page, run):
    browser.open(page)
    browser.run(f"location.hash = V.address({HOSTILE!r})")
    browser.wait("!document.getElementById('one').hidden")
    assert browser.run("window.hacked === undefined && !document.querySelector('img, #one script, #one b')")
    quoted = browser.run("document.querySelector('.command code').textContent")
    assert shlex.split(quoted) == ["verbatim", "decode", str(run), "--id", HOSTILE], "and no more commands"
    assert browser.run("document.querySelector('blockquote').textContent").startswith("</script><script>")
    assert "\u202e" not in browser.run("document.querySelector('#title').textContent")
    assert browser.run("V.command({command: 'x'}, 'a\\u001b[201~b')") is None, "a terminal would act on it"
    assert browser.complaints == []


@pytest.mark.parametrize("address", ["", "#id=row-4"])
def test_nothing_is_cut_off_on_a_narrow_screen(browser, page, address):
    browser.resize(400)
    browser.open(page, address)
    assert browser.run("document.documentElement.scrollWidth") <= 400
    widest = "Math.max(...[...document.querySelectorAll('main *:not(td *)')].map(e => e.getBoundingClientRect().right))"
    assert browser.run(widest) <= 400, browser.run(
        "[...document.querySelectorAll('main *:not(td *)')].filter(e => e.getBoundingClientRect().right > 400)"
        ".slice(0, 5).map(e => e.outerHTML.slice(0, 200))"
    )
    browser.resize(1280)


def test_it_is_dark_where_the_system_is_and_where_it_is_asked_to(opened):
    back = "getComputedStyle(document.body).backgroundColor"
    light = opened.run(back)
    opened.prefer("dark")
    dark = opened.run(back)
    assert dark != light
    opened.prefer("light")
    click(opened, "#theme")
    assert opened.run(back) == dark and opened.run("document.getElementById('theme').textContent") == "light"
    click(opened, "#theme")
    assert opened.run(back) == light


def test_two_runs_stand_side_by_side(browser, run, tmp_path):
    rows = [made_row(n, status="verified" if n < 200 else "unsolved") for n in range(250)]
    other = make_run(tmp_path / "other", rows)
    page = site_of(run, tmp_path, against=other)
    browser.open(page)
    assert "other: 200 of 250" in browser.run("document.getElementById('tiles').innerText")
    here = {row.id: row.exact for row in verbatim.load_results(run)}
    changed = [row["id"] for row in rows if row["id"] in here and here[row["id"]] != row["exact"]]
    click(browser, "[data-kind=differs]")
    assert browser.run(SHOWN) == f"{len(changed)} of 300 texts"
    browser.run(f"location.hash = '#id={changed[0]}'")
    browser.wait("!document.getElementById('one').hidden")
    said = browser.run("document.getElementById('one').innerText")
    assert "In other" in said and "In made up" in said and browser.complaints == []


def test_ten_thousand_texts_are_searched_and_turned(browser, tmp_path):
    rows = [made_row(n, status=STATUSES[n % 7], num_vectors=1, hidden_size=2) for n in range(10_000)]
    page = site_of(make_run(tmp_path / "run", rows), tmp_path)
    browser.open(page)
    assert browser.run(SHOWN) == "10,000 texts"
    started = time.monotonic()
    type_into(browser, "#search", "row-9999")
    assert browser.run(IDS) == ["row-9999"]
    took = time.monotonic() - started
    assert took < 20, f"eight keys took {took:.1f} s"
    choose(browser, "search", "input", "")
    click(browser, "#pages button:last-child")
    assert browser.run(IDS)[-1] == "row-9999" and browser.run(f"{ROWS}.length") == 50
    assert browser.run("document.querySelectorAll('*').length") < 12_000
    assert browser.complaints == []


def with_ways(folder, rows, num_steps=7):
    """The run with a way kept for these rows: at step n the first n tokens are right."""
    kept = History(folder)
    for row in rows:
        trajectory, length = Trajectory(), len(row["token_ids"])
        for step in range(num_steps):
            trajectory.add(step, torch.tensor([1.0 if t < step else -2.0 for t in range(length)]))
        kept.add({row["id"]: trajectory.end()})
    kept.commit(rows)
    return folder


def test_a_slider_goes_through_the_steps_of_a_texts_attempt(browser, tmp_path):
    rows = [made_row(n, status=STATUSES[n % len(STATUSES)]) for n in range(3)]
    page = site_of(with_ways(make_run(tmp_path / "run", rows), rows[2:]), tmp_path)
    length = len(rows[2]["token_ids"])
    browser.resize(1280)
    browser.open(page, "#id=row-2")
    said = "document.querySelector('output[for=step]').textContent"
    assert browser.run(said) == f"step 6: {min(6, length)} of {length} tokens right, smallest margin -2.00"
    choose(browser, "step", "input", "2")
    assert browser.run(said) == f"step 2: 2 of {length} tokens right, smallest margin -2.00"
    browser.run("document.getElementById('step').focus()")
    browser.press("ArrowRight")
    browser.wait(f"({said}).startsWith('step 3: 3 of')")
    assert browser.run("location.hash") == "#id=row-2" and browser.complaints == []
    browser.resize(400)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    browser.open(page, "#id=row-0")
    assert browser.run("document.getElementById('step')") is None
