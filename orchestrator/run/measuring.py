"""What a run measures before its first text, where no earlier run left it: vectors for a text, what else suits the
model, margins between engines.

Owns: asking for it, telling what is asked. Must not know: how it is measured, where it is kept.
"""

import time
from dataclasses import dataclass

from engine.adaptation import Adaptation, is_left_open
from engine.capacity import VectorPlan, seconds_for
from engine.recipe import Recipe
from orchestrator.console.progress import Reporter
from orchestrator.fleet.roster import Roster
from orchestrator.measured.calibrating import settled_adaptation, settled_plan
from orchestrator.measured.margin_control import (
    EngineNoise,
    EnginePair,
    noise_mode,
    settled_noise,
    told_of_end,
    with_margin_for,
)
from orchestrator.run.hiring import Hired
from orchestrator.run.preparation import Prepared


@dataclass(frozen=True)
class Measured:
    """What is known before the first text.

    Attributes:
        plan: vectors by length; None where the recipe fixes them.
        engine: name and version of the verifier's engine.
        recipe: as it suits the model, with the margin that this engine asks for.
        adaptation: what the recipe left to the model; None where it leaves nothing.
    """

    plan: VectorPlan | None
    engine: str
    recipe: Recipe
    adaptation: Adaptation | None


def measure(prepared: Prepared, hired: Hired, reporter: Reporter) -> Measured:
    """Measure what the recipe leaves open.

    Raises:
        UserError: solver and verifier do not compute the same model.
    """
    options, info, roster, crew = prepared.options, hired.info, hired.roster, hired.crew
    ends = time.monotonic() + seconds_for(prepared.num_to_come)
    plan = _vector_plan(prepared, roster, reporter)
    adaptation = _adaptation(prepared, plan, max(0.0, ends - time.monotonic()), roster, reporter)
    suited = adaptation.of(options.recipe) if adaptation else options.recipe
    if (warning := told_of_end(suited, info.end_reach)) is not None:
        reporter.say(warning)
    engine = roster.ask_verifier(lambda verifier: verifier.ready.remote())
    pair = EnginePair(options.source.name, info.fingerprint, info.device_name, crew.dtype, engine, crew.spec.dtype)
    noise = _engine_noise(suited, plan, pair, roster, reporter)
    recipe = with_margin_for(suited, noise)
    if noise is not None:
        reporter.say(f"engines differ by up to {noise.largest:.2g} logits; margin asked for: {recipe.stop_margin:.2g}")
    return Measured(plan, engine, recipe, adaptation)


def _vector_plan(prepared: Prepared, roster: Roster, reporter: Reporter) -> VectorPlan | None:
    recipe = prepared.options.recipe
    if recipe.num_vectors != "auto":
        return None
    seconds = seconds_for(prepared.num_to_come)
    reporter.stage("measuring how many vectors a text needs")
    return settled_plan(
        lambda: roster.ask(lambda solver: solver.plan.remote(recipe, seconds)),
        seconds,
        reporter.say,
        reporter.note,
    )


def _adaptation(
    prepared: Prepared, plan: VectorPlan | None, seconds: float, roster: Roster, reporter: Reporter
) -> Adaptation | None:
    """What the run's folder was begun with, else what suits the model; None where the recipe leaves nothing open."""
    recipe, earlier = prepared.options.recipe, prepared.record
    if not is_left_open(recipe):
        return None
    if earlier is not None:  # from before there was any, where it has none: then the recipe's own order stands
        return earlier.adaptation or Adaptation()
    reporter.stage("measuring what suits the model")
    return settled_adaptation(
        lambda: roster.ask(lambda solver: solver.adaptation.remote(recipe, plan, seconds)),
        recipe,
        seconds,
        reporter.say,
        reporter.note,
    )


def _engine_noise(
    recipe: Recipe, plan: VectorPlan | None, pair: EnginePair, roster: Roster, reporter: Reporter
) -> EngineNoise | None:
    """How far the two engines' margins lie apart, from the cache or from a handful of texts.

    Raises:
        UserError: they do not compute the same model.
    """
    if recipe.noise_factor == 0:
        return None
    reporter.stage("comparing the margins of the two engines")
    return settled_noise(
        pair,
        lambda: roster.ask(lambda solver: solver.probes.remote(recipe, plan)),
        lambda asked: roster.ask_verifier(lambda verifier: verifier.judge.remote(asked, noise_mode(pair.engine))),
        reporter.say,
    )
