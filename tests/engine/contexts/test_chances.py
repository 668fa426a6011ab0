"""Context policies: what is likely, what is drawn how often, and what scheduled sampling makes of it."""

import pytest
import torch
from torch import Tensor

from engine.contexts import POLICIES, Setting, Texts, setting_at
from engine.contexts.chosen import scheduled_sampling
from engine.contexts.soft import guide, gumbel_noise
from engine.decoding.likely import likely
from engine.decoding.trajectory import sample
from engine.recipe import load_recipe
from engine.recipe.sections import ContextRecipe
from tests.engine.contexts.texts import PLAIN, draw_texts
from tests.engine.slow import draw_prompt, seeded

# Probabilities.

V = 13


def test_likely_keeps_the_top_k_and_what_is_near_the_top():
    logits_BV = torch.log(torch.tensor([[0.4, 0.1, 0.3, 0.2]])).repeat(5, 1)
    top_k_B1 = torch.tensor([0.0, 2.0, 0.0, 3.0, 99.0])[:, None]
    min_p_B1 = torch.tensor([0.0, 0.0, 0.6, 0.6, 0.3])[:, None]
    assert likely(logits_BV, top_k_B1, min_p_B1).tolist() == [
        [True, True, True, True],
        [True, False, True, False],
        [True, False, True, False],
        [True, False, True, False],
        [True, False, True, True],
    ]


def test_likely_keeps_ties_at_the_last_rank_and_always_the_top():
    logits_BV = torch.tensor([[1.0, 3.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, 900.0, -900.0, 1.0]])
    top_k_B1, min_p_B1 = torch.tensor([[2.0], [1.0], [1.0]]), torch.tensor([[0.0], [0.99], [0.99]])
    assert likely(logits_BV, top_k_B1, min_p_B1).tolist() == [
        [False, True, True, True],
        [True, True, True, True],
        [False, True, False, False],
    ]


@pytest.mark.parametrize("clamps", [False, True], ids=["mix", "clamp"])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_guided_probabilities_sum_to_one_and_hold_at_least_alpha_of_the_target(alpha, clamps):
    p_BV = (torch.randn(101, V, generator=seeded(5)) * 3).softmax(-1)
    target_B = torch.randint(V, (101,), generator=seeded(7))
    alpha_B1, clamps_B1 = torch.full((101, 1), alpha), torch.full((101, 1), clamps)
    guided_BV = guide(p_BV, target_B, alpha_B1, clamps_B1)
    torch.testing.assert_close(guided_BV.sum(1), torch.ones(101))
    target_p_B, before_B = (x_BV.gather(1, target_B[:, None]).squeeze(1) for x_BV in (guided_BV, p_BV))
    assert (guided_BV >= 0).all() and (target_p_B >= alpha - 1e-6).all()
    led_B = before_B.clamp_min(alpha) if clamps else alpha + (1 - alpha) * before_B
    torch.testing.assert_close(target_p_B, led_B)
    if alpha == 0:
        assert torch.equal(guided_BV, p_BV)
    # All the others keep their shares of what is left.
    shrink_B1 = ((1 - target_p_B) / (1 - before_B))[:, None]
    is_other_BV = torch.arange(V) != target_B[:, None]
    torch.testing.assert_close((p_BV * shrink_B1)[is_other_BV], guided_BV[is_other_BV], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clamps", [False, True], ids=["mix", "clamp"])
@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_guidance_has_a_finite_gradient_where_the_model_is_certain(alpha, clamps):
    logits_BV = torch.zeros(2, V)
    logits_BV[:, 5] = 300.0  # token 5 has probability 1 and the others 0
    logits_BV.requires_grad_()
    p_BV = guide(logits_BV.softmax(-1), torch.tensor([5, 3]), torch.full((2, 1), alpha), torch.full((2, 1), clamps))
    assert p_BV.isfinite().all()
    (grad_BV,) = torch.autograd.grad((p_BV * torch.arange(V)).sum(), logits_BV)
    assert grad_BV.isfinite().all()


# Frequencies of what is drawn.


def assert_frequencies(token_n: Tensor, p_V: Tensor, *, least: float = 7.0) -> None:
    """Counts within four standard errors, for the tokens expected `least` times or more."""
    n = len(token_n)
    share_V = torch.bincount(token_n, minlength=len(p_V)) / n
    is_seen_V = p_V * n >= least
    error_V = (p_V * (1 - p_V) / n).sqrt()
    assert is_seen_V.sum() > 3 and p_V.max() < 0.9, "a peaked distribution would show nothing"
    assert ((share_V - p_V).abs() <= 4 * error_V)[is_seen_V].all()
    rare = p_V[~is_seen_V].sum()
    assert share_V[~is_seen_V].sum() <= rare + 4 * (rare / n).sqrt()


def test_the_argmax_under_gumbel_noise_has_the_softmaxs_frequencies():
    logits_V = torch.randn(V, generator=seeded(11)) * 1.5
    noisy_nV = logits_V.log_softmax(0) + torch.stack([gumbel_noise(seed, V) for seed in range(10007)])
    assert noisy_nV.isfinite().all()
    assert_frequencies(noisy_nV.argmax(1), logits_V.softmax(0))


def test_gumbel_noise_is_drawn_again_from_its_seed():
    first_V, again_V, other_V = (gumbel_noise(seed, V) for seed in (1, 1, 2))
    assert torch.equal(first_V, again_V) and not torch.equal(first_V, other_V)
    # Euler's constant and pi / sqrt(6).
    noise_n = gumbel_noise(3, 100_003)
    assert noise_n.mean().item() == pytest.approx(0.5772, abs=4 * 1.2825 / 100_003**0.5)
    assert noise_n.std().item() == pytest.approx(1.2825, rel=0.02)


@pytest.mark.parametrize(
    ("name", "drawing"),
    [
        ("scheduled_sampling", {"eps": 0.0, "samples_own": True}),
        ("embedding_mix", {"eps": 0.0, "samples_own": True}),
        ("free_running", {"samples_own": True}),
        ("gumbel_softmax", {"straight_through": True}),
        ("sample", {}),
    ],
)
def test_drawn_tokens_have_the_models_own_frequencies(name, drawing, tiny_llama):
    lm, n = tiny_llama, 2003
    prompt_KD = draw_prompt(lm, 1, 4).detach()
    target_T = torch.tensor([2, 3])
    generators = [seeded(seed) for seed in range(n)]
    p_V = lm.head.logits(lm.read([prompt_KD], [lm.embed(target_T)])[:1])[0].softmax(0)
    with torch.no_grad():
        if name == "sample":
            uniform_nT = torch.stack([torch.rand(1, generator=generator) for generator in generators])
            token_n = sample(lm, [prompt_KD] * n, uniform_nT)[:, 0]
        else:
            texts = Texts(
                [prompt_KD] * n, [target_T] * n, [PLAIN._replace(**drawing)] * n, generators, [None] * n, [None] * n
            )
            # The state after the first token tells which one was read.
            every_VTD = lm.embed(torch.arange(lm.vocab_size))[:, None].repeat(1, 2, 1)
            after_VD = lm.read([prompt_KD] * lm.vocab_size, list(every_VTD))[1::2]
            distance_nV = torch.cdist(POLICIES[name].read(lm, texts)[1::2], after_VD)
            assert distance_nV.amin(1).max() < 0.05 < torch.pdist(after_VD).min()
            token_n = distance_nV.argmin(1)
    assert_frequencies(token_n, p_V)


@pytest.mark.parametrize("eps", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("name", ["scheduled_sampling", "two_pass"])
def test_eps_is_the_share_of_the_ground_truth(name, eps, tiny_llama):
    lm, n = tiny_llama, 1009
    prompt_KD = draw_prompt(lm, 1, 4).detach()
    likeliest = lm.head.logits(lm.hidden(prompt_KD[None])[0]).argmax()
    truth_T = torch.stack([(likeliest + 1) % lm.vocab_size, likeliest])
    own_T = likeliest.repeat(2)
    texts = Texts(
        [prompt_KD] * n, [truth_T] * n, [PLAIN._replace(eps=eps)] * n, [seeded(seed) for seed in range(n)],
        [None] * n, [None] * n,
    )  # fmt: skip
    with torch.no_grad():
        truth_D, own_D = lm.read([prompt_KD] * 2, [lm.embed(truth_T), lm.embed(own_T)])[1::2]
        distance_n2 = torch.cdist(POLICIES[name].read(lm, texts)[1::2], torch.stack([truth_D, own_D]))
    assert distance_n2.amin(1).max() < 0.05 < (truth_D - own_D).norm()
    share = (distance_n2.argmin(1) == 0).float().mean().item()
    assert share == pytest.approx(eps, abs=4 * (eps * (1 - eps) / n) ** 0.5)


# Settings.


def test_a_setting_is_the_recipes_schedules_at_a_slots_clock():
    overrides = [
        "context.name=soft_decoding",
        'context.eps={kind="linear",start=1.0,end=0.0}',
        'context.temperature={kind="cosine",start=2.0,end=1.0,num_steps=4}',
        "context.guidance_alpha=0.25",
        'context.forced_frac={kind="linear",start=1.0,end=0.5,num_steps=10}',
        "context.num_passes=3",
        "context.own_token=sample",
        "context.top_k=5",
        "context.min_p=0.1",
        "context.guidance=clamp",
        "context.straight_through=true",
    ]
    context = load_recipe(None, overrides).context
    begin = Setting(1.0, 2.0, 0.25, 1.0, 3, True, 5, 0.1, True, True)
    assert setting_at(context, 0.0, 20) == begin
    assert setting_at(context, 5.0, 20) == begin._replace(eps=0.75, temperature=1.0, forced_frac=0.75)
    assert setting_at(context, 2.5, 10).eps == 0.75, "a clock may stand between two steps"
    plain = setting_at(ContextRecipe(), 0.0, 1)
    assert (plain.samples_own, plain.clamps, plain.straight_through, plain.top_k, plain.min_p) == (False,) * 3 + (0, 0)


@pytest.mark.parametrize(("forced_frac", "given"), [(0.0, 0), (0.01, 1), (0.5, 4), (1.0, 7), (1.5, 7), (-1.0, 0)])
def test_mixer_gives_the_leading_share_of_a_text_rounded_up(forced_frac, given):
    setting = PLAIN._replace(forced_frac=forced_frac)
    assert POLICIES["mixer"].num_given(setting, 7) == given
    assert all(POLICIES[name].num_given(setting, 7) == 7 for name in POLICIES if name != "mixer")


# What scheduled sampling optimises.

JOINT = torch.tensor([[0.45, 0.05], [0.1, 0.4]], dtype=torch.float64)
"""p(x1, x2) of two binary tokens that depend on each other: row x1, column x2."""


def scheduled_sampling_objective(eps: float, first_2: Tensor, second_22: Tensor) -> Tensor:
    """Expected loss of scheduled sampling on `JOINT`, all sums written out.

    Args:
        first_2: logits of q(x1).
        second_22: logits of q(x2 | what was read), a row a token read.
    """
    log_first_2, log_second_22 = first_2.log_softmax(0), second_22.log_softmax(1)
    own_2 = log_first_2.exp().detach()  # the model's own token carries no gradient
    loss = torch.zeros((), dtype=torch.float64)
    for x1 in range(2):
        for x2 in range(2):
            loss = loss - JOINT[x1, x2] * log_first_2[x1]
            loss = loss - eps * JOINT[x1, x2] * log_second_22[x1, x2]
            for own in range(2):
                loss = loss - (1 - eps) * JOINT[x1, x2] * own_2[own] * log_second_22[own, x2]
    return loss


def optimum(eps: float) -> tuple[Tensor, Tensor]:
    """q(x1) and q(x2 | read) where gradient descent on the objective ends."""
    tables = [
        torch.tensor(table, dtype=torch.float64, requires_grad=True) for table in ([0.3, -0.2], [[0.5, -1], [1, 0]])
    ]
    for _ in range(800):
        grads = torch.autograd.grad(scheduled_sampling_objective(eps, *tables), tables)
        with torch.no_grad():
            for table, grad in zip(tables, grads, strict=True):
                table -= 3.0 * grad
    assert all(grad.abs().max() < 1e-8 for grad in grads), "not at the minimum"
    return tables[0].detach().softmax(0), tables[1].detach().softmax(1)


@pytest.mark.parametrize("eps", [0.0, 0.25, 0.5, 1.0])
def test_the_optimum_of_scheduled_sampling_forgets_the_prefix_as_eps_falls(eps):
    """Scheduled sampling is improper: do not take a low loss under it for a good model.

    The model reads its own token and is scored against what followed the *data's* token. At eps = 0 the two have
    nothing to do with each other, so the best it can do is to predict the marginal p(x2) whatever it reads; only at
    eps = 1 is the optimum the conditional p(x2 | x1). In between it is a mixture of both:
    `(eps p(x1, x2) + (1 - eps) q(x1) p(x2)) / (eps p(x1) + (1 - eps) q(x1))`. That the policy helps at all is
    because a soft prompt has one text to say and not a distribution: where x1 is always the same token, marginal and
    conditional agree. Source: Huszar 2015, 1511.05101, section 3.
    """
    first_2, second_22 = optimum(eps)
    p_first_2, p_second_2 = JOINT.sum(1), JOINT.sum(0)
    torch.testing.assert_close(first_2, p_first_2, rtol=0, atol=1e-6)
    mixed_22 = (eps * JOINT + (1 - eps) * first_2[:, None] * p_second_2) / p_first_2[:, None]
    torch.testing.assert_close(second_22, mixed_22, rtol=0, atol=1e-6)
    conditional_22, marginal_22 = JOINT / p_first_2[:, None], p_second_2.repeat(2, 1)
    assert torch.allclose(second_22, marginal_22, atol=1e-6) == (eps == 0)
    assert torch.allclose(second_22, conditional_22, atol=1e-6) == (eps == 1)
    assert (conditional_22 - marginal_22).abs().max() > 0.3, "the tokens must depend on each other"


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_at_eps_zero_the_policy_predicts_a_token_without_the_data_before_it(eps, tiny_llama):
    """The same on the policy itself: texts that differ in their first token are told apart only where it is read."""
    states = []
    for first in (101, 7):
        texts = draw_texts(tiny_llama, [PLAIN._replace(eps=eps)] * 3, rows=(0,))
        texts.targets[0][0] = first
        states.append(scheduled_sampling(tiny_llama, texts)[1])
    assert torch.allclose(*states, atol=1e-4) == (eps == 0)
