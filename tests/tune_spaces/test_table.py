"""What a person sees of trials."""

import io

from rich.console import Console

from tests.tune_spaces.made_up import report, search_on, study_in
from tune_spaces.objective import OBJECTIVES
from tune_spaces.study import ended_trials
from tune_spaces.table import best_table, told


def trials_in(folder):
    """One complete, one stopped early at a small cost, one stopped late, one that came to nothing."""
    study = study_in(folder)
    search = search_on(study)
    results = [
        report(3.0, 3.0, 3.0, 3.0),
        report(1.0, 1.5, texts=1),
        report(4.0, 4.0, 4.0, 9.0, texts=3),
        None,
    ]
    for number, result in enumerate(results):
        search.suggest(str(number))
        search.on_trial_complete(str(number), result)
    return ended_trials(study)


def test_complete_trials_come_first_and_then_those_that_came_farthest(tmp_path):
    console = Console(width=200, file=io.StringIO())
    console.print(best_table(trials_in(tmp_path), console, OBJECTIVES["cost"]))
    head, *rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert head[:2] == ["trial", "cost"]
    assert [row[0] for row in rows] == ["0", "2", "1", "3"]
    assert rows[0][1:5] == ["3.0", "100%", "0.50", "complete"]
    assert rows[1][1] == rows[2][1] == "stopped", "a cost over fewer texts does not compare"


def test_a_trial_is_told_in_one_line(tmp_path):
    complete, early, late, failed = map(told, trials_in(tmp_path))
    assert complete.startswith("trial 0 complete, 3.0 passes a text, 100% of 4 exact: optim.lr=")
    assert early.startswith("trial 1 stopped, 1 of its first 2 texts at an end: ")
    assert late.startswith("trial 2 stopped, 3 of its first 4 texts at an end: ")
    assert failed.startswith("trial 3 failed: optim.lr=")


def test_where_prefixes_count_the_longest_comes_first(tmp_path):
    study = study_in(tmp_path, objective="capacity")
    search = search_on(study, "capacity")
    for number, tokens in enumerate((9.5, 12.25, 11.0)):
        search.suggest(str(number))
        search.on_trial_complete(str(number), report(7.0, 7.0, 7.0, 7.0, prefix_tokens=tokens, exact_frac=0.0))
    console = Console(width=200, file=io.StringIO())
    console.print(best_table(ended_trials(study), console, OBJECTIVES["capacity"]))
    head, *rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert head[:3] == ["trial", "prefix", "cost"] and [row[:2] for row in rows[:2]] == [["1", "12.2"], ["2", "11.0"]]
    assert ", 0% of 4 exact, exact prefixes of 12.2 tokens: " in told(ended_trials(study)[1])
