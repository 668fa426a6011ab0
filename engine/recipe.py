"""The recipe: every value a run can be told about the optimisation, in one strict, frozen model.

Owns: names, defaults, ranges, TOML and `--set`, the hash. Must not know: Ray, files of a run.
"""

import difflib
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names key, value and remedy."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LossRecipe(_Strict):
    """What an optimisation step descends."""

    name: Literal["violation_norm", "squared_hinge", "cross_entropy"] = Field(
        default="violation_norm", description="loss term, engine.losses.TERMS"
    )
    margin: float = Field(default=1.0, gt=0, description="logits the loss asks for between a target and its best rival")
    p: float = Field(
        default=3.0, ge=1, le=16, description="order of violation_norm: 2 minds the mean, 16 the worst position"
    )


class OptimRecipe(_Strict):
    """Adam with a decaying rate. Source: Kingma & Ba 2015, 1412.6980."""

    lr: float = Field(
        default=1.0, gt=0, le=100, description="step size in units of the embedding's root-mean-square entry"
    )
    beta1: float = Field(default=0.8, ge=0, lt=1, description="decay of the gradient's mean")
    beta2: float = Field(default=0.9, ge=0, lt=1, description="decay of the squared gradient's mean")
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the squared gradient")
    decay: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="shape of the rate over max_steps"
    )
    final_lr_frac: float = Field(default=0.05, ge=0, le=1, description="share of lr left at max_steps")


class StartRecipe(_Strict):
    """Where a soft prompt starts."""

    name: Literal["vocabulary", "random", "mean"] = Field(default="vocabulary", description="engine.soft_prompt.STARTS")


class Recipe(_Strict):
    """One run's optimisation, whole."""

    num_vectors: int | Literal["auto"] = Field(
        default="auto", description="soft-prompt vectors K; auto: from the model's calibration and the text's length"
    )
    end_of_text: bool = Field(
        default=True, description="whether stopping, by the end-of-text token, is part of the target"
    )
    seed: int = Field(default=0, ge=0, description="seed of every random stream")
    max_steps: int = Field(default=500, ge=1, le=1_000_000, description="optimisation steps of one attempt")
    attempts: int = Field(default=5, ge=1, le=100, description="attempts at a text before it is given up")
    siblings: int = Field(default=1, ge=1, le=256, description="slots an attempt runs side by side; the first one wins")
    stop_margin: float = Field(default=0.5, gt=0, description="smallest margin in logits at which an attempt is done")
    growth: float = Field(default=1.5, ge=1, le=8, description="factor on K after an unsolved attempt; 1 keeps K")
    margin_growth: float = Field(
        default=2.0, ge=1, le=16, description="factor on both margins after a rejected candidate"
    )
    loss: LossRecipe = LossRecipe()
    optim: OptimRecipe = OptimRecipe()
    start: StartRecipe = StartRecipe()

    def model_post_init(self, _: Any) -> None:
        if self.num_vectors != "auto" and self.num_vectors < 1:
            raise ValueError(f"num_vectors = {self.num_vectors}: must be at least 1, or auto")
        if self.loss.margin < self.stop_margin and self.loss.name != "cross_entropy":
            raise ValueError(
                f"loss.margin = {self.loss.margin}: must be at least stop_margin = {self.stop_margin}, "
                "or the loss is satisfied before the attempt is"
            )

    @property
    def hash(self) -> str:
        """Hash of the canonical JSON, 16 hex digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()

    def with_margins_times(self, factor: float) -> "Recipe":
        """The same recipe asking for `factor` times the margin."""
        loss = self.loss.model_copy(update={"margin": self.loss.margin * factor})
        return self.model_copy(update={"stop_margin": self.stop_margin * factor, "loss": loss})


def load_recipe(path: Path | None = None, overrides: list[str] | None = None) -> Recipe:
    """A recipe from a TOML file and `key=value` overrides, dotted keys reaching into sections.

    Raises:
        RecipeError: unreadable file, unknown key (nearest valid name offered), value out of range.
    """
    values = _read_toml(path) if path else {}
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise RecipeError(f"--set {override}: must be key=value, for example --set optim.lr=0.05")
        _assign(values, key.strip().split("."), _parse_value(text.strip()), override)
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_explain(error)) from error


def valid_keys(model: type[BaseModel] = Recipe, prefix: str = "") -> list[str]:
    """Every dotted key a recipe takes."""
    keys = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += valid_keys(section, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"--recipe {path}: no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"--recipe {path}: not a TOML file ({error})") from error


def _parse_value(text: str) -> Any:
    """A TOML value; anything that is not one is taken as a bare string (`loss.name=cross_entropy`)."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _assign(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        values = values.setdefault(key, {})
        if not isinstance(values, dict):
            raise RecipeError(f"--set {override}: {key} is a value, not a section")
    values[keys[-1]] = value


def _explain(error: ValidationError) -> str:
    """The first complaint as one line: key, value, remedy."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in ("int", "literal['auto']"))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, valid_keys(), n=1, cutoff=0.0)
        return f"recipe key {key}: unknown; the nearest valid key is {near[0]}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {first['input']!r}: {message}" if key else message
