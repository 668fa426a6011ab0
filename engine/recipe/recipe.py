"""The recipe whole: sections put together, checked against each other, and taken apart by stage.

Owns: cross-field rules, the hash, what a stage changes. Must not know: Ray, files of a run.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from engine.recipe.sections import (
    LIKELIHOODS,
    MOST,
    ContextRecipe,
    CurriculumRecipe,
    KnobsRecipe,
    LossRecipe,
    MemberRecipe,
    NoiseRecipe,
    OptimRecipe,
    ParameterisationRecipe,
    PopulationRecipe,
    StageRecipe,
    StartRecipe,
    TermsRecipe,
)
from engine.schedules import Value, build_schedule
from engine.strict import Strict

STAGE_SECTIONS = ("loss", "terms", "knobs", "context", "noise", "parameterisation", "optim")
"""Sections a stage may change: none that decides what is asked or when an attempt is done."""

MEMBER_SECTIONS = (*STAGE_SECTIONS, "start", "curriculum")
"""Sections a member of a portfolio may change, likewise."""


class Recipe(Strict):
    """One run's optimisation, whole."""

    num_vectors: int | Literal["auto"] = Field(
        default="auto", description="soft-prompt vectors K; auto: from the model's calibration and the text's length"
    )
    end_of_text: bool = Field(
        default=True, description="whether stopping, by the end-of-text token, is part of the target"
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="seed of every random stream")
    max_steps: int = Field(default=500, ge=1, le=1_000_000, description="optimisation steps of one attempt")
    max_positions: int = Field(
        default=0,
        ge=0,
        le=10**15,
        description="positions an attempt may pass forward and backward; 0 is unbounded",
    )
    attempts: int = Field(default=5, ge=1, le=100, description="attempts at a text before it is given up")
    siblings: int = Field(default=1, ge=1, le=256, description="slots an attempt runs side by side; the first one wins")
    proof: Literal["greedy", "beam", "auto"] = Field(
        default="greedy",
        description="beam: no other text is likelier, so that beam search of any width says it too; margins then are "
        "leads over whole texts, in nats; auto: beam where the model pays at most a quarter more for it, else greedy",
    )
    beam_overrun: int = Field(
        default=8,
        ge=8,
        le=MOST,
        description="proof = beam: tokens that a search which divides scores by length may decode past the target; "
        "the verifier's decodes 8",
    )
    stop_margin: float = Field(default=0.5, gt=0, description="smallest margin in logits at which an attempt is done")
    noise_factor: float = Field(
        default=2.0,
        ge=0,
        le=64,
        description="stop_margin is raised to this many times the engines' measured difference; 0 is off",
    )
    growth: float = Field(default=1.5, ge=1, le=8, description="factor on K after an unsolved attempt; 1 keeps K")
    margin_growth: float = Field(
        default=2.0, ge=1, le=16, description="factor on both margins after a rejected candidate"
    )
    after_failure: Literal["grow", "correct"] = Field(
        default="grow",
        description="an unsolved text begins afresh with more vectors, or from its best prompt, weighed where it broke",
        json_schema_extra={"neutral": "grow"},
    )
    loss: LossRecipe = LossRecipe()
    terms: TermsRecipe = TermsRecipe()
    knobs: KnobsRecipe = KnobsRecipe()
    context: ContextRecipe = ContextRecipe()
    noise: NoiseRecipe = NoiseRecipe()
    parameterisation: ParameterisationRecipe = ParameterisationRecipe()
    optim: OptimRecipe = OptimRecipe()
    start: StartRecipe = StartRecipe()
    curriculum: CurriculumRecipe = CurriculumRecipe()
    population: PopulationRecipe = PopulationRecipe()
    stages: tuple[StageRecipe, ...] = Field(default=(), description="stages of an attempt, in order")
    portfolio: tuple[MemberRecipe, ...] = Field(
        default=(),
        description="recipes that siblings, and attempts after an unsolved one, take in turn; none is this one for all",
        max_length=64,
        json_schema_extra={"neutral": []},
    )

    def model_post_init(self, _: Any) -> None:
        if self.num_vectors != "auto" and self.num_vectors < 1:
            raise ValueError(f"num_vectors = {self.num_vectors}: must be at least 1, or auto")
        if self.num_vectors != "auto" and self.num_vectors > MOST:
            raise ValueError(f"num_vectors: must be at most {MOST}, or auto")
        has_margin = self.loss.name not in LIKELIHOODS or self._gives_way
        asked = self.loss.margin * self._largest(self.loss.margin_factor)
        if asked < self.stop_margin * (1 - 1e-9) and has_margin:
            annealed = "" if self.loss.margin_factor == 1 else f" times loss.margin_factor, at most {asked:g}"
            raise ValueError(
                f"loss.margin = {self.loss.margin}{annealed}: must be at least stop_margin = {self.stop_margin}, "
                "or the loss is satisfied before the attempt is"
            )
        if self.context.name == "mixer" and self.terms.reinforce == 0 and self.terms.rloo == 0:
            raise ValueError("context.name = 'mixer': its tail learns from a reward; set terms.reinforce or terms.rloo")
        self._check_stages()
        self._check_parts("portfolio", "a member", self.portfolio, MEMBER_SECTIONS)

    def _largest(self, value: Value) -> float:
        """The largest value over an attempt, looked at in 65 places."""
        schedule = build_schedule(value, self.max_steps)
        return max(schedule(self.max_steps * share / 64) for share in range(65))

    def _check_stages(self) -> None:
        if not self.stages:
            return
        if self.curriculum.growth != "none":
            raise ValueError(f"curriculum.growth = {self.curriculum.growth!r}: stages set the length; choose one")
        ends = [stage.until for stage in self.stages]
        if ends != sorted(set(ends)) or ends[-1] != 1:
            raise ValueError(f"stages.until = {ends}: must rise and end with 1")
        if self.stages[-1].length_frac != 1:
            raise ValueError(
                f"stages.length_frac = {self.stages[-1].length_frac}: the last stage trains the whole text"
            )
        self._check_parts("stages", "a stage", self.stages, STAGE_SECTIONS)

    def _check_parts(
        self, key: str, what: str, parts: Sequence[StageRecipe | MemberRecipe], sections: Sequence[str]
    ) -> None:
        """Each part changes none but these sections, and with its values the recipe holds together."""
        for number, part in enumerate(parts):
            for name in part.set:
                if name not in sections:
                    raise ValueError(
                        f"{key}.{number}.set.{name}: {what} may change {', '.join(sections)}, nothing else"
                    )
            try:
                self._merged(part)
            except ValidationError as error:
                raise ValueError(f"{key}.{number}.set.") from error  # the cause says the rest

    @property
    def _gives_way(self) -> bool:
        """Whether the main loss is a likelihood that the violation norm takes over from."""
        is_whole = not self.stages and self.curriculum.growth == "none"
        return is_whole and self.loss.name in LIKELIHOODS and self.loss.patience > 0

    @property
    def lessons(self) -> tuple[StageRecipe, ...]:
        """The stages an attempt goes through: those that are written down, or the two of `loss.patience`, or none."""
        return _stalled_likelihood(self.loss.patience, self.proof) if self._gives_way else self.stages

    def by_stage(self) -> tuple["Recipe", ...]:
        """The recipe of each of `lessons`, its own values merged in; only itself where there are none."""
        return tuple(self._merged(stage) for stage in self.lessons) or (self,)

    def of_member(self, place: int) -> "Recipe":
        """This recipe as the portfolio's member at a place has it, counted round and round; itself where none is."""
        return self._merged(self.portfolio[place % len(self.portfolio)]) if self.portfolio else self

    def _merged(self, part: StageRecipe | MemberRecipe) -> "Recipe":
        base = self.model_dump(exclude={"stages", "portfolio"} if isinstance(part, StageRecipe) else {"portfolio"})
        return Recipe.model_validate(base | {name: base[name] | values for name, values in part.set.items()})

    def canonical(self) -> dict[str, Any]:
        """The values as JSON has them, without keys at their neutral value, and the recipe's revisions: what tells
        recipes apart, over versions."""
        return _told(self) | ({"revisions": list(self.revisions)} if self.revisions else {})

    @property
    def revisions(self) -> tuple[str, ...]:
        """Names of the `REVISIONS` that concern it."""
        return tuple(sorted(name for name, concerns in REVISIONS.items() if concerns(self)))

    @property
    def hash(self) -> str:
        """Hash of the canonical JSON, 16 hex digits."""
        canonical = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    def with_margins_times(self, factor: float) -> "Recipe":
        """The same recipe asking for `factor` times the margin, in every stage and of every member."""
        values = self.model_dump()
        values["stop_margin"] *= factor
        parts = (*values["stages"], *values["portfolio"])
        for loss in (values["loss"], *(part["set"].get("loss", {}) for part in parts)):
            if "margin" in loss:
                loss["margin"] *= factor
        return Recipe.model_validate(values)


def _leads_first(recipe: Recipe) -> bool:
    """Whether some attempt under it chases leads where a likelihood came first until 2026-11-26."""
    members = (recipe.of_member(place) for place in range(max(1, len(recipe.portfolio))))
    return recipe.proof == "beam" and any(member._gives_way for member in members)


REVISIONS: dict[str, Callable[[Recipe], bool]] = {"leads_first": _leads_first}
"""What came to be computed otherwise under the same values: by name, whether a recipe is concerned.

The hash of such a recipe has the name in it, so that its folders, checkpoints, outcomes and vector plans are not taken
for those of the recipe that it was.
"""


@cache
def _stalled_likelihood(patience: int, proof: str) -> tuple[StageRecipe, ...]:
    """A likelihood moves all positions at once and hides the one that will not go, which the norm then chases.

    With `proof = "beam"` the norm is of leads over whole texts and chases from the first step: on two models that took
    a tenth to a quarter less work than a likelihood before it (docs/proof.md).
    """
    chase = StageRecipe(until=1, set={"loss": {"name": "violation_norm"}})
    return (chase,) if proof == "beam" else (StageRecipe(until=1, gate="stalled", patience=patience), chase)


def _as_written(values: Any) -> Any:
    """A recipe that was written down whole, with the keys that are younger than it at what was done without them."""
    if not isinstance(values, dict):
        return values
    return values | {
        name: _neutral_of(type(section)) | values.get(name, {})
        for name, section in Recipe()
        if isinstance(section, Strict)
    }


def _neutral_of(section: type[Strict]) -> dict[str, Any]:
    extras = {name: field.json_schema_extra for name, field in section.model_fields.items()}
    return {name: extra["neutral"] for name, extra in extras.items() if isinstance(extra, dict) and "neutral" in extra}


StoredRecipe = Annotated[Recipe, BeforeValidator(_as_written)]
"""A recipe out of a record that holds all keys there were when it was written."""


def _told(section: Strict) -> dict[str, Any]:
    values = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value, extra = getattr(section, name), field.json_schema_extra
        if isinstance(extra, dict) and "neutral" in extra and values[name] == extra["neutral"]:
            del values[name]
        elif isinstance(value, Strict):
            values[name] = _told(value)
            if not values[name]:
                del values[name]  # a section younger than the recipe
        elif isinstance(value, tuple):
            values[name] = [_told(part) if isinstance(part, Strict) else part for part in value]
    return values
