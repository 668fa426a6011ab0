"""Training through the frozen model: it learns, it repeats itself to the bit, and the model stays as it is."""

import pytest
import torch

from engine.correction.correction import CorrectionShape, figures
from engine.correction.trainer import Trainer, TrainSettings, num_vectors_for
from engine.fingerprint import fingerprint
from tests.engine.correction.networks import correction, some_targets
from tests.engine.slow import seeded

EVERY_CORRECTOR = pytest.mark.parametrize("corrector", ["none", "corrector", "step"])
TEXTS = [tuple(torch.randint(257, (size,), generator=seeded(size)).tolist()) for size in range(3, 23)]


def trainer(lm, corrector="corrector", **settings):
    shape = CorrectionShape.model_validate({"corrector": corrector, "width": 16, "layers": 1})
    return Trainer(lm, TEXTS, TrainSettings(shape=shape, **({"batch": 5, "rounds": 2} | settings)))


def same(ours, theirs):
    left, right = ours.state_dict(), theirs.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@EVERY_CORRECTOR
def test_a_training_repeats_itself_to_the_bit_and_goes_on_as_if_it_had_never_stopped(corrector, tiny_llama):
    whole, again, first = (trainer(tiny_llama, corrector) for _ in range(3))
    losses = [whole.step() for _ in range(4)]
    assert [again.step() for _ in range(4)] == losses and same(whole, again)
    assert [len(loss) for loss in losses] == [1 if corrector == "none" else 3] * 4
    for _ in range(2):
        first.step()
    resumed = trainer(tiny_llama, corrector)
    resumed.load_state_dict(first.state_dict())
    assert [resumed.step() for _ in range(2)] == losses[2:] and same(whole, resumed)


def test_another_seed_is_another_training(tiny_llama):
    assert trainer(tiny_llama).step() != trainer(tiny_llama, seed=1).step()


def test_the_global_random_stream_is_left_alone(tiny_llama):
    before = torch.random.get_rng_state()
    trainer(tiny_llama).step()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_training_lowers_the_loss_and_leaves_the_model_as_it_was(tiny_llama):
    before = fingerprint(tiny_llama.model)
    learning = trainer(tiny_llama, lr=3e-3, batch=len(TEXTS), rounds=1, tokens_per_vector=(2.0,))
    losses = [learning.step() for _ in range(15)]
    assert losses[-1][0] < losses[0][0] - 0.5, "the start learns"
    assert losses[0][1] == pytest.approx(losses[0][0]) and losses[-1][1] < losses[-1][0] - 0.1, (
        "and so does what corrects"
    )
    assert fingerprint(tiny_llama.model) == before
    assert all(weight.grad is None for weight in tiny_llama.model.parameters())


def test_what_a_training_costs_is_every_round_of_every_text(tiny_llama):
    learning = trainer(tiny_llama, batch=len(TEXTS), tokens_per_vector=(4.0,))
    learning.step()
    once = sum(len(ids) + num_vectors_for(len(ids), 4.0) - 1 for ids in TEXTS)
    assert learning.num_positions == 3 * once


def test_a_round_learns_from_the_prompts_of_the_round_before_without_a_gradient_between_them(tiny_llama):
    with_corrector, alone = (trainer(tiny_llama, corrector) for corrector in ("corrector", "none"))
    with_corrector.raw.start.load_state_dict(alone.raw.start.state_dict())
    gradients = []
    for learning in (with_corrector, alone):
        learning.step()
        gradients.append([w.grad for w in learning.raw.start.parameters()])
    scale = {float((a.norm() / b.norm()).round(decimals=3)) for a, b in zip(*gradients, strict=True) if b.norm() > 0}
    assert len(scale) == 1, "the start's gradient is its own round's, but for the bound on the whole"


def test_no_text_is_no_training(tiny_llama):
    with pytest.raises(ValueError, match="no text to learn from"):
        Trainer(tiny_llama, [], TrainSettings())


def test_figures_of_a_round_are_those_of_its_prompts(tiny_llama):
    targets = some_targets()
    made = correction(tiny_llama)
    prompts = made.first(tiny_llama, targets, [k for k in (1, 5, 3, 2, 11)])
    rounds = figures(tiny_llama, made, targets, [1, 5, 3, 2, 11], 2)
    scores = tiny_llama.score_targets(prompts, targets).nats.split([len(t) for t in targets])
    assert [r.round for r in rounds] == [0, 1, 2]
    assert rounds[0].nats == pytest.approx(sum(float(s.mean()) for s in scores) / len(targets), abs=1e-4)
    assert 0 <= rounds[2].exact_frac <= rounds[2].accuracy <= 1
