"""`verbatim decode`: what is shown, what is in the JSON, and what is refused in one line."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from engine.decoding import STRATEGIES
from orchestrator.decode.sight import Believed, Said, Sight, Weakest
from orchestrator.decode.sight_view import BARS, bar, marked, print_sight
from orchestrator.decode.strategies import choose
from orchestrator.results.ledger import Ledger
from tests.orchestrator.conftest import SAYINGS

RIGHT = Said("greedy", {}, True, 4, "exact", -1.5, "It was.", "It was.", "", "", [1, 2, 3, 0], [])
WRONG = Said("beam", {"width": 4}, False, 1, "drift", -2.5, "It is\tlate.", "It", " is\t", "late.", [1, 5, 6, 0], [])
SIGHT = Sight("a", "float32", "It was.", [1, 2, 3, 0], [0.5, -1.0, 9.0, 0.2], Weakest(1, " was", -1.0), [RIGHT, WRONG])


def shown(sight, **settings):
    console = Console(file=io.StringIO(), width=80, **settings)
    print_sight(sight, console, as_json=False)
    return console.file.getvalue()


def test_the_first_wrong_token_stands_between_brackets_where_there_is_no_colour():
    lines = shown(SIGHT).splitlines()
    assert [line.rstrip() for line in lines[:5]] == [
        "target   It was.",
        "greedy   It was.",
        "         exact; score -1.5",
        "beam     It>> is\\t<<late.",
        "         differs from token 1 on (drift); score -2.5",
    ]


def test_the_first_wrong_token_is_reversed_where_there_is_colour():
    text = marked(WRONG, is_coloured=True)
    assert text.plain == "It is\\tlate."
    assert [(text.plain[span.start : span.end], span.style) for span in text.spans] == [
        ("It", "green"), (" is\\t", "reverse red"), ("late.", "dim"),
    ]  # fmt: skip
    assert "\x1b[7;31m" in shown(SIGHT, force_terminal=True, color_system="standard")
    assert ">>" in shown(SIGHT, force_terminal=True, color_system="standard", no_color=True)


def test_an_end_that_came_too_soon_is_marked():
    early = Said("greedy", {}, False, 2, "early_stop", 0.0, "It was", "It was", "", "", [1, 2, 0], [])
    assert marked(early, is_coloured=False).plain == "It was>>(end)<<"


@pytest.mark.parametrize(
    ("margin", "drawn"),
    [(float("nan"), "x"), (-3, "x"), (0, "x"), (0.1, "▁"), (0.125, "▂"), (0.49, "▃"), (0.5, "▄"), (8, "█"), (99, "█")],
)
def test_a_bar_is_a_step_higher_with_every_doubling(margin, drawn):
    assert bar(margin) == drawn


def test_beliefs_are_a_line_a_step_with_what_is_small_left_out():
    beliefs = [
        Believed([1, 5], ["It", "\t"], [0.9, 0.1], 0.3251), Believed([2, 6], [" is", "x"], [0.9951, 0.0049], 0.0311)
    ]  # fmt: skip
    soft = replace(RIGHT, strategy="soft", beliefs=beliefs)
    lines = [line.rstrip() for line in shown(replace(SIGHT, strategies=[soft])).splitlines()]
    assert lines[3:6] == [
        "beliefs  shares of the tokens read at each step, largest first",
        '      0  90% "It"  10% "\\t"  (0.5 bits)',
        '      1  100% " is"  (0.0 bits)',
    ]
    assert "beliefs" not in shown(SIGHT)


def test_margins_are_one_bar_a_token_and_the_weakest_is_named():
    *_, bars, weakest = shown(SIGHT).splitlines()
    assert bars == "      0  ▄x█▂" and weakest == 'weakest  token 1 " was" with -1.00 logits'


def test_long_margins_wrap_at_round_positions():
    margins = [1.0] * 174 + [0.25]
    lines = shown(Sight("a", "float32", "x", [1] * 175, margins, Weakest(174, "x", 0.25), [RIGHT])).splitlines()
    bars = [line for line in lines if set(line[9:]) <= set(BARS)]
    assert [line[:9].strip() for line in bars] == ["0", "70", "140"]
    assert "".join(line[9:] for line in bars) == "▅" * 174 + "▃" and max(map(len, bars)) <= 80


def test_without_block_characters_bars_are_digits():
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_sight(SIGHT, Console(file=file, width=80), as_json=False)
    file.flush()
    assert b"      0  4x82\n" in file.buffer.getvalue()


def test_strategies_come_in_the_order_asked_for_with_their_settings():
    chosen = choose(["beam", "greedy", "beam"], ["beam.width=8", "beam.processors.no_repeat_ngram=3"])
    assert list(chosen) == ["beam", "greedy"]
    assert chosen["beam"].width == 8 and chosen["beam"].processors.no_repeat_ngram == 3
    assert list(choose(["all"], [])) == list(STRATEGIES)


def test_clauses_are_given_as_toml():
    chosen = choose(["constrained"], ['constrained.clauses=[["Paris", "!London"], ["rain"]]'])
    assert chosen["constrained"].clauses == (("Paris", "!London"), ("rain",))


def test_every_setting_of_every_strategy_is_documented():
    table = (Path(__file__).parents[3] / "docs" / "decoding.md").read_text()
    for name, strategy in STRATEGIES.items():
        (line,) = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
        for key, value in strategy().model_dump(mode="json", exclude={"name"}).items():
            shown = [f"`{key}`"] if key == "processors" else [f"`{key}` {json.dumps(value)}"]
            shown += [f"`processors.{k}` {v}" for k, v in value.items()] if key == "processors" else []
            assert all(text in (table if "processors." in text else line) for text in shown), (name, key)


@pytest.fixture
def refused(sayings, verbatim, contents):
    """`decode` must refuse this: its one line, `error: ` taken off."""

    def run(*args):
        before = contents(sayings)
        outcome = verbatim("decode", sayings, *args)
        (line,) = outcome.err.splitlines()
        assert (outcome.code, outcome.out, line[:7]) == (2, "", "error: ") and contents(sayings) == before
        return line[7:]

    return run


@pytest.mark.ray
@pytest.mark.slow
class TestOnARun:
    """On the shared run's stored prompts."""

    def test_every_strategy_shows_its_text_beside_the_target(self, sayings, verbatim, contents):
        before = contents(sayings)
        outcome = verbatim("decode", sayings, "--id", "door", "--strategy", "all")
        assert (outcome.code, outcome.err) == (0, ""), outcome
        lines = outcome.out.splitlines()
        assert lines[0].split(maxsplit=1) == ["target", SAYINGS["door"]]
        labels = [line.split()[0] for line in lines if line[:1].isalpha()]
        assert labels[labels.index("soft") + 1] == "beliefs"
        assert [label for label in labels if label != "beliefs"] == ["target", *STRATEGIES, "margins", "weakest"]
        assert lines[1].split(maxsplit=1) == ["greedy", SAYINGS["door"]] and "exact; score -" in lines[2]
        assert contents(sayings) == before

    def test_json_has_what_each_strategy_said_and_the_margins(self, sayings, verbatim):
        asked = ("--strategy", "greedy", "--strategy", "beam", "--set", "beam.width=2")
        sight = json.loads(verbatim("decode", sayings, "--id", "sea", *asked, "--json").out)
        stored = Ledger(sayings).read_id("sea")
        assert sight["target"] == SAYINGS["sea"] and sight["token_ids"] == stored["token_ids"]
        assert len(sight["margins"]) == len(sight["token_ids"])
        assert min(sight["margins"]) == pytest.approx(stored["min_margin"], abs=1e-3)
        weakest = sight["weakest"]
        assert sight["margins"][weakest["token"]] == weakest["margin"] == min(sight["margins"])
        greedy, beam = sight["strategies"]
        assert (greedy["strategy"], beam["strategy"], beam["settings"]["width"]) == ("greedy", "beam", 2)
        assert greedy["exact"] and greedy["generated_ids"] == stored["token_ids"] and greedy["score"] < 0
        assert greedy["says"] == greedy["right"] == SAYINGS["sea"] and greedy["wrong"] == greedy["rest"] == ""
        assert greedy["first_mismatch"] == len(stored["token_ids"]) and greedy["diagnosis"] == "exact"

    def test_a_mismatch_is_marked_where_it_is(self, with_noise, verbatim):
        sight = json.loads(verbatim("decode", with_noise, "--id", "door", "--json").out)
        (said,) = sight["strategies"]
        assert not said["exact"] and said["diagnosis"] != "exact" and min(sight["margins"]) < 0
        assert said["right"] + said["wrong"] + said["rest"] == said["says"]
        assert SAYINGS["door"].startswith(said["right"])
        assert not SAYINGS["door"].startswith(said["right"] + said["wrong"]) or said["wrong"] == ""
        shown = verbatim("decode", with_noise, "--id", "door").out
        assert ">>" in shown and "<<" in shown and f"differs from token {said['first_mismatch']} on" in shown
        assert "weakest  token " in shown and "x" in shown.splitlines()[4]

    def test_other_numerics_can_be_asked_for(self, sayings, verbatim):
        sight = json.loads(verbatim("decode", sayings, "--id", "door", "--dtype", "bfloat16", "--json").out)
        assert sight["dtype"] == "bfloat16"

    def test_a_text_is_shown_with_its_control_characters_spelt_out(self, sayings, verbatim):
        outcome = verbatim("decode", sayings, "--id", "odd")
        assert outcome.code == 0 and "\x1b" not in outcome.out and "\x07" not in outcome.out
        assert outcome.out.count(r"a [b] \x1b[31mred\x07.") == 2

    @pytest.mark.parametrize(("id", "complaint"), [("nobody", "has no such row"), ("nothing", "is invalid (empty)")])
    def test_a_row_without_a_prompt(self, refused, id, complaint):
        line = refused("--id", id)
        assert line.startswith(f"--id {id}: ") and complaint in line

    @pytest.mark.parametrize(
        ("args", "complaint"),
        [
            (("--strategy", "bean"), "--strategy bean: must be one of greedy, beam"),
            (("--dtype", "int8"), "--dtype int8: must be one of float32"),
            (("--set", "greedy"), "--set greedy: must be key=value, for example --set beam.width=8"),
            (("--set", "greedy=3"), "--set greedy: must be STRATEGY.KEY=VALUE"),
            (("--set", "beam.width=2"), "--set beam.width: beam is not asked for; add --strategy beam"),
            (("--set", "bean.width=2"), "--set bean.width: unknown; the nearest valid key is beam.width"),
            (("--strategy", "beam", "--set", "beam.widht=2"), "the nearest valid key is beam.width"),
            (("--set", "greedy.processors.repetition=2"), "nearest valid key is greedy.processors.repetition_penalty"),
            (("--strategy", "beam", "--set", "beam.width=0"), "--set beam.width = 0: Input should be greater than"),
            (("--strategy", "beam", "--set", "beam.width=wide"), "--set beam.width = 'wide': "),
            (("--strategy", "constrained", "--set", "constrained.clauses=[['rain', 3]]"), "clauses.0.1 = 3: "),
        ],
    )
    def test_what_cannot_be_asked(self, refused, args, complaint):
        assert complaint in refused("--id", "door", *args)

    def test_what_a_strategy_cannot_do(self, refused):
        clauses = """constrained.clauses=[["rain"], ["!rain"]]"""
        line = refused("--id", "door", "--strategy", "constrained", "--set", clauses)
        assert line.startswith("constrained.clauses = (('rain',), ('!rain',)): cannot be met")

    def test_a_prompt_of_the_wrong_length(self, with_noise, verbatim, alter_row):
        alter_row(with_noise, "door", prompt=[0.5] * 7)
        outcome = verbatim("decode", with_noise, "--id", "door")
        assert outcome.code == 2 and outcome.err.startswith("error: --id door: prompt shape")
