"""The verifier's contract: one suite, every engine.

Every engine is given a model whose own files ask for anything but plain greedy decoding.
What a verifier refuses, it refuses alone; what the solver certified, it confirms; what is only nearly that, it denies.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.decoding import Beam, Greedy
from engine.frozen_lm import FrozenLM
from engine.model_source import ModelSource
from engine.recipe import Recipe, load_recipe
from engine.slots import Job
from engine.solver import Solver
from engine.target import Target, make_target
from orchestrator.fleet.verifier_actor import EngineSpec, make_verifier
from orchestrator.verifiers.contract import (
    GREEDY_AND_SCORED,
    SCORED,
    SLACK_TOKENS,
    Candidate,
    Mode,
    Said,
    verdict,
)
from tests.orchestrator.made_up import noise_like
from tests.planted import plant

CONTEXT = 96
K = 16
TEXTS = ("The cat sat on the mat.", "It was late.", "A dog ran home through the rain.")

ENGINES = ["hf", pytest.param("vllm", marks=[pytest.mark.vllm, pytest.mark.slow])]


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The pocket model, whose files say all that of decoding."""
    return plant(tmp_path_factory.mktemp("planted") / "model")


def load(engine, folder):
    spec = EngineSpec(engine, str(folder), None, "float32", CONTEXT)
    return make_verifier(spec)


@pytest.fixture(scope="module")
def hf(planted):
    return load("hf", planted)


@pytest.fixture(scope="module")
def vllm(planted):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        patch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield load("vllm", planted)


@pytest.fixture(params=ENGINES)
def verifier(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pocket_lm():
    return FrozenLM.load(ModelSource())


@pytest.fixture(scope="module")
def solved(pocket_lm):
    """Candidates that the solver certified, one a text, by margins alone: likelihoods make some of them beams' too."""
    margins = ["loss.name=violation_mix", "loss.p=3", "optim.name=adam", "optim.lr=0.7", "optim.beta2=0.9"]
    recipe = load_recipe(None, [f"num_vectors={K}", "max_steps=300", *margins])
    targets = [make_target(pocket_lm.token_rule, text, text) for text in TEXTS]
    jobs = [Job(target, recipe, K) for target in targets if isinstance(target, Target)]
    attempts = Solver(pocket_lm).solve(jobs)
    assert all(attempt.is_candidate for attempt in attempts)
    return [Candidate(a.job.target.id, a.prompt_KD.numpy(), a.job.target.token_ids) for a in attempts]


@pytest.fixture(scope="module")
def proved(pocket_lm):
    """Candidates that the solver certified for beam search, and that claim it."""
    recipe = Recipe(num_vectors=K, max_steps=300, proof="beam")
    targets = [make_target(pocket_lm.token_rule, text, text) for text in TEXTS]
    jobs = [Job(target, recipe, K) for target in targets if isinstance(target, Target)]
    attempts = Solver(pocket_lm).solve(jobs)
    assert all(attempt.is_candidate for attempt in attempts)
    return [Candidate(f"beam-{a.job.target.id}", a.prompt_KD.numpy(), a.job.target.token_ids, True) for a in attempts]


@pytest.fixture(scope="module")
def random_prompts(pocket_lm):
    """Prompts of several lengths in the embedding's own scale, with targets that nobody expects."""
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randn(k, pocket_lm.hidden_size, generator=generator) * pocket_lm.embed_rms for k in range(1, 12)]
    return [Candidate(f"random-{len(p)}", p.numpy(), tuple(range(1, 8 + len(p)))) for p in prompts]


def test_certified_prompts_are_exact(verifier, solved):
    verdicts = verifier.judge(solved)
    assert [v.id for v in verdicts] == [c.id for c in solved]
    for candidate, said in zip(solved, verdicts, strict=True):
        assert said.exact and said.refusal is None
        assert said.generated_ids == candidate.token_ids and said.first_mismatch == len(candidate.token_ids)
        assert said.engine == verifier.engine and said.engine_dtype == "float32"


def test_what_claims_beams_is_decoded_by_them_too(verifier, solved, proved):
    """A greedy text that beams do not find loses its claim; one that claims nothing is judged by greedy decoding."""
    claims = [replace(c, for_beams=True) for c in solved] + proved
    verdicts = verifier.judge([*claims, *solved])
    by_beams = [v.exact for v in verifier.judge(claims, Mode(beams=4))]
    assert [v.exact for v in verdicts] == [*by_beams, *(True for _ in solved)]
    assert [v.beams for v in verdicts] == [4] * len(claims) + [1] * len(solved)
    assert not all(by_beams[: len(solved)]) and all(by_beams[len(solved) :])


@pytest.mark.parametrize("width", [8, 16])
def test_what_is_proved_for_beams_is_what_wider_ones_say(verifier, proved, width):
    assert all(said.exact for said in verifier.judge(proved, Mode(beams=width)))


def test_nothing_that_a_models_files_say_of_decoding_changes_what_is_said(verifier, random_prompts, pocket_lm):
    prompts = [torch.from_numpy(candidate.prompt_KD) for candidate in random_prompts]
    limits = [len(candidate.token_ids) for candidate in random_prompts]
    plain = [said.token_ids for said in Greedy().decode(pocket_lm, prompts, limits)]
    assert [list(said.generated_ids) for said in verifier.judge(random_prompts)] == plain
    assert {278, 300} & {token for ids in plain for token in ids[:-1]}
    beams = [said.token_ids for said in Beam(width=2).decode(pocket_lm, prompts, limits)]
    assert [list(said.generated_ids) for said in verifier.judge(random_prompts, Mode(beams=2))] == beams


def test_noise_of_the_same_norm_is_not_exact(verifier, solved):
    noisy = [replace(c, prompt_KD=noise_like(c.prompt_KD)) for c in solved]
    for candidate, said in zip(noisy, verifier.judge(noisy), strict=True):
        assert not said.exact and said.refusal is None
        assert said.first_mismatch < len(candidate.token_ids)


def test_a_certified_prompt_is_not_exact_for_another_text(verifier, solved):
    swapped = [replace(a, token_ids=b.token_ids) for a, b in zip(solved, solved[1:] + solved[:1], strict=True)]
    assert not any(said.exact for said in verifier.judge(swapped))


def test_each_unsound_candidate_is_refused_with_its_reason_and_the_rest_are_answered(verifier, solved):
    good = solved[0]
    prompt_KD, width = good.prompt_KD, verifier.hidden_size
    with_nan, with_inf = prompt_KD.copy(), prompt_KD.copy()
    with_nan[3, 5], with_inf[0, 0] = np.nan, np.inf
    unsound = {
        f"prompt width {width - 1}": replace(good, prompt_KD=prompt_KD[:, 1:]),
        f"prompt width {2 * width}": replace(good, prompt_KD=np.tile(prompt_KD, 2)),
        "prompt dtype float64": replace(good, prompt_KD=prompt_KD.astype(np.float64)),
        "prompt dtype int32": replace(good, prompt_KD=prompt_KD.astype(np.int32)),
        "prompt shape": replace(good, prompt_KD=prompt_KD.reshape(-1)),
        "prompt has a non-finite value": replace(good, prompt_KD=with_nan),
        " prompt has a non-finite value": replace(good, prompt_KD=with_inf),
        "prompt has no vectors": replace(good, prompt_KD=prompt_KD[:0]),
        "target has no tokens": replace(good, token_ids=()),
        f"the context holds {CONTEXT}": replace(good, prompt_KD=np.tile(prompt_KD, (CONTEXT // K, 1))),
    }
    batch = [candidate for bad in unsound.values() for candidate in (bad, good)]
    verdicts = verifier.judge(batch)
    assert all(said.exact for said in verdicts[1::2])
    for reason, said in zip(unsound, verdicts[::2], strict=True):
        assert not said.exact and said.generated_ids == () and reason.strip() in (said.refusal or "")


def test_no_candidates_give_no_verdicts(verifier):
    assert verifier.judge([]) == []


def test_where_stopping_is_not_asked_for_what_follows_the_target_is_not_judged(verifier, solved):
    opened = [replace(c, token_ids=c.token_ids[:-1]) for c in solved]
    assert all(said.exact for said in verifier.judge(opened))


def test_where_stopping_is_asked_for_going_on_is_not_exact(verifier, solved):
    candidate = solved[0]
    cut = replace(candidate, token_ids=(*candidate.token_ids[:-2], candidate.token_ids[-1]))
    (said,) = verifier.judge([cut])
    assert not said.exact and said.first_mismatch == len(cut.token_ids) - 1
    assert said.generated_ids == candidate.token_ids


def test_a_text_that_stops_too_early_is_not_exact(verifier, solved):
    candidate = solved[0]
    longer = replace(candidate, token_ids=(*candidate.token_ids[:-1], 5, candidate.token_ids[-1]))
    (said,) = verifier.judge([longer])
    assert not said.exact and said.first_mismatch == len(candidate.token_ids) - 1


def test_a_prompt_is_decoded_within_the_target_and_its_slack_and_the_context(verifier, random_prompts):
    long = replace(random_prompts[-1], token_ids=tuple(range(1, CONTEXT - 10)))
    batch = [replace(c, token_ids=(*c.token_ids, 0)) for c in random_prompts] + [long]
    for candidate, said in zip(batch, verifier.judge(batch), strict=True):
        limit = min(len(candidate.token_ids) + SLACK_TOKENS, CONTEXT - len(candidate.prompt_KD))
        assert said.refusal is None and 1 <= len(said.generated_ids) <= limit


def test_judging_leaves_the_prompts_alone_and_gives_the_same_verdicts_again(verifier, solved, random_prompts):
    batch = [*solved, *random_prompts]
    before = [candidate.prompt_KD.tobytes() for candidate in batch]
    assert verifier.judge(batch) == verifier.judge(batch)
    assert [candidate.prompt_KD.tobytes() for candidate in batch] == before


@pytest.mark.parametrize("mode", [Mode(batch_size=1), Mode(batch_size=2), Mode(margins=True)], ids=str)
def test_neither_batch_size_nor_a_look_at_margins_changes_what_is_said(mode, verifier, solved, random_prompts):
    batch = [*solved, *random_prompts]
    plain = [replace(said, margins=None) for said in verifier.judge(batch, mode)]
    assert plain == verifier.judge(batch)


def test_every_target_token_is_scored_those_of_a_text_that_is_said_otherwise_too(verifier, solved, pocket_lm):
    nearly = replace(solved[0], id="nearly", token_ids=(*solved[0].token_ids[:2], 40, *solved[0].token_ids[3:]))
    for candidate, found in zip([*solved, nearly], verifier.judge([*solved, nearly], GREEDY_AND_SCORED), strict=True):
        prompt_KD, ids_T = torch.from_numpy(candidate.prompt_KD), torch.tensor(candidate.token_ids)
        ours = pocket_lm.score_targets([prompt_KD], [ids_T]).margin
        assert found.target_margins == pytest.approx(ours.tolist(), abs=1e-3)
        assert found.exact == (min(found.target_margins) > 0) == (candidate.id != "nearly")
        if not found.exact:
            assert found.first_mismatch == 2 and found.target_margins[2] < 0 and len(found.generated_ids) > 2


def test_what_is_scored_alone_is_never_exact_and_what_cannot_be_scored_has_no_margins(verifier, solved, monkeypatch):
    for found in verifier.judge(solved, SCORED):
        assert not found.exact and found.generated_ids == () and min(found.target_margins) > 0
        assert found.first_mismatch == len(found.target_margins)
    monkeypatch.setattr("orchestrator.verifiers.contract.MOST_LOGITS", verifier.vocab_size * 3)
    for mode, is_exact in ((SCORED, False), (GREEDY_AND_SCORED, True)):
        assert [(each.exact, each.target_margins) for each in verifier.judge(solved, mode)] == [(is_exact, None)] * 3
    (wide,) = verifier.judge([replace(solved[0], prompt_KD=np.zeros((1, 3), np.float32))], GREEDY_AND_SCORED)
    assert wide.refusal and wide.target_margins is None


def test_an_engine_that_scores_nothing_decodes_instead(verifier, solved, monkeypatch):
    monkeypatch.setattr(verifier, "can_score", False)
    for mode in (SCORED, GREEDY_AND_SCORED):
        for found in verifier.judge(solved, mode):
            assert found.exact and found.target_margins is None and (found.margins is None) == mode.decoded


def test_the_engines_own_margins_are_those_the_solver_measured(verifier, solved, pocket_lm):
    others = [replace(c, token_ids=(*c.token_ids[:2], 5, c.token_ids[-1])) for c in solved]
    for candidate, said in zip([*solved, *others], verifier.judge([*solved, *others], Mode(margins=True)), strict=True):
        right = torch.tensor(candidate.token_ids[: said.first_mismatch])
        with torch.no_grad():
            ours = pocket_lm.score_targets([torch.from_numpy(candidate.prompt_KD)], [right]).margin
        assert said.margins is not None and len(said.margins) == said.first_mismatch > 0
        assert said.margins == pytest.approx(ours.tolist(), abs=1e-3)


@pytest.mark.vllm
@pytest.mark.slow
def test_both_engines_say_the_same_of_random_prompts(hf, vllm, random_prompts):
    pairs = list(zip(hf.judge(random_prompts), vllm.judge(random_prompts), strict=True))
    assert [a.generated_ids for a, _ in pairs] == [b.generated_ids for _, b in pairs]


@pytest.mark.parametrize(
    ("generated", "ends", "exact", "first_mismatch"),
    [
        ([4, 5, 0], True, True, 3),
        ([4, 5, 0], False, True, 3),
        ([4, 6, 0], True, False, 1),
        ([4, 6], True, False, 1),
        ([4, 0], True, False, 1),
        ([4, 5], True, False, 2),
        ([4, 5], False, False, 2),
        ([4, 5, 0, 7], True, False, 3),
        ([4, 5, 0, 7], False, True, 3),
        ([], True, False, 0),
    ],
)
def test_a_verdict_compares_token_by_token(generated, ends, exact, first_mismatch):
    candidate = Candidate("a", np.zeros((1, 2), np.float32), (4, 5, 0))
    said = verdict(candidate, Said(generated), ends=ends, engine="e", engine_dtype="d")
    assert (said.exact, said.first_mismatch) == (exact, first_mismatch)
    assert said.generated_ids == tuple(generated if ends else generated[:3])
