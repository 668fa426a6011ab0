"""Starts that need no network: their arithmetic, and that a common one learns."""

import torch

from bench.cheap_starts import features, plain_start, ridge, solved_arms, stretched, trained_common
from engine.correction.situation import score
from engine.samples import sample_targets
from engine.target import Target, make_target
from tests.engine.jobs import job_of, solve
from tests.engine.slow import seeded


def test_ridge_finds_the_map_that_made_its_values():
    features_NF = torch.randn(4000, 7, generator=seeded(1))
    weight_FD = torch.randn(7, 3, generator=seeded(2))
    torch.testing.assert_close(ridge(features_NF, features_NF @ weight_FD), weight_FD, rtol=0, atol=0.03)


def test_a_prompt_is_stretched_evenly():
    prompt_KD = torch.arange(3.0)[:, None]
    assert stretched(prompt_KD, 5).flatten().tolist() == [0, 0, 1, 2, 2]
    assert stretched(prompt_KD, 1).tolist() == [[0]] and torch.equal(stretched(prompt_KD, 3), prompt_KD)


def test_a_vectors_features_are_its_own_tokens(tiny_llama):
    (target, *_) = sample_targets(tiny_llama.token_rule, 8)
    rows = features(tiny_llama, target, 2)
    own = tiny_llama.embed(torch.tensor(target.token_ids)).reshape(2, -1) / tiny_llama.embed_rms
    torch.testing.assert_close(rows, torch.cat([own, torch.ones(2, 1)], 1))


def test_every_start_of_solved_prompts_fits_a_text_of_another_length(tiny_llama):
    bank = list(solve(tiny_llama, job_of(tiny_llama, "Ada!"), job_of(tiny_llama, "ab")).values())
    (target, *_) = sample_targets(tiny_llama.token_rule, 8)
    for start in solved_arms(tiny_llama, bank).values():
        assert start(target, 3).shape == (3, tiny_llama.hidden_size)


def test_a_common_start_says_what_all_its_texts_share(tiny_llama):
    made = [make_target(tiny_llama.token_rule, text, f"the same {text}") for text in "abcdef"]
    texts = [target for target in made if isinstance(target, Target)]
    ids = [torch.tensor(t.token_ids) for t in texts]
    for has_plain in (False, True):
        plain = [plain_start(tiny_llama, t, 3) if has_plain else torch.zeros(3, tiny_llama.hidden_size) for t in texts]
        losses = []
        for steps in (0, 15):
            common_KD, positions = trained_common(tiny_llama, texts, 3, has_plain=has_plain, steps=steps)
            assert positions == steps * sum(len(ids_T) + 2 for ids_T in ids)
            losses.append(float(score(tiny_llama, [common_KD + p for p in plain], ids)[1].mean()))
        assert losses[1] < losses[0] - 0.1
