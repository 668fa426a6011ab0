"""Where vector plans are kept: beside the pocket model for the pocket model, in the user's cache for any other.

Owns: the cache's key and files. Must not know: how a plan is found.

    python -m orchestrator.plan_cache       # after the pocket model or the default recipe changed
"""

import hashlib
import json
import os
from pathlib import Path

from engine import pocket
from engine.capacity import LENGTHS, MAX_STEPS, TOKENS_PER_VECTOR, VectorPlan, calibrate
from engine.frozen_lm import FrozenLM, ModelSource
from engine.recipe import Recipe
from engine.solver import Solver

DECIDES_NOTHING = {"num_vectors", "end_of_text", "seed", "max_steps", "attempts", "siblings", "growth", "margin_growth"}
"""Keys of a recipe that a plan does not depend on; max_steps enters by itself."""

SHIPPED = pocket.PATH / "vector_plans.json"


def cache_key(fingerprint: str, recipe: Recipe) -> str:
    """Model and everything in the recipe that decides what a vector can hold."""
    optimisation = recipe.model_dump(mode="json", exclude=DECIDES_NOTHING)
    rule = [optimisation, LENGTHS, TOKENS_PER_VECTOR, min(MAX_STEPS, recipe.max_steps)]
    digest = hashlib.blake2b(json.dumps(rule, sort_keys=True).encode(), digest_size=6).hexdigest()
    return f"{fingerprint}-{digest}"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/verbatim`, or `~/.cache/verbatim`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "verbatim"


def load_plan(fingerprint: str, recipe: Recipe) -> VectorPlan | None:
    """A plan found before, or None. A damaged cache file counts as none."""
    key = cache_key(fingerprint, recipe)
    for path, pick in (
        (SHIPPED, lambda plans: plans[key]),
        (cache_folder() / f"{key}.json", lambda plan: plan),
    ):
        try:
            return VectorPlan.from_json(pick(json.loads(path.read_text())))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def save_plan(fingerprint: str, recipe: Recipe, plan: VectorPlan) -> None:
    """Keep a plan; a folder that cannot be written is no reason to stop a run."""
    path = cache_folder() / f"{cache_key(fingerprint, recipe)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(plan.to_json()) + "\n")
        temporary.replace(path)
    except OSError:
        pass


def ship() -> None:
    """Calibrate the pocket model under the default recipe and keep the plan beside its weights."""
    lm = FrozenLM.load(ModelSource("pocket"))
    recipe = Recipe()
    plan = calibrate(Solver(lm), recipe)
    SHIPPED.write_text(json.dumps({cache_key(lm.fingerprint, recipe): plan.to_json()}, indent=1) + "\n")
    print(SHIPPED.read_text())


if __name__ == "__main__":
    ship()
