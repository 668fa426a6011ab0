"""Slots for a Ray `Tuner` of one's own: resident models that trials borrow from, whoever draws and schedules them.

Owns: what a trainable of Ray's needs to try recipes here. Must not know: searchers, schedulers, studies.

    with open_slots("corpus.txt", Path("runs/own")) as slots:
        tuner = tune.Tuner(slots.trainable, param_space={"optim.lr": tune.loguniform(0.1, 10)}, tune_config=...)
        best = tuner.fit().get_best_result(slots.metric, slots.mode)
        print(slots.compare(best.config).figures)
"""

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from rich.console import Console

from engine.loading import require_whole_files
from engine.model_source import ModelSource
from engine.recipe import Recipe
from orchestrator.console.errors import UserError
from orchestrator.console.terminal import make_console
from orchestrator.corpus import Reading, open_corpus
from orchestrator.fleet import workers
from orchestrator.storage.folder_lock import sole_writer
from orchestrator.storage.location import parse_location
from tune_spaces.hold_out import Comparison, compare
from tune_spaces.objective import OBJECTIVES
from tune_spaces.opened import Opened, open_pool
from tune_spaces.options import TuneOptions
from tune_spaces.running import TUNE_SETTINGS, beside_the_driver
from tune_spaces.spaces import Preset, Space
from tune_spaces.spaces.draw import Draw
from tune_spaces.trial import trial

OWN = Space("own", lambda draw: None)
"""Draws nothing: whoever brings a Tuner draws."""


@dataclass(frozen=True)
class Slots:
    """Resident models and a sample of texts.

    Attributes:
        base: what a trial's configuration changes.
        objective: one of `OBJECTIVES`.
    """

    base: Recipe
    objective: str
    opened: Opened

    @property
    def metric(self) -> str:
        """The figure that the objective goes by first."""
        return OBJECTIVES[self.objective].metrics[0]

    @property
    def mode(self) -> str:
        """Whether it is to be small or large: `min` or `max`."""
        return OBJECTIVES[self.objective].modes[0]

    @property
    def trainable(self) -> Any:
        """For `tune.Tuner`: its configuration is recipe keys with values, as `--set` takes them.

        It reports `cost`, `exact_frac`, `margin`, `prefix_tokens`, `positions` and `texts` (the number that have ended)
        after each rung of the sample, the cheapest texts first; a scheduler may stop it at any of them.
        """
        tried = tune.with_parameters(_try, base=self.base, pool=self.opened.pool, rungs=self.opened.sample.rungs)
        return beside_the_driver(tried)

    @property
    def num_texts(self) -> int:
        """Texts that a trial has seen at its end: `max_t` of a scheduler whose `time_attr` is `texts`."""
        return len(self.opened.sample.tune)

    def recipe(self, config: Mapping[str, Any]) -> Recipe:
        """The base with the values of a configuration.

        Raises:
            ValidationError: no recipe takes them.
        """
        return recipe_with(self.base, config)

    def compare(self, config: Mapping[str, Any]) -> Comparison:
        """A configuration and the base on the texts that were held out."""
        hold_out = self.opened.sample.hold_out
        sides = workers.get([self.opened.solve(each, hold_out) for each in (self.recipe(config), self.base)])
        return compare(sides[0], sides[1], self.objective)


@contextmanager
def open_slots(
    corpus: str,
    out: Path,
    *,
    model: str = "pocket",
    base: Recipe | None = None,
    texts: int = 16,
    hold_out: int = 32,
    budget: float = 150,
    objective: str = "cost",
    engine: str = "vllm",
    seed: int = 0,
    address: str | None = None,
    quiet: bool = True,
) -> Iterator[Slots]:
    """Models loaded, texts drawn, the base recipe measured; all of it goes when the block ends.

    Args:
        corpus: as `verbatim tune` takes it.
        out: a folder of its own; outcomes are kept there, so that nothing is paid for twice.
        base: what configurations change; the default recipe by default.
        budget: passes over a text that a recipe may take.
        objective: `cost`, `pareto` or `capacity`.
        address: of a Ray cluster; where Ray is connected already that one is used, and left alone at the end.
        quiet: whether nothing is told of the models' start.
    Raises:
        UserError, ModelError: an argument that cannot be used, named.
    """
    if objective not in OBJECTIVES:
        raise UserError(f"objective={objective!r}: must be of {', '.join(OBJECTIVES)}")
    settings = Preset(texts=texts, hold_out=hold_out, budget=budget)
    place = parse_location(corpus, "corpus")
    options = TuneOptions(
        corpus=place, out=out, settings=settings, space=OWN, base=base or Recipe(), seed=seed,
        source=ModelSource(model), reading=Reading(), address=address, engine=engine,
    )  # fmt: skip
    options.require_known()
    opened_corpus = open_corpus(options.corpus, options.reading)
    require_whole_files(options.source)
    was_connected = ray.is_initialized()
    os.environ.update({name: value for name, value in TUNE_SETTINGS.items() if name not in os.environ})
    with sole_writer(options.out):
        if not was_connected:
            workers.connect(options.address, dashboard=False)
        try:
            console = Console(file=io.StringIO()) if quiet else make_console()
            opened = open_pool(options, opened_corpus, console)
            try:
                base = opened.record.base
                yield Slots(base, objective, opened.cheapest_first(base))
            finally:
                ray.kill(opened.pool)  # and with it the solvers and the verifier, which it owns
        finally:
            if not was_connected:
                ray.shutdown()


def recipe_with(base: Recipe, config: Mapping[str, Any]) -> Recipe:
    """A recipe with other values under dotted keys."""
    draw = Draw(None, base)
    for key, value in config.items():
        draw.set(key, value)
    return Recipe.model_validate(draw.values)


def _try(config: dict[str, Any], *, base: Recipe, **given: Any) -> None:
    trial({"recipe": recipe_with(base, config).model_dump_json()}, **given)
