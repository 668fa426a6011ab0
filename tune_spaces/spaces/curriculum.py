"""How a text is trained: which prefix when, what the model reads, under which loss weights, noise, the start.

Owns: ranges of `curriculum`, `stages`, `context`, `noise`, `start`, and of the weights that change over an attempt.
Must not know: how a policy reads, how a term is computed.
"""

from tune_spaces.spaces.draw import NEW_STAGE, Draw
from tune_spaces.spaces.stages import put_in_order

UNTIL = ((0.05, 0.5), (0.2, 0.7), (0.4, 0.85), (0.6, 0.95))
"""Where in an attempt each stage but the last may end; the recipes' own four end at 0.2, 0.4, 0.6, 0.8."""

MAIN = ("cross_entropy", "violation_norm", "violation_mix")
"""Main terms of a stage: all positions at once, the worst one, both."""

WEIGHED = ("unlikelihood", "simctg")
"""Added terms whose weights are searched together with what is read: they cost hardly anything beside the pass."""

OWN_TOKENS = ("scheduled_sampling", "embedding_mix", "free_running")
MIXED = ("scheduled_sampling", "embedding_mix", "two_pass")
SOFT = ("soft_decoding", "gumbel_softmax")


def curriculum(draw: Draw) -> None:
    """How a text is trained, and the weights of added terms as it goes on."""
    trained(draw)
    if not draw["stages"]:  # every stage says its own
        weights(draw)


def trained(draw: Draw) -> None:
    """Stages, each with what it reads and descends; or one way to read and a prefix that may grow. Then the start."""
    if draw.switch("stages"):
        stages(draw)
        draw.set("curriculum.growth", "none")
        draw.set("context.name", "teacher_forcing")  # every stage says its own
    else:
        growth(draw)
        context(draw)
        noise(draw)
    # Not `neighbour`: it starts from what other texts came to, so a trial would depend on its company.
    draw.choice("start.name", ("target", "vocabulary", "random", "mean"))


def growth(draw: Draw) -> None:
    """How the trained prefix grows."""
    name = draw.choice("curriculum.growth", ("none", "one_token", "geometric", "bisect"))
    if name in ("one_token", "geometric"):
        draw.integer("curriculum.first", 1, 16, log=True)
    if name == "geometric":
        draw.number("curriculum.factor", 1.1, 4.0)
    if name == "bisect":
        draw.integer("curriculum.patience", 5, 200, log=True)


def stages(draw: Draw) -> None:
    """Two to five stages; the last trains the whole text and ends with the attempt."""
    last = draw.count("stages", 2, len(UNTIL) + 1, new=NEW_STAGE) - 1
    for number in range(last):
        place = f"stages.{number}"
        draw.number(f"{place}.until", *UNTIL[number])
        draw.number(f"{place}.length_frac", 0.1, 1.0)
        if draw.choice(f"{place}.gate", ("time", "exact", "accuracy")) == "accuracy":
            draw.number(f"{place}.gate_accuracy", 0.5, 1.0)
    put_in_order(draw)
    for number in range(last + 1):
        place = f"stages.{number}.set."
        context(draw, place)
        noise(draw, place)
        draw.choice(f"{place}loss.name", MAIN)
        weights(draw, place)


def context(draw: Draw, place: str = "") -> None:
    """What the model reads, and the knobs of that policy: schedules, but within a stage numbers, as stages are steps.

    Args:
        place: prefix of keys within a stage.
    """
    key = f"{place}context."
    vary = draw.number if place else draw.schedule
    if not draw.switch(f"{key}name"):
        return
    name = draw.choice(f"{key}name", (*MIXED, "free_running", "mixer", *SOFT))
    if name in MIXED:
        vary(f"{key}eps", 0.0, 1.0)
    if name in OWN_TOKENS:
        draw.choice(f"{key}own_token", ("greedy", "sample"))
    if name == "two_pass":
        draw.integer(f"{key}num_passes", 1, 3)
    if name == "mixer":
        vary(f"{key}forced_frac", 0.0, 1.0)
    if name in SOFT:
        vary(f"{key}temperature", 0.3, 2.0, log=True)
        draw.choice(f"{key}learn_temperature", (False, True))
        if draw.switch(f"{key}guidance_alpha"):
            vary(f"{key}guidance_alpha", 0.0, 1.0)
            draw.choice(f"{key}guidance", ("mix", "clamp"))
    if name == "gumbel_softmax":
        draw.choice(f"{key}straight_through", (False, True))
    if name == "soft_decoding":
        draw.weight(f"{key}min_p", 0.01, 0.5)
        if draw.switch(f"{key}top_k"):
            draw.integer(f"{key}top_k", 2, 64, log=True)


def noise(draw: Draw, place: str = "") -> None:
    """Noise on the prompt, and on what is read."""
    key = f"{place}noise."
    if draw.switch(f"{key}kind"):
        draw.choice(f"{key}kind", ("fixed", "sampled"))
        draw.number(f"{key}prompt", 0.001, 1.0, log=True)
        draw.weight(f"{key}read", 0.001, 1.0)


def weights(draw: Draw, place: str = "") -> None:
    """Weights of added terms: over the attempt as schedules, within a stage as numbers, as stages are steps."""
    vary = draw.number if place else draw.schedule
    for name in WEIGHED:
        if draw.switch(f"{place}terms.{name}"):
            vary(f"{place}terms.{name}", 0.01, 1.0, log=True)
