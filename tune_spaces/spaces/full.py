"""Everything a recipe decides, but what is asked of a prompt.

Owns: ranges of the vectors, restarts, parameterisation and optimiser; putting all topics together. Must not know:
the other topics' ranges.
"""

from tune_spaces.spaces.curriculum import trained
from tune_spaces.spaces.draw import Draw
from tune_spaces.spaces.losses import losses


def full(draw: Draw) -> None:
    """All topics."""
    trained(draw)
    losses(draw)
    vectors(draw)
    restarts(draw)
    parameterisation(draw)
    optimiser(draw)


def vectors(draw: Draw) -> None:
    """K: what the model's calibration says, or one number for all texts."""
    draw.choice("num_vectors", ("auto", 1, 2, 4, 8, 16, 32, 64))


def restarts(draw: Draw) -> None:
    """Slots side by side, and attempts one after the other."""
    draw.integer("siblings", 1, 4)
    if draw.integer("attempts", 1, 5) > 1:
        draw.number("growth", 1.0, 2.5)


def parameterisation(draw: Draw) -> None:
    """How the vectors are made. Not the serving dtype, which is a demand on the result."""
    if not draw.switch("parameterisation.name"):
        return
    name = draw.choice("parameterisation.name", ("mlp", "low_rank", "convex"))
    if name == "mlp":
        draw.number("parameterisation.width", 0.5, 8.0, log=True)
    if name == "low_rank":
        draw.integer("parameterisation.rank", 1, 16)
    if name == "convex":
        draw.number("parameterisation.sharpness", 2.0, 200.0, log=True)


def optimiser(draw: Draw) -> None:
    """Update rule, rate and its shape. The rate keeps the base recipe's unit."""
    if draw.choice("optim.name", ("polyak", "adam", "sgd")) != "sgd":
        draw.number("optim.beta2", 0.5, 0.999)
    draw.number("optim.lr", 0.005, 20.0, log=True)
    draw.number("optim.beta1", 0.0, 0.99)
    draw.weight("optim.weight_decay", 0.0001, 0.3)
    draw.weight("optim.warmup_frac", 0.01, 0.3, log=False)
    draw.weight("optim.max_rms", 0.5, 10.0)
    if draw.choice("optim.decay", ("cosine", "linear", "constant")) != "constant":
        draw.number("optim.final_lr_frac", 0.0, 1.0)
