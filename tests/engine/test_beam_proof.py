"""Attempts that are to be proved for beam search: when they end, and that beams then say them, on tiny models."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from engine.decoding import Beam
from engine.target import make_target
from tests.engine.jobs import TEXTS, job_of, solve

WIDTHS = (1, 4, 16)
FAMILIES = ("llama", "gpt2")


@pytest.fixture(scope="module", params=FAMILIES)
def proved(request, tiny_lm):
    """The model's name, the model, and attempts by text."""
    lm = tiny_lm(request.param)
    return request.param, lm, solve(lm, *(job_of(lm, text, "proof=beam", "max_steps=300") for text in TEXTS))


def test_an_attempt_ends_when_every_other_text_is_behind_by_the_margin_asked_for(proved):
    _, lm, attempts = proved
    assert set(attempts) == set(TEXTS)
    for attempt in attempts.values():
        certificate, job = attempt.certificate, attempt.job
        assert attempt.is_candidate and attempt.steps < job.recipe.max_steps
        assert job.recipe.stop_margin <= certificate.lead(job.overrun) <= certificate.slack
        assert certificate.min_margin >= certificate.lead(job.overrun)
        nll_T = lm.score_targets([attempt.prompt_KD], [torch.tensor(job.target.token_ids)]).nll
        assert certificate.log_prob == pytest.approx(-float(nll_T.sum()), abs=1e-3)


def test_a_greedy_attempt_ends_long_before_and_leaves_likelier_texts(proved):
    family, lm, attempts = proved
    if family == "llama":
        greedy = solve(lm, *(job_of(lm, text) for text in TEXTS[:2]))
        assert all(greedy[text].steps < attempts[text].steps for text in greedy)
        assert any(attempt.certificate.slack < 0 for attempt in greedy.values())


def test_beams_of_every_width_say_what_is_proved(proved):
    _, lm, attempts = proved
    prompts = [attempt.prompt_KD for attempt in attempts.values()]
    limits = [len(attempt.job.target.token_ids) + attempt.job.overrun for attempt in attempts.values()]
    for width in WIDTHS:
        for alpha in (0.0, 1.0):
            said = Beam(width=width, length_penalty=alpha).decode(lm, prompts, limits)
            assert [tuple(text.token_ids) for text in said] == [a.job.target.token_ids for a in attempts.values()]


@torch.no_grad()
def test_transformers_beams_say_what_is_proved(proved, tiny_folder):
    family, lm, attempts = proved
    model = AutoModelForCausalLM.from_pretrained(tiny_folder(family))
    for attempt in list(attempts.values())[:3]:
        job, target = attempt.job, list(attempt.job.target.token_ids)
        for width, alpha, early_stopping in ((4, 1.0, False), (4, 0.0, "never"), (16, 1.0, "never")):
            how = GenerationConfig(
                num_beams=width, length_penalty=alpha, early_stopping=early_stopping, do_sample=False,
                max_new_tokens=len(target) + job.overrun, eos_token_id=lm.token_rule.end_id,
                pad_token_id=lm.token_rule.end_id,
            )  # fmt: skip
            said = model.generate(inputs_embeds=attempt.prompt_KD[None], generation_config=how)[0].tolist()
            assert said == target


def test_a_text_that_does_not_end_is_said_by_beams_of_its_length(tiny_llama):
    jobs = [job_of(tiny_llama, text, "proof=beam") for text in TEXTS[:3]]
    jobs = [
        replace(job, target=make_target(tiny_llama.token_rule, job.key, job.key, end_of_text=False)) for job in jobs
    ]
    attempts = solve(tiny_llama, *jobs)
    targets = [attempt.job.target.token_ids for attempt in attempts.values()]
    assert all(attempt.is_candidate and attempt.job.overrun == 0 for attempt in attempts.values())
    prompts = [attempt.prompt_KD for attempt in attempts.values()]
    for width in WIDTHS:
        said = Beam(width=width).decode(tiny_llama, prompts, [len(target) for target in targets])
        assert [tuple(text.token_ids) for text in said] == targets


@pytest.mark.parametrize("name", ["soft_hinge", "cross_entropy"])
def test_every_loss_reaches_the_certificate(name, tiny_llama):
    attempts = solve(
        tiny_llama,
        *(job_of(tiny_llama, text, "proof=beam", f"loss.name={name}", "max_steps=300") for text in TEXTS[:2]),
    )
    assert all(attempt.is_candidate for attempt in attempts.values())
