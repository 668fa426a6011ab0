"""The sections of a recipe: names, defaults, ranges.

Owns: one strict, frozen model a section. Must not know: how a value is used, files.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from engine.schedules import Value, build_schedule
from engine.strict import Strict

MOST = 1_000_000
"""Largest count of steps, tokens or vocabulary entries that a recipe may name."""


def _share(value: Value) -> Value:
    """Shares and probabilities; a schedule is looked at where it begins."""
    if not 0 <= (first := build_schedule(value, 1)(0.0)) <= 1:
        raise ValueError(f"{first:g} at the first step: must lie between 0 and 1")
    return value


def _positive(value: Value) -> Value:
    if (first := build_schedule(value, 1)(0.0)) <= 0:
        raise ValueError(f"{first:g} at the first step: must be > 0")
    return value


def _neutral(value: Any, description: str, *, default: Any = None, **bounds: Any) -> Any:
    """A key younger than the recipes that people keep: at this value it does what was done before there was the key.

    A recipe that has it there is the recipe it was: the same hash, and the same vector plan.
    """
    first = value if default is None else default
    return Field(default=first, description=description, json_schema_extra={"neutral": value}, **bounds)


Share = Annotated[Value, AfterValidator(_share)]
Positive = Annotated[Value, AfterValidator(_positive)]


LossName = Literal["violation_mix", "violation_norm", "squared_hinge", "hinge", "soft_hinge", "cross_entropy", "focal"]
LIKELIHOODS = ("cross_entropy", "focal")
"""The main terms that ask for no margin."""


class LossRecipe(Strict):
    """What an optimisation step descends: one term over the positions of a text, and the knobs of all such terms."""

    name: LossName = Field(default="cross_entropy", description="main term, engine.losses.position.POSITION_TERMS")
    weight: Value = Field(default=1.0, description="its weight beside the added terms")
    margin: float = Field(default=1.0, gt=0, description="logits the loss asks for between a target and its best rival")
    margin_factor: Positive = Field(default=1.0, description="factor on margin over the attempt, to anneal it")
    temperature: Positive = _neutral(
        1.0, "of the softmax that likelihoods are read from; margins do not know it", default=0.5
    )
    patience: int = _neutral(
        0,
        "likelihoods: steps without a new position right until violation_norm takes over; 0 is never",
        default=20,
        ge=0,
        le=MOST,
    )
    p: float = Field(default=4.0, ge=1, le=16, description="order of the norm: 2 minds the mean, 16 the worst position")
    gamma: float = Field(default=2.0, ge=0, le=16, description="focal's exponent; 0 is cross-entropy")
    num_leading: int = Field(default=0, ge=0, le=MOST, description="first positions that weigh leading_weight")
    leading_weight: float = Field(default=3.0, ge=0, description="their weight")
    prefix_weight: float = Field(
        default=1.0, ge=0, description="weight of the positions up to the first mismatch, that one included; 1 is off"
    )


def _weight(description: str) -> Any:
    return Field(default=0.0, description=description)


class TermsRecipe(Strict):
    """Weights of the terms added to the main one; 0 leaves a term out and costs nothing."""

    violation_mix: Value = _weight("p-norm of the violations plus half their mean, logits")
    violation_norm: Value = _weight("p-norm of the violations, logits")
    squared_hinge: Value = _weight("mean squared violation")
    hinge: Value = _weight("mean violation, logits")
    soft_hinge: Value = _weight("mean softplus of the violation, logits")
    cross_entropy: Value = _weight("mean negative log-likelihood, nats")
    focal: Value = _weight("cross-entropy that forgets positions already likely, nats")
    unlikelihood: Value = _weight("pushes down earlier target tokens; 0.5 in the literature")
    sequence_unlikelihood: Value = _weight("the same on repeated n-grams of the model's own greedy output")
    simctg: Value = _weight("keeps last hidden states apart; 0.1 to 0.3 in the literature")
    entropy: Value = _weight("mean entropy of next-token distributions, nats; negative weights reward it")
    autoregressive: Value = _weight("cross-entropy on the model's own greedy context, every so many steps; 0.2")
    optimal_completion: Value = _weight("edit-distance-optimal targets on the model's own context")
    professor_forcing: Value = _weight("a judge that tells own context from given context is to be fooled")
    reinforce: Value = _weight("policy gradient with a moving mean as baseline; 0.1")
    rloo: Value = _weight("policy gradient, each sample against the mean of the others; 0.1")
    minimum_risk: Value = _weight("expected loss over a renormalised sample set")
    prompt_perplexity: Value = _weight("how far each vector is from what the model expects next")
    manifold: Value = _weight("distance of each vector to the token embeddings")


class KnobsRecipe(Strict):
    """Knobs of the added terms."""

    contrast_rho: float = Field(default=0.5, ge=-1, le=2, description="simctg: how far apart states are to be")
    ngram: int = Field(default=4, ge=1, le=16, description="sequence_unlikelihood: tokens of a repeat")
    autoregressive_every: int = Field(default=10, ge=1, le=MOST, description="steps between two autoregressive passes")
    samples: int = Field(default=4, ge=2, le=64, description="sampled rollouts of a text")
    sample_temperature: float = Field(default=1.0, gt=0, description="of samples; other than 1 biases policy gradients")
    reward: Literal["prefix", "accuracy", "edit"] = Field(
        default="prefix", description="share of the text that is an exact prefix, token accuracy, 1 - edit distance"
    )
    baseline_decay: float = Field(default=0.9, ge=0, lt=1, description="reinforce: decay of the mean reward")
    risk_sharpness: float = Field(default=0.005, gt=0, description="minimum_risk: exponent on a sample's probability")
    manifold: Literal["nearest", "hull"] = Field(default="nearest", description="nearest embedding, or convex hull")


class ContextRecipe(Strict):
    """What the model reads at target positions while a prompt is trained."""

    name: Literal[
        "teacher_forcing", "scheduled_sampling", "embedding_mix", "two_pass", "free_running", "mixer",
        "soft_decoding", "gumbel_softmax",
    ] = Field(default="teacher_forcing", description="policy, engine.contexts.POLICIES")  # fmt: skip
    eps: Share = Field(default=0.5, description="probability, or share, of the ground truth")
    own_token: Literal["greedy", "sample"] = Field(default="greedy", description="how the model's own token is picked")
    num_passes: int = Field(default=1, ge=1, le=8, description="two_pass: passes that only predict")
    temperature: Positive = Field(default=1.0, description="of soft decoding's and Gumbel's softmax")
    learn_temperature: bool = Field(default=False, description="train the temperature with the prompt, from that value")
    top_k: int = Field(default=0, ge=0, le=MOST, description="soft decoding: most likely tokens kept; 0 keeps all")
    min_p: float = Field(default=0.0, ge=0, lt=1, description="soft decoding: share of the top probability to be kept")
    guidance: Literal["mix", "clamp"] = Field(
        default="mix", description="mix alpha of the ground truth in, or lift its probability to at least alpha"
    )
    guidance_alpha: Share = Field(default=0.0, description="share of the ground truth in soft contexts; 0 is none")
    straight_through: bool = Field(default=False, description="gumbel_softmax: read one token, send the soft gradient")
    forced_frac: Share = Field(default=0.5, description="mixer: share of the text that is given and scored as such")


class NoiseRecipe(Strict):
    """Gaussian noise while a prompt is trained; what is measured and stored has none."""

    kind: Literal["none", "fixed", "sampled"] = Field(
        default="none", description="fixed: this sigma; sampled: sigma times one N(0, 1) draw a text and step"
    )
    prompt: Value = Field(default=0.01, description="sigma on the soft prompt, units of the embedding's rms entry")
    read: Value = Field(default=0.0, description="sigma on read embeddings, same units")


class ParameterisationRecipe(Strict):
    """How the K vectors are made of what is trained."""

    name: Literal["direct", "mlp", "low_rank", "convex"] = Field(
        default="direct", description="engine.parameterisation.PARAMETERISATIONS"
    )
    width: float = Field(default=4.0, gt=0, le=64, description="mlp: hidden units over D")
    rank: int = Field(default=4, ge=1, le=4096, description="low_rank: rank beside the bias")
    sharpness: float = Field(default=20.0, gt=0, description="convex: how peaked the starting mixture is")
    serving_dtype: Literal["float32", "bfloat16", "float16", "int8"] = Field(
        default="float32", description="the prompt is rounded to this inside the forward pass, and stored so"
    )


class OptimRecipe(Strict):
    """Polyak's step along Adam's direction, Adam with a decaying rate (Kingma & Ba 2015, 1412.6980), or SGD."""

    name: Literal["polyak", "adam", "sgd"] = Field(
        default="polyak",
        description="update rule; polyak: the step that would take the loss to 0; sgd's momentum is beta1",
    )
    lr: float = Field(default=1.0, gt=0, le=100, description="step size in `unit`; polyak: the largest step")
    unit: Literal["embedding_rms", "absolute"] = Field(
        default="embedding_rms", description="1 is the embedding's root-mean-square entry, or plainly 1"
    )
    beta1: float = Field(default=0.7, ge=0, lt=1, description="decay of the gradient's mean; polyak: of past steps")
    beta2: float = Field(default=0.7, ge=0, lt=1, description="decay of the squared gradient's mean")
    eps: float = Field(default=1e-8, gt=0, description="added to the root of the squared gradient")
    weight_decay: float = Field(default=0.0, ge=0, lt=1, description="decoupled: share of the rate taken off a value")
    decay: Literal["cosine", "linear", "constant"] = Field(
        default="cosine", description="shape of the rate over max_steps"
    )
    final_lr_frac: float = Field(default=0.05, ge=0, le=1, description="share of lr left at max_steps")
    warmup_frac: float = Field(default=0.0, ge=0, lt=1, description="share of the attempt over which the rate rises")
    max_rms: float = Field(
        default=0.0, ge=0, description="largest rms entry a vector may have, units of the embedding's; 0 is unbounded"
    )
    align_to: Literal["none", LossName] = Field(
        default="none", description="reference term: what of the gradient opposes its gradient is dropped"
    )


class StartRecipe(Strict):
    """Where a soft prompt starts."""

    name: Literal["vocabulary", "random", "mean", "target", "neighbour", "learned"] = Field(
        default="target", description="engine.soft_prompt.STARTS"
    )
    scale: float = _neutral(1.0, "factor on the vectors that it gives", gt=0, le=100)
    folder: str = _neutral(
        "", "learned: what `verbatim learn` wrote; an absolute path, read where solvers run", max_length=4096
    )
    digest: str = _neutral(
        "", "learned: of the networks' file there, so that no others are taken; empty takes any", max_length=64
    )
    corrections: int = _neutral(
        0, "learned: rounds of correction before the first step, a pass over the model each", ge=0, le=64
    )

    def model_post_init(self, _: Any) -> None:
        if self.name == "learned" and not Path(self.folder).is_absolute():
            raise ValueError(
                f"folder = {self.folder!r}: a learned start needs the absolute path of a folder that `verbatim learn` "
                "wrote; its recipe.toml has it"
            )


class CurriculumRecipe(Strict):
    """Which prefix of the target is trained, where no stages say it."""

    growth: Literal["none", "one_token", "block", "geometric", "bisect"] = Field(
        default="none", description="how the prefix grows once it is exact; none trains the whole text at once"
    )
    first: int = Field(default=1, ge=1, le=MOST, description="tokens of the first prefix; block begins with a block")
    block: int = _neutral(32, "block: tokens added at a time", ge=1, le=MOST)
    factor: float = Field(default=2.0, gt=1, description="geometric: factor on the prefix")
    patience: int = Field(default=50, ge=1, le=MOST, description="bisect: steps before the way to the goal is halved")
    order: Literal["corpus", "length", "surprisal"] = Field(
        default="corpus", description="texts as they come, shortest first, or least surprising to the model first"
    )


class PopulationRecipe(Strict):
    """What becomes of an attempt's siblings while they run."""

    cull_after: int = _neutral(
        0, "steps until the worse half of the siblings is culled, then at every doubling; 0 is never", ge=0, le=MOST
    )
    renewal: Literal["none", "noise", "recombine"] = _neutral(
        "none",
        "what the culled do: end, or begin again at every look: from the best one's prompt with noise, or with each "
        "vector taken from one of the two best",
    )
    noise: float = _neutral(0.3, "sigma on prompts that begin again, units of the embedding's rms entry", ge=0, le=100)


class MemberRecipe(Strict):
    """One member of a portfolio: what differs from the recipe around it."""

    name: str = Field(default="", description="for people")
    set: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="recipe sections with the keys that differ"
    )


class StageRecipe(Strict):
    """One stage of an attempt: what differs from the recipe around it, and when it is over."""

    name: str = Field(default="", description="for people")
    until: float = Field(gt=0, le=1, description="share of the attempt at which it ends at the latest")
    length_frac: float = Field(default=1.0, gt=0, le=1, description="share of the target that is trained")
    gate: Literal["time", "exact", "accuracy", "stalled", "settled"] = Field(
        default="time",
        description="what ends it earlier: nothing, an exact prefix, gate_accuracy, patience at an end, that or exact",
    )
    gate_accuracy: float = Field(default=0.9, gt=0, le=1, description="share of right positions for gate = accuracy")
    patience: int = _neutral(
        20, "gate = stalled, settled: steps without more positions right than ever in the stage", ge=1, le=MOST
    )
    set: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="recipe sections with the keys that differ"
    )
