"""Vector plans of earlier runs.

Owns: what a plan depends on, and its key. Must not know: how a plan is found, files.

    python -m orchestrator.measured.plan_cache       # after the pocket model or the default recipe changed
"""

import hashlib
import json
import math

from engine import pocket
from engine.capacity import MAX_STEPS, TOKENS_PER_VECTOR, VectorPlan, calibrate
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe
from engine.samples import LENGTHS
from engine.solver import Solver
from orchestrator.measured.model_cache import read_cached, write_cached

DECIDES_NOTHING = {
    "num_vectors", "end_of_text", "seed", "max_steps", "attempts", "siblings", "growth", "margin_growth",
    "noise_factor", "population",
}  # fmt: skip
"""Keys of a recipe that a plan does not depend on; max_steps enters by itself."""

FOR_BEAMS = {"proof", "beam_overrun"}
"""Keys that decide nothing either where greedy decoding is what is to be proved."""

SHIPPED = pocket.PATH / "vector_plans.json"


def cache_key(fingerprint: str, recipe: Recipe) -> str:
    """Model and everything in the recipe that decides what a vector can hold."""
    left_out = DECIDES_NOTHING | (set() if recipe.proof == "beam" else FOR_BEAMS)
    optimisation = {key: value for key, value in recipe.canonical().items() if key not in left_out}
    rule = [optimisation, LENGTHS, TOKENS_PER_VECTOR, min(MAX_STEPS, recipe.max_steps)]
    digest = hashlib.blake2b(json.dumps(rule, sort_keys=True).encode(), digest_size=6).hexdigest()
    return f"{fingerprint}-{digest}"


def load_plan(fingerprint: str, recipe: Recipe, seconds: float) -> VectorPlan | None:
    """A plan found before, or None; None too where it was left undecided in less than these `seconds`."""
    value = read_cached(cache_key(fingerprint, recipe), SHIPPED)
    try:
        plan = None if value is None else VectorPlan.from_json(value)
    except (ValueError, KeyError, TypeError):
        return None
    return None if plan and plan.undecided and plan.seconds < seconds else plan


def save_plan(fingerprint: str, recipe: Recipe, plan: VectorPlan) -> None:
    """Keep a plan for the next run."""
    write_cached(cache_key(fingerprint, recipe), plan.to_json())


def ship() -> None:
    """Calibrate the pocket model under the default recipe, for both proofs, and keep the plans beside its weights."""
    lm = FrozenLM.load(ModelSource("pocket"))
    recipes = [Recipe(), Recipe(proof="beam")]
    plans = {cache_key(lm.fingerprint, recipe): calibrate(Solver(lm), recipe, math.inf).to_json() for recipe in recipes}
    SHIPPED.write_text(json.dumps(plans, indent=1) + "\n")
    print(SHIPPED.read_text())


if __name__ == "__main__":
    ship()
