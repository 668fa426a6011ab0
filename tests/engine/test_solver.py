"""One slot: the solver against a plain loop, and what it stores."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.certificate import Certificate, certify
from engine.decoding import greedy
from engine.frozen_lm import FrozenLM, fingerprint
from engine.slots import FOCUS_WEIGHT, Attempt, Job
from engine.soft_prompt import STARTS, random_start
from engine.solver import Solver, text_losses
from tests.engine.jobs import NEVER, TEXTS, K, assert_same_path, job_of, slots_after, solve


def measure(lm: FrozenLM, attempt: Attempt, token_ids: tuple[int, ...]) -> Certificate:
    scores_T, _ = lm.score_targets([attempt.prompt_KD], [torch.tensor(token_ids)])
    return certify(scores_T.margin)


def test_every_text_is_solved_and_greedy_decoding_says_it(tiny_llama):
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text) for text in TEXTS))
    assert attempts.keys() == set(TEXTS)
    for text, attempt in attempts.items():
        (said,) = greedy(tiny_llama, attempt.prompt_KD[None], max_tokens=13)
        assert tuple(said) == attempt.job.target.token_ids
        assert tiny_llama.tokens.tokenizer.decode(said[:-1]) == text


@pytest.mark.parametrize("margin", [0.25, 2.0])
def test_an_attempt_stops_as_soon_as_it_has_its_margin(margin, tiny_llama):
    overrides = (f"stop_margin={margin}", f"loss.margin={2 * margin}")
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text, *overrides) for text in TEXTS)).values()
    assert all(attempt.is_candidate and attempt.certificate.min_margin >= margin for attempt in attempts)
    assert min(attempt.certificate.min_margin for attempt in attempts) < 2 * margin
    assert all(attempt.tokens == (attempt.steps + 1) * attempt.job.num_positions for attempt in attempts)


def test_an_attempt_takes_no_more_steps_than_it_may(tiny_llama):
    (attempt,) = solve(tiny_llama, job_of(tiny_llama, "Ada!", "max_steps=7", *NEVER)).values()
    assert attempt.steps == 7 and attempt.certificate.min_margin < 100
    assert attempt.tokens == (7 + 1) * attempt.job.num_positions  # the last step is measured too


@pytest.mark.parametrize("loss", ["violation_norm", "squared_hinge", "cross_entropy"])
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_a_slot_walks_as_a_plain_loop_with_torchs_adam_does(loss, decay, tiny_lm):
    lm, num_steps = tiny_lm("gemma2"), 7
    start_KD = random_start(lm, K, torch.Generator().manual_seed(13))
    shared = ("max_steps=11", f"loss.name={loss}", f"optim.decay={decay}", *NEVER)
    jobs = [
        job_of(lm, "Ada!", *shared, "optim.lr=0.5", "optim.eps=0.01", start_KD=start_KD),
        job_of(lm, "verbatim", *shared, "optim.beta1=0.5", "optim.beta2=0.7", start_KD=start_KD),
    ]
    for job, slot in zip(jobs, slots_after(lm, num_steps, *jobs), strict=True):
        assert slot.step == num_steps
        assert_same_path(slot.prompt_KD, plain_loop(lm, job, num_steps), lm)


def plain_loop(lm: FrozenLM, job: Job, num_steps: int) -> Tensor:
    """One text, the model's own logits over the whole vocabulary, torch's optimiser and scheduler."""
    optim, target_T = job.recipe.optim, torch.tensor(job.target.token_ids)
    prompt_KD, lr = job.start_KD.clone().requires_grad_(), optim.lr * lm.embed_rms
    adam = torch.optim.Adam([prompt_KD], lr=lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)
    lowest = lr if optim.decay == "constant" else lr * optim.final_lr_frac
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, job.recipe.max_steps, eta_min=lowest)
    for _ in range(num_steps):
        read_SD = torch.cat([prompt_KD, lm.embed(target_T)])
        logits_TV = lm.model(inputs_embeds=read_SD[None], use_cache=False).logits[0, len(prompt_KD) - 1 : -1]
        target_logit_T = logits_TV.gather(1, target_T[:, None])[:, 0]
        rival_T = logits_TV.scatter(1, target_T[:, None], float("-inf")).amax(1)
        violation_T = (job.recipe.loss.margin - target_logit_T + rival_T).clamp_min(0)
        loss = {
            "violation_norm": violation_T.norm(job.recipe.loss.p),
            "squared_hinge": violation_T.square().mean(),
            "cross_entropy": torch.nn.functional.cross_entropy(logits_TV, target_T),
        }[job.recipe.loss.name]
        adam.zero_grad()
        loss.backward()
        adam.step()
        rates.step()
    return prompt_KD.detach()


@pytest.mark.parametrize("max_steps", [3, 100], ids=["out of steps", "certified"])
def test_the_stored_prompt_measures_to_exactly_the_stored_margin(max_steps, tiny_llama):
    for text in TEXTS:
        (attempt,) = solve(tiny_llama, job_of(tiny_llama, text, f"max_steps={max_steps}")).values()
        assert attempt.certificate == measure(tiny_llama, attempt, attempt.job.target.token_ids)
        assert attempt.is_candidate == (max_steps == 100)


def test_the_certificate_counts_the_first_token_and_the_end_of_text(tiny_llama):
    (attempt,) = solve(tiny_llama, job_of(tiny_llama, "Ada!")).values()
    target = attempt.job.target.token_ids
    assert attempt.certificate.num_tokens == len(target) == len("Ada!") + 1
    other = next(token for token in range(1, 99) if token not in target)
    assert measure(tiny_llama, attempt, (other, *target[1:])).first_mismatch == 0
    assert measure(tiny_llama, attempt, (*target[:-1], other)).first_mismatch == len(target) - 1


def test_the_same_seed_gives_the_same_attempt_and_another_gives_another(tiny_llama):
    job = job_of(tiny_llama, "Ada!")
    first, again = (solve(tiny_llama, job)["Ada!"] for _ in range(2))
    assert torch.equal(first.prompt_KD, again.prompt_KD) and first.certificate == again.certificate
    for other in (replace(job, attempt=1), job_of(tiny_llama, "Ada!", "seed=1")):
        assert not torch.equal(first.prompt_KD, solve(tiny_llama, other)["Ada!"].prompt_KD)


def test_an_attempt_may_start_from_a_prompt_that_is_done(tiny_llama):
    done = solve(tiny_llama, job_of(tiny_llama, "Ada!"))["Ada!"]
    again = solve(tiny_llama, replace(done.job, start_KD=done.prompt_KD, attempt=1))["Ada!"]
    assert again.steps == 0 and torch.equal(again.prompt_KD, done.prompt_KD)


def test_a_position_in_focus_weighs_more(tiny_llama):
    start_KD = random_start(tiny_llama, K, torch.Generator().manual_seed(13))
    plain = job_of(tiny_llama, "Ada!", "loss.name=cross_entropy")
    focused = job_of(tiny_llama, "Bob?", "loss.name=cross_entropy", focus=(1, 3))
    slots = slots_after(tiny_llama, 1, plain, focused)
    scores_N, lengths = tiny_llama.score_targets([start_KD, start_KD], [slot.target_T for slot in slots])
    nll_T, focused_nll_T = scores_N.nll.split(lengths)
    weight_T = torch.tensor([1, FOCUS_WEIGHT, 1, FOCUS_WEIGHT, 1])
    expected_B = torch.stack([nll_T.mean(), (focused_nll_T * weight_T).mean()])
    torch.testing.assert_close(text_losses(scores_N, lengths, slots), expected_B)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_solving_leaves_every_weight_as_it_was(family, tiny_lm):
    lm = tiny_lm(family)
    assert solve(lm, *(job_of(lm, "Ada!", f"start.name={start}", "max_steps=13") for start in STARTS))
    assert fingerprint(lm.model) == lm.fingerprint
    assert all(weight.grad is None for weight in lm.model.parameters())


def test_a_budget_below_one_is_refused(tiny_llama):
    with pytest.raises(ValueError, match="token_budget = 0"):
        Solver(tiny_llama, token_budget=0)
