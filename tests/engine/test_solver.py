"""One slot: the solver against a plain loop, and what it stores."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engine.certificate import Certificate, certify
from engine.decoding import greedy
from engine.fingerprint import fingerprint
from engine.frozen_lm import FrozenLM
from engine.losses import POSITION_TERMS
from engine.slots import Attempt, Job
from engine.snapshot import Snapshot
from engine.soft_prompt import STARTS
from engine.solver import Solver
from engine.training import FOCUS_WEIGHT
from tests.engine.jobs import NEVER, TEXTS, K, assert_same_path, job_of, slots_after, solve


def measure(lm: FrozenLM, attempt: Attempt, token_ids: tuple[int, ...]) -> Certificate:
    scores_T = lm.score_targets([attempt.prompt_KD], [torch.tensor(token_ids)])
    return certify(scores_T.margin, scores_T.nll)


def random_start(lm: FrozenLM) -> Tensor:
    return torch.randn(K, lm.hidden_size, generator=torch.Generator().manual_seed(13)) * lm.embed_rms


def test_every_text_is_solved_and_greedy_decoding_says_it(tiny_llama):
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text) for text in TEXTS))
    assert attempts.keys() == set(TEXTS)
    for text, attempt in attempts.items():
        (said,) = greedy(tiny_llama, attempt.prompt_KD[None], max_tokens=13)
        assert tuple(said) == attempt.job.target.token_ids
        assert tiny_llama.token_rule.tokenizer.decode(said[:-1]) == text


@pytest.mark.parametrize("margin", [0.25, 2.0])
def test_an_attempt_stops_as_soon_as_it_has_its_margin(margin, tiny_llama):
    overrides = (f"stop_margin={margin}", f"loss.margin={2 * margin}")
    attempts = solve(tiny_llama, *(job_of(tiny_llama, text, *overrides) for text in TEXTS)).values()
    assert all(attempt.is_candidate and attempt.certificate.min_margin >= margin for attempt in attempts)
    assert min(attempt.certificate.min_margin for attempt in attempts) < 2 * margin
    assert all(attempt.positions == (attempt.steps + 1) * attempt.job.num_positions for attempt in attempts)


def test_an_attempt_takes_no_more_steps_than_it_may(tiny_llama):
    (attempt,) = solve(tiny_llama, job_of(tiny_llama, "Ada!", "max_steps=7", *NEVER)).values()
    assert attempt.steps == 7 and attempt.certificate.min_margin < 100
    assert attempt.positions == (7 + 1) * attempt.job.num_positions  # the last step is measured too


@pytest.mark.parametrize("loss", POSITION_TERMS)
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_a_slot_walks_as_a_plain_loop_with_torchs_adam_does(loss, decay, tiny_lm):
    lm, num_steps = tiny_lm("gemma2"), 7
    start_KD = random_start(lm)
    shared = ("max_steps=11", f"loss.name={loss}", f"optim.decay={decay}", *NEVER)
    jobs = [
        job_of(lm, "Ada!", *shared, "optim.lr=0.5", "optim.eps=0.01", start_KD=start_KD, focus=(1, 3)),
        job_of(lm, "verbatim", *shared, "optim.beta1=0.5", "optim.beta2=0.7", start_KD=start_KD),
    ]
    for job, slot in zip(jobs, slots_after(lm, num_steps, *jobs), strict=True):
        assert slot.step == num_steps
        assert_same_path(slot.prompt_KD, plain_loop(lm, job, num_steps), lm)


def plain_loop(lm: FrozenLM, job: Job, num_steps: int) -> Tensor:
    """One text, the model's own logits over the whole vocabulary, torch's optimiser and scheduler."""
    optim, target_T = job.recipe.optim, torch.tensor(job.target.token_ids)
    weight_T = torch.tensor([FOCUS_WEIGHT if t in job.focus else 1.0 for t in range(len(target_T))])
    prompt_KD, lr = job.start_KD.clone().requires_grad_(), optim.lr * lm.embed_rms
    adam = torch.optim.Adam([prompt_KD], lr=lr, betas=(optim.beta1, optim.beta2), eps=optim.eps)
    lowest = lr if optim.decay == "constant" else lr * optim.final_lr_frac
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, job.recipe.max_steps, eta_min=lowest)
    for _ in range(num_steps):
        read_SD = torch.cat([prompt_KD, lm.embed(target_T)])
        logits_TV = lm.model(inputs_embeds=read_SD[None], use_cache=False).logits[0, len(prompt_KD) - 1 : -1]
        target_logit_T = logits_TV.gather(1, target_T[:, None])[:, 0]
        rival_T = logits_TV.scatter(1, target_T[:, None], float("-inf")).amax(1)
        short_T = job.recipe.loss.margin - target_logit_T + rival_T
        violation_T = short_T.clamp_min(0) * weight_T
        nll_T = torch.nn.functional.cross_entropy(logits_TV, target_T, reduction="none")
        loss = {
            "violation_mix": violation_T.norm(job.recipe.loss.p) + 0.5 * violation_T.mean(),
            "violation_norm": violation_T.norm(job.recipe.loss.p),
            "squared_hinge": violation_T.square().mean(),
            "hinge": violation_T.mean(),
            "soft_hinge": (torch.logaddexp(short_T, torch.zeros(())) * weight_T).mean(),
            "cross_entropy": (nll_T * weight_T).mean(),
            "focal": ((1 - (-nll_T).exp()).pow(job.recipe.loss.gamma) * nll_T * weight_T).mean(),
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
    start_KD, shared = random_start(tiny_llama), ("loss.name=cross_entropy", "optim.name=sgd", *NEVER)
    jobs = [job_of(tiny_llama, "Ada!", *shared, start_KD=start_KD, focus=focus) for focus in ((), (1, 3), (1,), (3,))]
    plain, both, one, other = (slot.prompt_KD - start_KD for slot in slots_after(tiny_llama, 1, *jobs))
    assert (both - plain).norm() > 0.1 * plain.norm()
    torch.testing.assert_close(both - plain, (one - plain) + (other - plain), rtol=1e-3, atol=1e-4 * plain.abs().max())


def test_no_term_due_at_a_step_moves_nothing(tiny_llama):
    overrides = ("loss.weight=0", "terms.autoregressive=1", "knobs.autoregressive_every=3", "optim.name=sgd", *NEVER)
    job = job_of(tiny_llama, "Ada!", *overrides, "optim.beta1=0")
    first, second, third, fourth = (slots_after(tiny_llama, n, job)[0].prompt_KD for n in (1, 2, 3, 4))
    assert torch.equal(first, second) and torch.equal(second, third) and not torch.equal(third, fourth)


def test_a_large_margin_over_a_prefix_does_not_win_over_a_certified_sibling(tiny_llama):
    solved = solve(tiny_llama, job_of(tiny_llama, "Ada!"))["Ada!"]
    num_tokens = len(solved.job.target.token_ids)
    job = job_of(tiny_llama, "Ada!", "siblings=2", "curriculum.growth=one_token")
    states = [slot.state_dict() for slot in slots_after(tiny_llama, 1, job)]
    whole = Snapshot(solved.prompt_KD, solved.certificate, num_tokens)
    prefix = Snapshot(states[1]["prompt_KD"], Certificate(99.0, num_tokens - 1, num_tokens), num_tokens - 1)
    solver = Solver(tiny_llama)
    solver.restore(job, [states[0] | {"best": whole}, states[1] | {"best": prefix}])
    (attempt,) = solver.step()
    assert attempt.is_candidate and torch.equal(attempt.prompt_KD, solved.prompt_KD)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_solving_leaves_every_weight_as_it_was(family, tiny_lm):
    lm = tiny_lm(family)
    assert solve(
        lm, *(job_of(lm, "Ada!", f"start.name={start}", "max_steps=13") for start in STARTS if start != "learned")
    )
    assert fingerprint(lm.model) == lm.fingerprint
    assert all(weight.grad is None for weight in lm.model.parameters())


def test_a_budget_below_one_is_refused(tiny_llama):
    with pytest.raises(ValueError, match="table_positions = 0"):
        Solver(tiny_llama, table_positions=0)


def test_a_budget_cuts_an_attempt_short_and_leaves_its_way_unchanged(float64_lm):
    lm = float64_lm("llama")
    (free,) = slots_after(lm, 3, job_of(lm, "Ada!", *NEVER))
    job = job_of(lm, "Ada!", *NEVER, "siblings=2", budget=2 * 3.5 * free.job.num_positions)
    (attempt,) = Solver(lm).solve([job])
    assert attempt.steps == 3, "ended by the fourth measurement, before its step"
    walked = {slot.sibling: slot for slot in slots_after(lm, 3, job)}
    assert_same_path(walked[0].prompt_KD, free.prompt_KD, lm)


def test_owners_keep_attempts_at_one_text_apart_without_changing_them(float64_lm):
    lm = float64_lm("llama")
    mine, yours = (job_of(lm, "Ada!", "start.name=random", *NEVER, owner=owner) for owner in ("me", "you"))
    assert mine.key != yours.key and mine.key != mine.target.id
    first, second = slots_after(lm, 4, mine, yours)
    assert_same_path(first.prompt_KD, second.prompt_KD, lm)
