"""Terms over sampled continuations: formulas, and estimates against exact gradients."""

from copy import copy
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from engine.frozen_lm import FrozenLM
from engine.losses.rewards import cut, edit_reward, prefix_reward
from engine.losses.samples import minimum_risk, reinforce, rloo
from engine.losses.view import Samples, TextView, View
from engine.monitors import token_accuracy
from tests.engine.losses.views import KNOBS, Text, slow_log_p, text_of, texts_of, value_and_gradients, view_of

BASELINE = 0.4


def view_of_samples(lm: FrozenLM, log_p_Bn: Tensor, reward_Bn: Tensor, token_BnT: Tensor, **knobs) -> View:
    """Texts that are nothing but these samples."""
    one = view_of(lm, text_of(lm, seed=17))
    text = replace(one.texts[0], baseline=BASELINE, knobs=KNOBS.model_copy(update=knobs))
    rows = zip(log_p_Bn, reward_Bn, token_BnT, strict=True)
    return with_texts(one, [replace(text, samples=Samples(*row)) for row in rows])


def with_texts(view: View, texts: list[TextView]) -> View:
    return View(view.lm, view.positions, lambda: texts)


# --- formulas, for given samples ---


def slow_reinforce(log_ps: list[Tensor], rewards: list[float], tokens: list[tuple[int, ...]]) -> Tensor:
    return -sum((r - BASELINE) * log_p for r, log_p in zip(rewards, log_ps, strict=True)) / len(rewards)


def slow_rloo(log_ps: list[Tensor], rewards: list[float], tokens: list[tuple[int, ...]]) -> Tensor:
    total = 0
    for i, log_p in enumerate(log_ps):
        others = rewards[:i] + rewards[i + 1 :]
        total -= (rewards[i] - sum(others) / len(others)) * log_p
    return total / len(rewards)


def slow_minimum_risk(log_ps: list[Tensor], rewards: list[float], tokens: list[tuple[int, ...]]) -> Tensor:
    """Sharpness 0.5: the square roots of the probabilities."""
    unlike = {text: (log_p.exp().sqrt(), r) for text, log_p, r in zip(tokens, log_ps, rewards, strict=True)}
    whole = sum(q for q, _ in unlike.values())
    return sum(q / whole * (1 - r) for q, r in unlike.values())


FORMULAS = [(reinforce, slow_reinforce), (rloo, slow_rloo), (minimum_risk, slow_minimum_risk)]


@pytest.mark.parametrize(("term", "slow"), FORMULAS, ids=lambda function: function.__name__)
def test_a_term_equals_a_slow_loop_from_its_formula(term, slow, tiny_llama):
    generator = torch.Generator().manual_seed(3)
    # Twice two tokens make few texts, so that some samples are copies; these have one probability and reward.
    token_BnT = torch.randint(2, (3, 7, 2), generator=generator)
    index_Bn = token_BnT[..., 0] * 2 + token_BnT[..., 1]
    log_p_B4 = torch.randn(3, 4, generator=generator) * 2 - 5
    reward_Bn = torch.rand(3, 4, generator=generator).gather(1, index_Bn)
    leaf_B4, slow_B4 = log_p_B4.clone().requires_grad_(), log_p_B4.double().requires_grad_()
    loss_B = term(view_of_samples(tiny_llama, leaf_B4.gather(1, index_Bn), reward_Bn, token_BnT, risk_sharpness=0.5))
    expected_B = torch.stack([
        slow(list(log_p_n), reward_n.tolist(), [tuple(row) for row in token_nT.tolist()])
        for log_p_n, reward_n, token_nT in zip(slow_B4.gather(1, index_Bn), reward_Bn, token_BnT, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(loss_B, expected_B.float())
    loss_B.sum().backward()
    expected_B.sum().backward()
    assert (leaf_B4.grad != 0).any()
    torch.testing.assert_close(leaf_B4.grad, slow_B4.grad.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("term", [reinforce, rloo, minimum_risk])
def test_a_reward_carries_no_gradient_of_its_own(term, tiny_llama):
    log_p_Bn = torch.tensor([[-1.0, -2.0, -5.0]]).requires_grad_()
    reward_Bn, token_BnT = torch.tensor([[0.0, 0.5, 1.0]]), torch.tensor([[[1], [2], [3]]])
    (loss_B,) = term(view_of_samples(tiny_llama, log_p_Bn, reward_Bn, token_BnT, risk_sharpness=1.0))
    loss_B.backward()
    assert log_p_Bn.grad[0, 2] < 0 < log_p_Bn.grad[0, 0], "the best sample is pulled up, the worst pushed down"


# --- estimates, on a vocabulary so small that every continuation can be listed ---

V, LENGTH, NUM_SETS = 3, 3, 3000
TARGETS = {"prefix": (2, 0, 1), "accuracy": (1, 1, 0), "edit": (0, 1, 2)}
REWARD_OF = {"prefix": prefix_reward, "accuracy": token_accuracy, "edit": edit_reward}
EVERY = list(product(range(V), repeat=LENGTH))


def log_p_of_every(parameter_BP: Tensor) -> Tensor:
    """Log-probability of each of the 27 continuations under a chain whose next token depends on the last, (B, 27)."""
    log_p_BVV = parameter_BP.unflatten(1, (V + 1, V)).log_softmax(-1)
    return torch.stack(
        [sum(log_p_BVV[:, ours, theirs] for ours, theirs in zip((V, *s), s, strict=False)) for s in EVERY], 1
    )


def draw_parameters() -> Tensor:
    return torch.randn((V + 1) * V, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize(("reward", "num_samples"), [("prefix", 2), ("accuracy", 3), ("edit", 5)])
@pytest.mark.parametrize("term", [reinforce, rloo])
def test_a_mean_estimate_is_the_gradient_of_minus_the_expected_reward(term, num_samples, reward, tiny_llama):
    """A gradient by every one of 3,000 sample sets; a baseline that were not independent would show as bias."""
    rewards_27 = torch.tensor([REWARD_OF[reward](s, TARGETS[reward]) for s in EVERY])
    exact_P = draw_parameters().double().requires_grad_()
    (-(log_p_of_every(exact_P[None]).exp() * rewards_27).sum()).backward()

    own_BP = draw_parameters().expand(NUM_SETS, -1).clone().requires_grad_()
    log_p_B27 = log_p_of_every(own_BP)
    generator = torch.Generator().manual_seed(7)
    index_Bn = log_p_B27[0].detach().exp().expand(NUM_SETS, -1).multinomial(num_samples, True, generator=generator)
    token_BnT = torch.tensor(EVERY)[index_Bn]
    term(view_of_samples(tiny_llama, log_p_B27.gather(1, index_Bn), rewards_27[index_Bn], token_BnT)).sum().backward()

    error_P = (own_BP.grad.double().mean(0) - exact_P.grad).abs()
    standard_error_P = own_BP.grad.double().std(0) / NUM_SETS**0.5
    assert (exact_P.grad.abs() > 4 * standard_error_P).any(), "the estimate is too rough to say anything"
    assert (error_P <= 4 * standard_error_P).all()


def test_leaving_one_out_makes_the_estimate_steadier_than_no_baseline(tiny_llama):
    rewards_27 = torch.tensor([0.5 + token_accuracy(s, (1, 1, 0)) / 2 for s in EVERY])
    index_Bn = torch.randint(27, (500, 5), generator=torch.Generator().manual_seed(7))
    spreads = []
    for term, baseline in ((rloo, 0.0), (reinforce, 0.0)):
        own_BP = torch.zeros(500, (V + 1) * V, requires_grad=True)
        log_p_Bn = log_p_of_every(own_BP).gather(1, index_Bn)
        view = view_of_samples(tiny_llama, log_p_Bn, rewards_27[index_Bn], torch.tensor(EVERY)[index_Bn])
        term(with_texts(view, [replace(text, baseline=baseline) for text in view.texts])).sum().backward()
        spreads.append(own_BP.grad.std(0).mean())
    assert spreads[0] < 0.5 * spreads[1]


def test_minimum_risk_over_every_continuation_is_the_expected_risk(tiny_llama):
    rewards_27 = torch.tensor([edit_reward(s, (0, 1, 2)) for s in EVERY])
    log_p_B27 = log_p_of_every(draw_parameters()[None])
    view = view_of_samples(tiny_llama, log_p_B27, rewards_27[None], torch.tensor(EVERY)[None], risk_sharpness=1.0)
    torch.testing.assert_close(minimum_risk(view)[0], (log_p_B27[0].exp() * (1 - rewards_27)).sum())


@pytest.mark.parametrize("term", [reinforce, rloo])
def test_a_prompts_mean_estimate_is_the_gradient_of_minus_its_expected_prefix_reward(term, tiny_llama):
    """The whole way, sampling included. Of a prefix reward the exact mean is a sum over prefixes: no list is needed."""
    length, num_sets = 2, 64
    knobs = KNOBS.model_copy(update={"samples": 32, "sample_temperature": 1.0, "reward": "prefix"})
    text = text_of(tiny_llama, seed=1, num_vectors=2, length=length)
    likely = slow_log_p(tiny_llama, text.prompt_KD, [0]).argmax()
    text = replace(text, target_T=torch.tensor([likely, 1]), knobs=knobs)
    second = slow_log_p(tiny_llama, text.prompt_KD, text.tokens)[1].argmax()
    text = replace(text, target_T=torch.tensor([likely, second]))

    prompt_KD = text.prompt_KD.clone().requires_grad_()
    log_p_TV = slow_log_p(tiny_llama, prompt_KD, text.tokens)
    of_prefixes_T = torch.stack([log_p_TV[t, token] for t, token in enumerate(text.tokens)]).cumsum(0).exp()
    (exact_KD,) = torch.autograd.grad(-of_prefixes_T.sum() / length, prompt_KD)

    gradients = []
    for first in range(0, num_sets, 8):
        texts = (replace(text, seed=seed) for seed in range(first, first + 8))
        gradients += value_and_gradients(term, view_of(tiny_llama, *texts))[1]
    estimate_BKD = torch.stack(gradients)
    standard_error_KD = estimate_BKD.std(0) / num_sets**0.5
    assert (exact_KD.abs() > 4 * standard_error_KD).float().mean() > 0.1, "the estimate is too rough to say anything"
    # 256 components are looked at, so one of them lies further out than usual.
    assert ((estimate_BKD.mean(0) - exact_KD).abs() <= 5 * standard_error_KD).all()


# --- samples of a pass ---


def with_end(lm: FrozenLM, end_id: int) -> FrozenLM:
    """The same model, another token ending its texts."""
    other = copy(lm)
    other.token_rule = replace(lm.token_rule, end_id=end_id)
    return other


def ending_early(lm: FrozenLM) -> tuple[FrozenLM, Text]:
    """A model and a text about a third of whose samples end at once, the others later or never."""
    text = text_of(lm, seed=1, num_vectors=3, length=5)
    lm = with_end(lm, int(slow_log_p(lm, text.prompt_KD, [0]).argmax()))
    target_T = torch.tensor([3, 4, 5, 3, lm.token_rule.end_id])
    knobs = KNOBS.model_copy(update={"samples": 31, "sample_temperature": 0.8, "reward": "edit"})
    return lm, replace(text, target_T=target_T, knobs=knobs)


def test_a_sample_is_scored_and_rewarded_up_to_its_end(tiny_llama):
    lm, text = ending_early(tiny_llama)
    (samples,) = view_of(lm, text).samples()
    lengths = set()
    for tokens, log_p, reward in zip(samples.token_nT.tolist(), samples.log_p_n, samples.reward_n, strict=True):
        kept = cut(tokens, lm.token_rule.end_id)
        assert set(tokens[len(kept) :]) <= {lm.token_rule.end_id}
        log_p_TV = slow_log_p(lm, text.prompt_KD, kept)
        torch.testing.assert_close(log_p, sum(log_p_TV[t, token] for t, token in enumerate(kept)), rtol=0, atol=1e-3)
        assert reward.item() == pytest.approx(edit_reward(kept, text.tokens))
        lengths.add(len(kept))
    assert {1, 5} <= lengths, "some end early and some do not"


def test_samples_alike_up_to_their_end_are_one_and_the_same(tiny_llama):
    """What is drawn after the end is no part of a sample, so minimum risk does not count it twice."""
    lm, text = ending_early(tiny_llama)
    view = view_of(lm, text)
    (samples,) = view.samples()
    unlike: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}
    for tokens, log_p, reward in zip(samples.token_nT.tolist(), samples.log_p_n, samples.reward_n, strict=True):
        unlike[tuple(cut(tokens, lm.token_rule.end_id))] = log_p, reward
    assert len(unlike) < text.knobs.samples - 3
    q = {kept: (log_p * text.knobs.risk_sharpness).exp() for kept, (log_p, _) in unlike.items()}
    expected = sum(q[kept] / sum(q.values()) * (1 - reward) for kept, (_, reward) in unlike.items())
    torch.testing.assert_close(minimum_risk(view)[0], expected)


def test_samples_begin_with_the_tokens_that_are_given_and_are_not_scored_on_them(tiny_llama):
    text = replace(text_of(tiny_llama, seed=1, length=5), target_T=torch.tensor([3, 4, 5, 6, 7]), num_given=2)
    view = view_of(tiny_llama, text, replace(text, num_given=5))
    partly, free = view.samples()
    assert (partly.token_nT[:, :2] == torch.tensor([3, 4])).all()
    assert (partly.reward_n >= 2 / 5).all()
    for tokens, log_p in zip(partly.token_nT.tolist(), partly.log_p_n, strict=True):
        kept = cut(tokens, tiny_llama.token_rule.end_id)
        log_p_TV = slow_log_p(tiny_llama, text.prompt_KD, kept)
        own = sum(log_p_TV[t, token] for t, token in enumerate(kept) if t >= 2)
        torch.testing.assert_close(log_p, own, rtol=0, atol=1e-3)
    assert len(set(free.token_nT[:, 0].tolist())) > 1, "where all is given nothing would be left to sample"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_text_gets_the_same_samples_alone_and_in_company(family, float64_lm):
    """Other lengths, other temperatures and other numbers of samples are about it; gpt2 minds absolute positions."""
    lm = float64_lm(family)
    temperatures, numbers = (0.25, 1.0, 0.25, 1.0, 0.5), (2, 3, 5, 7, 11)
    texts = [
        replace(text, knobs=KNOBS.model_copy(update={"sample_temperature": temperature, "samples": samples}))
        for text, temperature, samples in zip(texts_of(lm), temperatures, numbers, strict=True)
    ]
    for text, together in zip(texts, view_of(lm, *texts).samples(), strict=True):
        (alone,) = view_of(lm, text).samples()
        assert together.token_nT.shape == (text.knobs.samples, len(text.target_T))
        assert torch.equal(together.token_nT, alone.token_nT) and torch.equal(together.reward_n, alone.reward_n)
        torch.testing.assert_close(together.log_p_n, alone.log_p_n)
