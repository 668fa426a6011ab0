"""How much margin another engine's numerics ask for: measured once, then asked of every text.

Owns: the measurement, its key in the cache, the recipe that follows from it. Must not know: actors, runs.

Margins of the same prompts are compared token by token between the solver and the verifying engine. Where `stop_margin`
lies below `noise_factor` times the largest difference it is raised to that; a text that is rejected all the same asks
for more by itself (`margin_growth`).
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass

from engine import pocket
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.probes import Probe
from engine.recipe import Recipe
from engine.user_cache import cache_folder
from orchestrator.model_cache import read_cached, write_cached
from orchestrator.verifier import Candidate, Verdict

SHIPPED = pocket.PATH / "engine_noise.json"


@dataclass(frozen=True)
class EngineNoise:
    """How far apart two engines' margins lie on the same prompts.

    Attributes:
        largest: over all compared tokens, logits.
        median: logits.
        num_tokens: compared tokens.
    """

    largest: float
    median: float
    num_tokens: int


def candidates_of(probes: list[Probe]) -> list[Candidate]:
    """The probes as the verifier takes them."""
    return [Candidate(p.target.id, p.prompt_KD.cpu().numpy(), p.target.token_ids) for p in probes]


def compare(probes: list[Probe], verdicts: list[Verdict]) -> EngineNoise | None:
    """Differences between the margins the solver measured and the engine's own; None if nothing can be compared.

    Compared are the tokens that both got right, and the first at which the engine alone went wrong: there the
    margin moved by at least its own size.
    """
    moved: list[float] = []
    for probe, verdict in zip(probes, verdicts, strict=True):
        theirs = verdict.margins or ()
        right = next((t for t, margin in enumerate(probe.margins) if not margin > 0), len(probe.margins))
        moved += [abs(a - b) for a, b in zip(probe.margins[:right], theirs, strict=False)]
        if len(theirs) < right and verdict.refusal is None:
            moved.append(probe.margins[len(theirs)])
    if not moved:
        return None
    return EngineNoise(max(moved), sorted(moved)[len(moved) // 2], len(moved))


def with_margin_for(recipe: Recipe, noise: EngineNoise | None) -> Recipe:
    """The recipe, asking for the margin the noise calls for where it asks for less."""
    needed = recipe.noise_factor * noise.largest if noise else 0.0
    return recipe if needed <= recipe.stop_margin else recipe.with_margins_times(needed / recipe.stop_margin)


def cache_key(fingerprint: str, device: str, engine: str, engine_dtype: str) -> str:
    """Both engines, their numerics and the device: `fingerprint` already tells the solver's dtype."""
    digest = hashlib.blake2b(json.dumps([device, engine, engine_dtype]).encode(), digest_size=6).hexdigest()
    return f"{fingerprint}-noise-{digest}"


def load_noise(key: str) -> EngineNoise | None:
    """A measurement made before, or None; a value that none can have come from counts as none."""
    value = read_cached(key, SHIPPED)
    try:
        noise = None if value is None else EngineNoise(**value)
        return noise if noise and math.isfinite(noise.largest) and noise.largest >= 0 else None
    except TypeError:
        return None


def save_noise(key: str, noise: EngineNoise) -> None:
    """Keep a measurement for the next run."""
    write_cached(key, asdict(noise))


def ship() -> None:
    """Keep what runs on this machine measured about the pocket model beside its weights.

    python -m orchestrator.margin_control      # after runs with each engine and --verify-dtype
    """
    prefix = f"{FrozenLM.load(ModelSource('pocket')).fingerprint}-noise-"
    values = {path.stem: json.loads(path.read_text()) for path in sorted(cache_folder().glob(f"{prefix}*.json"))}
    SHIPPED.write_text(json.dumps(values, indent=1) + "\n")
    print(SHIPPED.read_text())


if __name__ == "__main__":
    ship()
