"""Writes verbatim.json, the Grafana board of a run: `python deploy/grafana/make_board.py`.

Owns: panels and their queries. Must not know: how a metric comes about; orchestrator/dispatch/metrics.py names it.
"""

import json
from pathlib import Path
from typing import Any

from orchestrator.dispatch.metrics import METRICS

FILE = Path(__file__).with_name("verbatim.json")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 12, 8

Query = tuple[str, str]
"""A query and its legend."""


def series(name: str) -> str:
    """A metric of the chosen runs."""
    return f'{METRICS[name].series(name)}{{run=~"$run"}}'


def rate(name: str) -> str:
    return f"rate({series(name)}[$__rate_interval])"


def quantiles(name: str, *, by: str | None = None) -> list[Query]:
    """Median and 90th percentile of everything since the run began."""
    labels, legend = ("le", "") if by is None else (f"le, {by}", f" {{{{{by}}}}}")
    return [
        (f"histogram_quantile({q}, sum by ({labels}) ({series(name)}))", f"{word}{legend}")
        for q, word in ((0.5, "median"), (0.9, "90 %"))
    ]


PANELS: list[tuple[str, str, str, list[Query]]] = [
    ("Texts by status", "stat", "short", [(f"sum by (status) ({series('verbatim_texts')})", "{{status}}")]),
    ("Exact, of the texts that ended", "gauge", "percentunit", [(f"avg({series('verbatim_exact_frac')})", "exact")]),
    ("Texts a minute", "timeseries", "short", [(f"60 * sum by (status) ({rate('verbatim_texts')})", "{{status}}")]),
    ("Open texts", "timeseries", "short", [(f"sum by (state) ({series('verbatim_queue_depth')})", "{{state}}")]),
    ("Steps of an attempt", "timeseries", "short", quantiles("verbatim_steps", by="outcome")),
    ("Margin of solved attempts, logits", "timeseries", "short", quantiles("verbatim_margin_logits")),
    ("Busy slots", "timeseries", "short", [(f"sum by (worker) ({series('verbatim_slots')})", "{{worker}}")]),
    (
        "Solver positions a second, forward and backward",
        "timeseries",
        "short",
        [(f"sum by (worker) ({rate('verbatim_solver_positions')})", "{{worker}}")],
    ),
    (
        "Time spent computing",
        "timeseries",
        "percentunit",
        [
            (f"sum by (worker) ({rate('verbatim_solver_busy_seconds')})", "{{worker}}"),
            (f"sum({rate('verbatim_verifier_busy_seconds')})", "verifier"),
        ],
    ),
    (
        "Verifier tokens a second",
        "timeseries",
        "short",
        [
            (f"sum({rate('verbatim_verifier_tokens')})", "over all time"),
            (
                f"sum({rate('verbatim_verifier_tokens')}) / (sum({rate('verbatim_verifier_busy_seconds')}) > 0)",
                "while judging",
            ),
        ],
    ),
    ("Candidate to verdict", "timeseries", "s", quantiles("verbatim_verdict_seconds")),
    ("Commit of a part", "timeseries", "s", quantiles("verbatim_commit_seconds")),
    ("Retries by cause", "timeseries", "short", [(f"sum by (cause) ({series('verbatim_retries')})", "{{cause}}")]),
    (
        "Actors replaced",
        "timeseries",
        "short",
        [(f"sum by (worker) ({series('verbatim_replacements')})", "{{worker}}")],
    ),
]


def board() -> dict[str, Any]:
    """The whole board, as Grafana imports it."""
    return {
        "title": "Verbatim",
        "uid": "verbatim",
        "tags": ["verbatim", "ray"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [_sources(), _runs()]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _sources() -> dict[str, Any]:
    return {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _runs() -> dict[str, Any]:
    query = f"label_values({METRICS['verbatim_queue_depth'].series('verbatim_queue_depth')}, run)"
    return {
        "name": "run",
        "label": "Run",
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "run"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panel(number: int, title: str, kind: str, unit: str, queries: list[Query]) -> dict[str, Any]:
    limits = {"min": 0, "max": 1} if kind == "gauge" else {"min": 0}
    return {
        "id": number + 1,
        "title": title,
        "type": kind,
        "datasource": SOURCE,
        "gridPos": {"x": number % 2 * WIDTH, "y": number // 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, **limits}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
            for i, (query, legend) in enumerate(queries)
        ],
    }


def text() -> str:
    """The board as the file holds it."""
    return json.dumps(board(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
