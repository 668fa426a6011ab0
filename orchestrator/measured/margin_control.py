"""How much margin another engine's numerics ask for: measured once, then asked of every text.

Owns: the measurement, its key in the cache, the recipe that follows from it. Must not know: actors, runs.

Margins of the same prompts are compared token by token between the solver and the verifying engine. Two engines that
compute the same model in float32 differ by rounding; more than that is an error, not a margin. Where `stop_margin`
lies below `noise_factor` times the largest difference it is raised to that; a text that is rejected all the same asks
for more by itself (`margin_growth`).
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

from engine import pocket
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.probes import SECONDS as PROBE_S
from engine.probes import Probe
from engine.reach import ALIKE
from engine.recipe import Recipe
from engine.user_cache import cache_folder
from orchestrator.console.errors import UserError
from orchestrator.measured.model_cache import read_cached, write_cached
from orchestrator.verifiers.contract import SCORED, Candidate, Mode, Verdict

SHIPPED = pocket.PATH / "engine_noise.json"

LOGIT_SIZED = 0.03
"""Share of the logits' standard deviation from which a difference in float32 is none of rounding. Measured 2026-11-25:
the solver is 7e-7 from transformers and 2e-6 from vLLM on the pocket model, 5e-6 and 1e-5 on SmolLM2-135M. A missing
layer makes about 0.7, another rms_norm_eps or an ignored YaRN more. bfloat16 reaches 0.05 and is never an error."""

CHAOTIC = 100
"""Times its own rounding that a solver may differ from an engine all the same: a model that blows rounding up to the
size of a logit does so in both. Measured 2026-11-25: 0.3 to 3.3 times. Assumption, far above that."""


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


@dataclass(frozen=True)
class EnginePair:
    """Two engines on one model.

    Attributes:
        model: as the user named it.
        fingerprint: of the model in the solver's numerics.
        device: the solver's.
        engine: the verifying one, name and version.
    """

    model: str
    fingerprint: str
    device: str
    solver_dtype: str
    engine: str
    engine_dtype: str

    @property
    def key(self) -> str:
        """Names the measurement in the cache; `fingerprint` already tells the solver's dtype."""
        text = json.dumps([self.device, self.engine, self.engine_dtype])
        return f"{self.fingerprint}-noise-{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"


def settled_noise(
    pair: EnginePair,
    probes: Callable[[], list[Probe]],
    judge: Callable[[list[Candidate]], list[Verdict]],
    say: Callable[[str], None],
) -> EngineNoise | None:
    """The two engines' difference, measured before or now; None if nothing can be compared.

    Args:
        probes: makes them, in the solver.
        judge: asks the verifying engine for its margins.
        say: a line for a person.
    Raises:
        UserError: they do not compute the same model.
    """
    noise = load_noise(pair.key)
    if noise is None:
        apart = "measuring how far the two engines' margins lie apart"
        say(f"{apart}: about {PROBE_S:.0f} s at most, kept for the next time")
        made = probes()
        noise = compare(made, judge(candidates_of(made)))
        require_same_model(made, noise, pair)
        if noise is not None:
            save_noise(pair.key, noise)
    return noise


def noise_mode(engine: str) -> Mode:
    """How an engine is asked for its margins: by reading, where it decodes as it reads.

    vLLM does, to the bit on processors (LOG 2026-11-26), and reading takes a third of the time. Models of transformers
    may go on from another state in their cache than they read (Moshi, Nemotron-H): there decoding is compared.
    """
    return SCORED if engine.startswith("vllm") else Mode(margins=True)


def candidates_of(probes: list[Probe]) -> list[Candidate]:
    """The probes as the verifier takes them."""
    return [Candidate(p.target.id, p.prompt_KD.cpu().numpy(), p.target.token_ids) for p in probes]


def compare(probes: list[Probe], verdicts: list[Verdict]) -> EngineNoise | None:
    """Differences between the margins the solver measured and the engine's own; None if nothing can be compared.

    Of what was scored every token is compared. Of what was decoded those that both got right, and the first at which
    the engine alone went wrong: there the margin moved by at least its own size.
    """
    moved: list[float] = []
    for probe, verdict in zip(probes, verdicts, strict=True):
        if verdict.target_margins is not None:
            moved += [abs(a - b) for a, b in zip(probe.margins, verdict.target_margins, strict=True)]
            continue
        theirs = verdict.margins or ()
        right = next((t for t, margin in enumerate(probe.margins) if not margin > 0), len(probe.margins))
        moved += [abs(a - b) for a, b in zip(probe.margins[:right], theirs, strict=False)]
        if len(theirs) < right and verdict.refusal is None:
            moved.append(probe.margins[len(theirs)])
    if not moved:
        return None
    return EngineNoise(max(moved), sorted(moved)[len(moved) // 2], len(moved))


def require_same_model(probes: list[Probe], noise: EngineNoise | None, pair: EnginePair) -> None:
    """In float32 a difference the size of logits means that one engine computes another model.

    Raises:
        UserError: it is that large; names both engines, the difference and the remedy.
    """
    if noise is None or (pair.solver_dtype, pair.engine_dtype) != ("float32", "float32"):
        return
    spread, rounding = max(p.spread for p in probes), max(p.rounding for p in probes)
    if noise.largest <= max(LOGIT_SIZED * spread, CHAOTIC * rounding):
        return
    here = "check that the model's folder is whole and its configuration the one it was trained with"
    remedy = here if pair.engine.startswith("hf") else f"judge with --engine hf; if that differs too, {here}"
    raise UserError(
        f"--model {pair.model}: the solver and {pair.engine} do not compute the same model: in float32 their margins "
        f"differ by up to {noise.largest:.2g} logits, and rounding explains {rounding:.1g}; {remedy}"
    )


def told_of_end(recipe: Recipe, end_reach: float) -> str | None:
    """What to say of a model that hardly knows how to end a text; None of any other.

    Args:
        end_reach: the largest margin that its end-of-text token can have, logits.
    """
    if not recipe.end_of_text or end_reach >= ALIKE:
        return None
    follows = (
        "no text that ends with it is proved for beams, and each takes all its steps"
        if recipe.proof == "beam"
        else f"no text that ends with it gets a margin of {recipe.stop_margin:.2g}; texts are done with less, and take "
        "more steps"
    )
    return (
        f"this model can tell its end-of-text token from its like by {end_reach:.2g} logits at most, so {follows}. "
        "--set end_of_text=false leaves the end out of them; or give the tokenizer the token that the model does end "
        "texts with"
    )


def with_margin_for(recipe: Recipe, noise: EngineNoise | None) -> Recipe:
    """The recipe, asking for the margin the noise calls for where it asks for less."""
    needed = recipe.noise_factor * noise.largest if noise else 0.0
    return recipe if needed <= recipe.stop_margin else recipe.with_margins_times(needed / recipe.stop_margin)


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

    python -m orchestrator.measured.margin_control      # after runs with each engine and --verify-dtype
    """
    prefix = f"{FrozenLM.load(ModelSource('pocket')).fingerprint}-noise-"
    values = {path.stem: json.loads(path.read_text()) for path in sorted(cache_folder().glob(f"{prefix}*.json"))}
    SHIPPED.write_text(json.dumps(values, indent=1) + "\n")
    print(SHIPPED.read_text())


if __name__ == "__main__":
    ship()
