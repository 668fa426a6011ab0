"""A search as one page that needs nothing else: what won, by how much, and Optuna's pictures of the study.

Owns: which pictures, the page. Must not know: Ray, how trials ran.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import optuna
import plotly.graph_objects as go
from optuna import visualization as pictures
from optuna.trial import TrialState
from plotly.offline import get_plotlyjs

from engine.recipe import Recipe, to_toml
from tune_spaces.hold_out import Comparison
from tune_spaces.record import TuneRecord
from tune_spaces.study import ended_trials, winner

TEMPLATE = Path(__file__).with_name("report.html.jinja")
MIN_COMPLETE = 2
"""Trials without which a picture of a study says nothing."""


def render(
    study: optuna.Study, record: TuneRecord, best: Recipe, comparison: Comparison | None, note: str | None = None
) -> str:
    """The page, plotly's code included; every text in it escaped.

    Args:
        note: what is to be known besides.
    """
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    trials = ended_trials(study)
    states = {state.name.lower(): sum(trial.state is state for trial in trials) for state in TrialState}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        record=record,
        winner=winner(study),
        comparison=comparison,
        note=note,
        best_toml=to_toml(best, header=""),
        states={state: count for state, count in states.items() if count},
        plotly_js=get_plotlyjs(),
        figures=list(_figures(study).items()),
    )


def _figures(study: optuna.Study) -> dict[str, str]:
    """Each picture as HTML by its title; none of a study that has hardly begun."""
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < MIN_COMPLETE:
        return {}
    # Of several objectives the pictures show one, which Optuna must be told; of one it shows the best so far.
    cost: dict[str, Any] = {"target_name": "passes a text"}
    if len(study.directions) > 1:
        cost["target"] = lambda trial: trial.values[0]
    makers: dict[str, Callable[[], go.Figure]] = {
        "History": lambda: pictures.plot_optimization_history(study, **cost),
        "Importance of parameters": lambda: pictures.plot_param_importances(study, **cost),
        "Parallel coordinates": lambda: pictures.plot_parallel_coordinate(study, **cost),
        "Pareto front": lambda: pictures.plot_pareto_front(
            _cost_and_margin(study), target_names=["passes a text", "margin, logits"]
        ),
        "Timeline": lambda: pictures.plot_timeline(study),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a low cost is taken for what is wanted: it is
        return {title: _html(make()) for title, make in makers.items()}


def _cost_and_margin(study: optuna.Study) -> optuna.Study:
    """The complete trials as a study of both, whatever the search went by."""
    both = optuna.create_study(directions=["minimize", "maximize"])
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        values = [trial.user_attrs["cost"], trial.user_attrs["margin"]]
        both.add_trial(optuna.create_trial(params=trial.params, distributions=trial.distributions, values=values))
    return both


def _html(figure: go.Figure) -> str:
    return figure.to_html(full_html=False, include_plotlyjs=False, default_height="480px")
