"""The optimiser against torch's own, and what a recipe can bend about it."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engine import optim
from engine.curriculum import Lesson
from engine.frozen_lm import FrozenLM
from engine.optim import AUXILIARY_UNITS, aligned, learning_rate
from engine.parameterisation import PARAMETERISATIONS
from engine.recipe import load_recipe
from engine.slots import Job, Slot
from engine.stacks import stacks_of
from engine.target import Target
from tests.engine.jobs import NEVER, assert_same_path, job_of, slots_after

NUM_STEPS = 7
K, H, T = 3, 11, 5
CONSTANT = ("optim.decay=constant", "max_steps=100")
ADAM = ("optim.name=adam", "optim.beta2=0.9")


def slot_of(lm: FrozenLM, *overrides: str, seed: int = 0, extra: tuple[str, ...] = ()) -> Slot:
    """A slot with random tensors under the names its parameterisation trains; `extra` are trained beside them."""
    generator = torch.Generator().manual_seed(seed)
    recipe = load_recipe(None, [*CONSTANT, *ADAM, *overrides])
    size = lm.hidden_size
    shapes = {"prompt": (K, size), "input": (K, size), "w1": (size, H), "b1": (H,), "w2": (H, size), "b2": (size,)}
    names = [*PARAMETERISATIONS[recipe.parameterisation.name].units(lm), *extra]
    job = Job(Target("a", "text", tuple(range(T))), recipe, K)
    slot = Slot(job, job, 0, 0, recipe.by_stage(), torch.zeros(T).long(), generator, Lesson(T), torch.ones(0))
    slot.begin({name: torch.randn(shapes.get(name, (1,)), generator=generator) for name in names}, {})
    return slot


def update(lm: FrozenLM, slots: list[Slot], gradients: list[dict[str, Tensor]], excess_B: Tensor) -> None:
    """One step from gradients by slot and name."""
    stacks = stacks_of(slots)
    stacked = [
        torch.cat([gradients[entry.row][entry.name].reshape(-1, stack.width) for entry in stack.entries])
        for stack in stacks
    ]
    optim.update(lm, stacks, stacked, excess_B, slots)


def units(lm: FrozenLM, slot: Slot) -> dict[str, float]:
    own = PARAMETERISATIONS[slot.recipe.parameterisation.name].units(lm) | AUXILIARY_UNITS
    return {name: 1.0 if slot.recipe.optim.unit == "absolute" and name not in AUXILIARY_UNITS else own[name]
            for name in slot.trained}  # fmt: skip


def torchs(lm: FrozenLM, slot: Slot, values: dict[str, Tensor]) -> torch.optim.Optimizer:
    """torch's optimiser for the same recipe, a parameter group for each tensor."""
    optim = slot.recipe.optim
    # torch takes the decay in units of the rate, ours is a share of the recipe's own rate.
    groups = [
        {"params": [values[name]], "lr": optim.lr * unit, "weight_decay": optim.weight_decay / unit}
        for name, unit in units(lm, slot).items()
    ]
    if optim.name == "sgd":
        return torch.optim.SGD(groups, momentum=optim.beta1)
    return torch.optim.AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps)


def random_gradients(slot: Slot, generator: torch.Generator) -> dict[str, Tensor]:
    """Of very different sizes, zeros among them."""
    sizes = torch.tensor([0.0, 1e-4, 1.0, 100.0])
    return {
        name: torch.randn(tensor.shape, generator=generator)
        * sizes[torch.randint(len(sizes), tensor.shape, generator=generator)]
        for name, tensor in slot.trained.items()
    }


RECIPES = {
    "adam": (("optim.beta1=0.9", "optim.beta2=0.999", "optim.lr=0.5"), ()),
    "adam with a large eps": (("optim.eps=0.5",), ()),
    "adamw": (("optim.weight_decay=0.25", "optim.lr=0.5"), ()),
    "adamw in absolute units": (("optim.weight_decay=0.5", "optim.lr=0.01", "optim.unit=absolute"), ()),
    "adam on a network": (("parameterisation.name=mlp", "optim.lr=2"), ("log_temperature",)),
    "adam beside a judge": (("optim.lr=0.5",), ("judge_weight", "judge_bias")),
    "sgd": (("optim.name=sgd", "optim.beta1=0", "optim.lr=0.1"), ()),
    "sgd with momentum": (("optim.name=sgd", "optim.beta1=0.9", "optim.lr=0.1"), ()),
}


def walk_both(lm: FrozenLM, slots: list[Slot]) -> list[dict[str, Tensor]]:
    """Step all slots in one pack, and torch's optimisers on the same gradients; torch's values."""
    theirs = [{name: tensor.clone().requires_grad_() for name, tensor in slot.trained.items()} for slot in slots]
    optimisers = [torchs(lm, slot, values) for slot, values in zip(slots, theirs, strict=True)]
    generator = torch.Generator().manual_seed(3)
    for _ in range(NUM_STEPS):
        gradients = [random_gradients(slot, generator) for slot in slots]
        update(lm, slots, gradients, torch.ones(len(slots)))
        for values, optimiser, gradient in zip(theirs, optimisers, gradients, strict=True):
            for name, value in values.items():
                value.grad = gradient[name]
            optimiser.step()
    return [{name: value.detach() for name, value in values.items()} for values in theirs]


def assert_same_values(slot: Slot, theirs: dict[str, Tensor]) -> None:
    assert slot.step == NUM_STEPS and slot.trained.keys() == theirs.keys()
    for name, value in slot.trained.items():
        torch.testing.assert_close(
            value, theirs[name], rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("name", RECIPES)
def test_a_slot_walks_as_torchs_optimiser_does(name, tiny_llama):
    overrides, extra = RECIPES[name]
    slot = slot_of(tiny_llama, *overrides, extra=extra)
    (theirs,) = walk_both(tiny_llama, [slot])
    assert_same_values(slot, theirs)


def test_slots_with_unlike_optimisers_and_widths_share_a_step(tiny_llama):
    slots = [
        slot_of(tiny_llama, *overrides, seed=seed, extra=extra)
        for seed, (overrides, extra) in enumerate(RECIPES.values())
    ]
    for slot, theirs in zip(slots, walk_both(tiny_llama, slots), strict=True):
        assert_same_values(slot, theirs)


def test_tensors_are_replaced_and_never_written_into(tiny_llama):
    slot = slot_of(tiny_llama, "optim.max_rms=0.5")
    before = {**slot.trained, "mean": slot.mean["prompt"], "square": slot.square["prompt"]}
    kept = {name: tensor.clone() for name, tensor in before.items()}
    update(tiny_llama, [slot], [{"prompt": torch.ones(K, tiny_llama.hidden_size)}], torch.ones(1))
    assert all(torch.equal(before[name], kept[name]) for name in before)
    assert not torch.equal(slot.trained["prompt"], kept["prompt"])


def test_what_is_trained_anew_starts_as_the_first_step_does(tiny_llama):
    """A parameterisation folded late: moments begin at zero, so their bias corrections must too."""
    slot = slot_of(tiny_llama, "optim.beta1=0.9", "optim.beta2=0.999", "optim.lr=0.5")
    walk_both(tiny_llama, [slot])
    slot.begin({"prompt": torch.zeros(K, tiny_llama.hidden_size)}, {})
    update(tiny_llama, [slot], [{"prompt": torch.full((K, tiny_llama.hidden_size), 13.0)}], torch.ones(1))
    rate = torch.full((K, tiny_llama.hidden_size), 0.5 * tiny_llama.embed_rms)
    torch.testing.assert_close(slot.trained["prompt"], -rate)


def test_the_rate_rises_over_its_share_of_the_attempt_and_then_falls_as_it_would_have():
    plain, warm = (
        load_recipe(None, ["max_steps=50", "optim.lr=2", "optim.final_lr_frac=0.25", f"optim.warmup_frac={share}"])
        for share in (0, 0.2)
    )
    for clock in range(51):
        factor = min(1.0, (clock + 1) / 10)
        assert learning_rate(warm, float(clock)) == pytest.approx(factor * learning_rate(plain, float(clock)))
    assert learning_rate(plain, 0.0) == 2.0 and learning_rate(plain, 50.0) == pytest.approx(0.5)
    assert learning_rate(warm, 0.0) == pytest.approx(0.2)


@pytest.mark.parametrize("unit", ["embedding_rms", "absolute"])
def test_a_step_has_the_size_of_the_rate_at_the_slots_clock(unit, tiny_llama):
    overrides = ("optim.name=sgd", "optim.beta1=0", "optim.lr=1", "optim.decay=linear", "max_steps=10")
    slot = slot_of(tiny_llama, *overrides, "optim.final_lr_frac=0", f"optim.unit={unit}")
    start_KD, ones_KD = slot.trained["prompt"], torch.ones(K, tiny_llama.hidden_size)
    for _ in range(3):
        update(tiny_llama, [slot], [{"prompt": ones_KD}], torch.ones(1))
    size = tiny_llama.embed_rms if unit == "embedding_rms" else 1.0
    torch.testing.assert_close(start_KD - slot.trained["prompt"], (1.0 + 0.9 + 0.8) * size * ones_KD)


def test_vectors_longer_than_allowed_are_scaled_down_and_the_others_left_alone(tiny_llama):
    limit = 0.5 * tiny_llama.embed_rms
    slot, free = slot_of(tiny_llama, "optim.max_rms=0.5", "optim.lr=1e-6"), slot_of(tiny_llama, "optim.lr=1e-6")
    for each in (slot, free):
        each.trained["prompt"] = torch.ones(K, tiny_llama.hidden_size) * torch.tensor([[3.0], [0.9], [1.1]]) * limit
    zeros = {"prompt": torch.zeros(K, tiny_llama.hidden_size)}
    update(tiny_llama, [slot, free], [zeros, zeros], torch.ones(2))
    rms_K, free_K = (each.trained["prompt"].square().mean(1).sqrt() / limit for each in (slot, free))
    torch.testing.assert_close(rms_K, torch.tensor([1.0, 0.9, 1.0]))
    torch.testing.assert_close(free_K, torch.tensor([3.0, 0.9, 1.1]))


POLYAK = ("optim.name=polyak", "optim.beta1=0", "optim.beta2=0.7", "optim.lr=100", "optim.unit=absolute")


def falling(slot: Slot, generator: torch.Generator) -> tuple[dict[str, Tensor], Callable[[], float]]:
    """A loss that is linear in a slot's tensors, 3 above 0 where they are: its gradients, and its value."""
    gradients = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in slot.trained.items()}
    before = dict(slot.trained)

    def value() -> float:
        return 3 + sum(float((gradients[name] * (slot.trained[name] - before[name])).sum()) for name in gradients)

    return gradients, value


@pytest.mark.parametrize("network", [(), ("parameterisation.name=mlp",)], ids=["prompt", "network"])
def test_polyaks_step_takes_a_loss_that_falls_evenly_to_nought_whatever_the_model(network, tiny_llama):
    slots = [slot_of(tiny_llama, *POLYAK, *network, seed=seed) for seed in range(2)]
    losses = [falling(slot, torch.Generator().manual_seed(5 + seed)) for seed, slot in enumerate(slots)]
    update(tiny_llama, slots, [gradient for gradient, _ in losses], torch.full((2,), 3.0))
    assert [value() for _, value in losses] == pytest.approx([0, 0], abs=1e-4)


def test_polyaks_step_is_no_longer_than_the_rate_and_nothing_where_nothing_is_left(tiny_llama):
    bounded, done = (slot_of(tiny_llama, *POLYAK, "optim.lr=0.01", seed=seed) for seed in range(2))
    before = [slot.trained["prompt"] for slot in (bounded, done)]
    ones = {"prompt": torch.ones_like(before[0])}
    update(tiny_llama, [bounded, done], [ones, ones], torch.tensor([1e6, 0.0]))
    torch.testing.assert_close(before[0] - bounded.trained["prompt"], torch.full_like(before[0], 0.01))
    assert torch.equal(done.trained["prompt"], before[1])


def test_polyaks_momentum_is_of_steps(tiny_llama):
    slot = slot_of(tiny_llama, *POLYAK, "optim.beta1=0.5", "optim.lr=0.01")
    before_KD = slot.trained["prompt"]
    for _ in range(3):
        update(tiny_llama, [slot], [{"prompt": torch.ones_like(before_KD)}], torch.tensor([1e6]))
    torch.testing.assert_close(before_KD - slot.trained["prompt"], torch.full_like(before_KD, 0.01 * (1 + 1.5 + 1.75)))


numbers = st.floats(-9, 9, width=32).map(lambda value: round(value, 3))
vectors = st.lists(numbers, min_size=5, max_size=5).map(torch.tensor)


@given(vectors, vectors)
def test_an_aligned_gradient_never_opposes_its_reference(tiny_llama, gradient, reference):
    """Two slots in a stack, the second with no reference."""
    stack = stacks_of([slot_of(tiny_llama, seed=seed) for seed in range(2)])[0]
    gradients, references = (torch.zeros_like(stack.value_RW.detach()) for _ in range(2))
    gradients[1, :5], references[1, :5], gradients[K:] = gradient, reference, 1.0
    (result_RW,) = aligned([stack], [gradients], [references], 2)
    result, dot = result_RW[1, :5], float(gradient.double() @ reference.double())
    assert (result_RW[K:] == 1).all()
    if dot >= 0:
        assert torch.equal(result, gradient)
    else:
        scale = float(gradient.norm() * reference.norm())
        assert abs(float(result.double() @ reference.double())) <= 1e-4 * scale
        torch.testing.assert_close(result, gradient - dot / float(reference.double().square().sum()) * reference)


def moved(lm: FrozenLM, *overrides: str, num_steps: int = 3) -> Tensor:
    """How far a slot comes by plain gradient descent."""
    job = job_of(lm, "Ada!", "loss.name=cross_entropy", "optim.name=sgd", "optim.lr=0.1", *NEVER, *overrides)
    (slot,), (fresh,) = slots_after(lm, num_steps, job), slots_after(lm, 1, job)
    return slot.prompt_KD - fresh.best.prompt_KD  # measured before the first step


def test_a_slot_aligned_to_what_it_descends_walks_as_without(tiny_llama):
    assert torch.equal(moved(tiny_llama), moved(tiny_llama, "optim.align_to=cross_entropy"))


def test_a_slot_that_ascends_its_reference_does_not_move(tiny_llama):
    uphill, held = (moved(tiny_llama, "loss.weight=-1", f"optim.align_to={name}") for name in ("none", "cross_entropy"))
    assert held.norm() < 1e-3 * uphill.norm()


@pytest.mark.parametrize(
    "overrides",
    [("terms.simctg=9",), ("context.name=soft_decoding", "terms.entropy=3"), ("context.name=gumbel_softmax",)],
    ids=["measured pass", "soft walk", "drawn walk"],
)
def test_alignment_changes_the_path_of_the_slot_that_asks_for_it_and_of_no_other(overrides, float64_lm):
    lm, shared = (
        float64_lm("llama"),
        ("loss.name=cross_entropy", "loss.weight=-0.5", "optim.lr=0.1", *overrides, *NEVER),
    )
    plain, held = (job_of(lm, "Ada!", *shared, f"optim.align_to={name}") for name in ("none", "cross_entropy"))
    beside = job_of(lm, "Bob?", *shared)
    (plain_slot,), (alone,) = slots_after(lm, 3, plain), slots_after(lm, 3, beside)
    held_slot, beside_slot = slots_after(lm, 3, held, beside)
    assert held_slot.prompt_KD.isfinite().all()
    assert (held_slot.prompt_KD - plain_slot.prompt_KD).norm() > 0.1 * (
        plain_slot.prompt_KD - held_slot.best.prompt_KD
    ).norm()
    assert_same_path(beside_slot.prompt_KD, alone.prompt_KD, lm)
