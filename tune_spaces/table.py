"""What a person sees while a search goes on: a table that redraws itself, or a line a trial.

Owns: the picture. Must not know: how trials are run or drawn.
"""

import math
from collections.abc import Callable
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.console.terminal import cell, cut_off, say
from tune_spaces.objective import Objective
from tune_spaces.study import ended_trials

NUM_SHOWN = 10
SHOWN = (
    ("prefix", "prefix_tokens", ".1f"),
    ("cost", "cost", ".1f"),
    ("exact", "exact_frac", ".0%"),
    ("margin", "margin", ".2f"),
)
"""Columns: title, figure, form. The first is for searches that go by it."""

OTHER_WIDTH = 42
"""Columns of the terminal that the table needs beside the recipe."""

LABELS = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


class TrialTable(Callback):
    """Shows the best trials and how many are under way.

    Args:
        study: where ended trials are.
        total: trials asked for.
        objective: that trials are ranked by.
        on_result: told of every report of a trial.
        on_end: told when a trial has ended.
    """

    def __init__(
        self,
        console: Console,
        study: optuna.Study,
        total: int,
        objective: Objective,
        on_result: Callable[[], object] = lambda: None,
        on_end: Callable[[], object] = lambda: None,
    ):
        self._console, self._study, self._total, self._objective = console, study, total, objective
        self._on_result, self._on_end = on_result, on_end
        self._shown: set[int] = {trial.number for trial in ended_trials(study)}
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None

    def setup(self, **info: Any) -> None:
        if self._live:
            self._live.start()

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any):
        self._on_result()
        self._draw(trials)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._on_end()
        self._draw(trials)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._draw(trials)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        self.close()
        if self._live is None:
            self._say_new()

    def close(self) -> None:
        """Take the live table down; nothing if there is none."""
        if self._live:
            self._live.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Ray pickles what it is given, and nobody reads it."""
        return {}

    def _draw(self, trials: list[Any]) -> None:
        if self._live is None:
            self._say_new()
            return
        ended = ended_trials(self._study)
        num_running = sum(trial.status == "RUNNING" for trial in trials)
        head = Text(f"{len(ended)} of {self._total} trials ended, {num_running} under way")
        self._live.update(Group(head, best_table(ended, self._console, self._objective)))

    def _say_new(self) -> None:
        for trial in ended_trials(self._study):
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                say(self._console, f"{len(self._shown)} of {self._total}: {told(trial)}")


def best_table(trials: list[FrozenTrial], console: Console, objective: Objective) -> Table:
    """The best trials; after those that are complete the stopped ones that came farthest."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = SHOWN if objective.name == "capacity" else SHOWN[1:]
    for name in ("trial", *(name for name, _, _ in columns)):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("recipe", overflow=cut_off(console), no_wrap=True, max_width=max(20, console.width - OTHER_WIDTH))
    for trial in sorted(trials, key=lambda trial: _rank(trial, objective))[:NUM_SHOWN]:
        known = trial.state is TrialState.COMPLETE
        figures = [f"{_figure(trial, name):{form}}" if known else "" for _, name, form in columns]
        table.add_row(str(trial.number), *figures, LABELS[trial.state], cell(drawn(trial)))
    return table


def _rank(trial: FrozenTrial, objective: Objective) -> tuple[bool, int, float]:
    """Figures compare over the same texts alone, so stopped trials go by how many they were given."""
    is_complete = trial.state is TrialState.COMPLETE
    num_texts = len(trial.user_attrs.get("costs", ()))
    sign = 1 if objective.directions[0] == "minimize" else -1
    return not is_complete, -num_texts, sign * trial.user_attrs.get(objective.metrics[0], math.inf * sign)


def told(trial: FrozenTrial) -> str:
    """A trial in one line."""
    return f"{state_and_figures(trial)}: {drawn(trial)}"


def state_and_figures(trial: FrozenTrial) -> str:
    """How it ended and what it came to."""
    state = f"trial {trial.number} {LABELS.get(trial.state, trial.state.name.lower())}"
    if trial.state is not TrialState.COMPLETE:
        num_texts, num_given = trial.user_attrs.get("texts", 0), len(trial.user_attrs.get("costs", ()))
        return state + (f", {num_texts} of its first {num_given} texts at an end" if num_given else "")
    is_all_exact = _figure(trial, "exact_frac") == 1
    prefix = "" if is_all_exact else f", exact prefixes of {_figure(trial, 'prefix_tokens'):.1f} tokens"
    return (
        f"{state}, {_figure(trial, 'cost'):.1f} passes a text, "
        f"{_figure(trial, 'exact_frac'):.0%} of {trial.user_attrs.get('texts', 0)} exact{prefix}"
    )


def drawn(trial: FrozenTrial) -> str:
    """Its parameters, as `--set` takes them."""
    return " ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}" for key, value in trial.params.items()
    )


def _figure(trial: FrozenTrial, name: str) -> float:
    return trial.user_attrs.get(name, math.nan)
