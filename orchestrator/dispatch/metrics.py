"""The metrics of a run, all in one table, exported by Ray for Prometheus.

Owns: names, units and meanings; recording that never fails. Must not know: the loop, the log, Prometheus.

Ray prefixes every name with `ray_`. Without Ray's metrics agent the values go nowhere and nothing else changes.
"""

import math
import time
from dataclasses import dataclass
from typing import Literal

from ray.util import metrics as ray_metrics

GAUGE_INTERVAL_S = 2.0
"""Seconds between two settings of the gauges. Ray forgets a gauge that is not set for some 20 s."""


@dataclass(frozen=True)
class Metric:
    """One metric of a run.

    Attributes:
        unit: of its value.
        tags: its labels besides `run`.
        boundaries: of a histogram's buckets, rising.
    """

    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    meaning: str
    tags: tuple[str, ...] = ()
    boundaries: tuple[float, ...] = ()

    def series(self, name: str) -> str:
        """The series that Prometheus holds; a histogram's are its buckets."""
        return f"ray_{name}" + {"counter": "_total", "gauge": "", "histogram": "_bucket"}[self.kind]


STEPS = (1, 2, 5, 10, 15, 20, 30, 40, 60, 80, 120, 200, 300, 500, 1000, 2000, 5000)
LOGITS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 5, 10, 20)
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300)

METRICS = {
    "verbatim_texts": Metric("counter", "texts", "committed rows, by status", ("status",)),
    "verbatim_exact_frac": Metric("gauge", "share", "verified among the texts that ended, invalid ones included"),
    "verbatim_queue_depth": Metric("gauge", "texts", "open texts: pending, leased, candidate", ("state",)),
    "verbatim_retries": Metric("counter", "texts", "sent round again: unsolved, rejected, lost_worker", ("cause",)),
    "verbatim_steps": Metric("histogram", "steps", "of an attempt that ended", ("outcome",), STEPS),
    "verbatim_margin_logits": Metric("histogram", "logits", "smallest margin of a solved attempt", (), LOGITS),
    "verbatim_slots": Metric("gauge", "slots", "busy in a solver's table", ("worker",)),
    "verbatim_solver_positions": Metric("counter", "positions", "passed forward and backward", ("worker",)),
    "verbatim_solver_busy_seconds": Metric("counter", "seconds", "a solver computed", ("worker",)),
    "verbatim_verifier_tokens": Metric("counter", "tokens", "decoded by the verifiers"),
    "verbatim_verifier_busy_seconds": Metric("counter", "seconds", "judging calls took"),
    "verbatim_verdict_seconds": Metric("histogram", "seconds", "from candidate to verdict", (), SECONDS),
    "verbatim_commit_seconds": Metric("histogram", "seconds", "to put one part on disk", (), SECONDS),
    "verbatim_replacements": Metric("counter", "actors", "died and were started anew", ("worker",)),
}

KINDS = {"counter": ray_metrics.Counter, "gauge": ray_metrics.Gauge}


class Metrics:
    """The instruments of one run. Nothing here raises: a run is worth more than its figures.

    Args:
        run_name: the label `run`, as in the actors' names.
    """

    def __init__(self, run_name: str):
        self._run = {"run": run_name.encode("utf-8", "replace").decode()}
        self._instruments: dict[str, ray_metrics.Metric] = {}
        self._gauges_due = 0.0
        for name, metric in METRICS.items():
            try:
                self._instruments[name] = _instrument(name, metric)
            except Exception:
                continue

    @property
    def are_gauges_due(self) -> bool:
        """Whether to set the gauges; true once in `GAUGE_INTERVAL_S`."""
        now = time.monotonic()
        if now < self._gauges_due:
            return False
        self._gauges_due = now + GAUGE_INTERVAL_S
        return True

    def record(self, name: str, value: float = 1, **tags: str) -> None:
        """Add to a counter, set a gauge, or observe with a histogram.

        What is not finite is left out: Ray would drop the gauge and count it in a histogram's last bucket.
        """
        if not math.isfinite(value):
            return
        try:
            instrument, tags = self._instruments[name], tags | self._run
            if isinstance(instrument, ray_metrics.Counter):
                if value > 0:
                    instrument.inc(value, tags)
            elif isinstance(instrument, ray_metrics.Gauge):
                instrument.set(value, tags)
            elif isinstance(instrument, ray_metrics.Histogram):
                instrument.observe(value, tags)
        except Exception:
            return


def _instrument(name: str, metric: Metric) -> ray_metrics.Metric:
    text, tags = f"{metric.meaning} ({metric.unit})", (*metric.tags, "run")
    if metric.kind == "histogram":
        return ray_metrics.Histogram(name, text, list(metric.boundaries), tags)
    return KINDS[metric.kind](name, text, tags)
