"""Constrained beam search: the formula always holds, and what holds it best is found where nothing is left out."""

import random
from dataclasses import replace
from itertools import product

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from engine.decoding import Beam, DecodingError, Greedy
from engine.decoding.constrained import Constrained
from engine.frozen_lm import FrozenLM, TokenRule
from engine.model_source import ModelSource
from engine.target import decode, encode
from tests.engine.slow import draw_prompt, seeded
from tests.tiny import END_OF_TEXT, FAMILIES, INITIALIZER_RANGE

B, K = 5, 3
SHORT = 4
"""Tokens of the texts that are all listed."""


def draw_prompts(lm, num_prompts=B):
    return [draw_prompt(lm, K, seed=b) for b in range(num_prompts)]


def holds_of(clauses, text):
    return all(
        any(literal.removeprefix("!") not in text if literal.startswith("!") else literal in text for literal in clause)
        for clause in clauses
    )


@pytest.mark.parametrize("width", [1, 3, 4])
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_without_clauses_it_is_plain_beam_search(family, width, length_penalty, tiny_lm):
    lm, limits = tiny_lm(family), (11, 2, 13, 1, 7)
    ours = Constrained(width=width, length_penalty=length_penalty).decode(lm, draw_prompts(lm), limits)
    assert ours == Beam(width=width, length_penalty=length_penalty).decode(lm, draw_prompts(lm), limits)
    if width == 1:
        greedy = Greedy().decode(lm, draw_prompts(lm), limits)
        assert [said.token_ids for said in ours] == [said.token_ids for said in greedy]


def draw_clauses(rng):
    """Overlapping phrases of two letters, wanted and not."""
    phrases = ["".join(rng.choices("abc", k=rng.randint(1, 3))) for _ in range(4)]
    return tuple(
        tuple(rng.choice(("", "", "!")) + phrase for phrase in rng.sample(phrases, rng.randint(1, 2)))
        for _ in range(rng.randint(1, 4))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_what_can_be_met_is_met_and_what_cannot_is_refused_with_the_least_length(family, tiny_lm):
    lm, rng, met, refused = tiny_lm(family), random.Random(family), 0, 0
    for _ in range(15):
        clauses = draw_clauses(rng)
        strategy = Constrained(width=rng.choice((1, 2, 5)), clauses=clauses)
        automaton = strategy.compile(lm.token_rule)
        least = automaton.distance(automaton.start)
        if least == float("inf"):
            with pytest.raises(DecodingError, match=r"clauses.*contradict one another: drop a clause"):
                strategy.decode(lm, draw_prompts(lm), [20] * B)
            refused += 1
            continue
        if least > 1:
            with pytest.raises(DecodingError, match=rf"cannot be met in {least - 1} tokens; needs at least {least}:"):
                strategy.decode(lm, draw_prompts(lm), [20] * (B - 1) + [least - 1])
        limits = [max(1, least), least + 1, least + 2, least + 5, least + 9]
        for said, limit in zip(strategy.decode(lm, draw_prompts(lm), limits), limits, strict=True):
            assert 1 <= len(said.token_ids) <= limit
            assert holds_of(clauses, decode(lm.token_rule, said.token_ids)), clauses
            assert len(said.token_ids) == limit or said.token_ids[-1] == lm.token_rule.end_id
        met += 1
    assert met > 5, (met, refused)


def test_overlapping_phrases_share_their_tokens_where_the_length_is_tight(tiny_llama):
    strategy = Constrained(clauses=(("ab",), ("bc",)))
    for said in strategy.decode(tiny_llama, draw_prompts(tiny_llama), [3] * B):
        assert decode(tiny_llama.token_rule, said.token_ids) == "abc"
    with pytest.raises(DecodingError, match=r"constrained.clauses = .*'bc'.* in 2 tokens; needs at least 3: raise"):
        strategy.decode(tiny_llama, draw_prompts(tiny_llama), [2] * B)


def test_what_greedy_says_can_be_forbidden(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    greedy = Greedy().decode(tiny_llama, prompts, [12] * B)
    forbidden = sorted({token for said in greedy for token in said.token_ids if 0x21 < token < 0x5E})
    letters = [decode(tiny_llama.token_rule, [token]) for token in forbidden[:6]]
    assert letters
    said = Constrained(clauses=tuple((f"!{letter}",) for letter in letters)).decode(tiny_llama, prompts, [12] * B)
    assert not any(letter in decode(tiny_llama.token_rule, text.token_ids) for text in said for letter in letters)


def test_a_score_is_the_mean_log_probability_of_the_tokens(tiny_llama):
    prompts = draw_prompts(tiny_llama)
    for penalty in (0.0, 1.0, 2.0):
        strategy = Constrained(clauses=(("ab", "xyz"), ("!q",)), length_penalty=penalty)
        for prompt_KD, said in zip(prompts, strategy.decode(tiny_llama, prompts, [9] * B), strict=True):
            log_prob = log_probs(tiny_llama, prompt_KD, [said.token_ids])[0]
            assert said.score == pytest.approx(log_prob / len(said.token_ids) ** penalty, rel=1e-4)


def test_a_text_is_the_same_alone_and_in_company(tiny_llama):
    strategy, limits = Constrained(clauses=(("ab", "ca"), ("bc",), ("!d",))), (3, 11, 5, 4, 17)
    prompts = [draw_prompt(tiny_llama, num_vectors, seed=num_vectors) for num_vectors in (3, 7, 1, 2, 5)]
    together = strategy.decode(tiny_llama, prompts, limits)
    for prompt_KD, limit, said in zip(prompts, limits, together, strict=True):
        (alone,) = strategy.decode(tiny_llama, [prompt_KD], [limit])
        assert alone.token_ids == said.token_ids and alone.score == pytest.approx(said.score, abs=1e-4)


@pytest.fixture(scope="module")
def letters_lm():
    """A random model of five tokens: the end of a text, a space, a, b and c."""
    vocabulary = {token: number for number, token in enumerate([END_OF_TEXT, "\u0120", "a", "b", "c"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    config = FAMILIES["llama"]()
    config.vocab_size = len(vocabulary)
    model = AutoModelForCausalLM.from_config(config)
    for weight in model.parameters():
        noise = torch.randn(weight.shape, generator=seeded(weight.numel())) * INITIALIZER_RANGE
        weight.data = noise + (1 if weight.dim() == 1 else 0)
    return FrozenLM(model, PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TEXT))


@torch.no_grad()
def log_probs(lm, prompt_KD, texts):
    """Summed log-probabilities in nats of token lists of one length, everything read again."""
    text_NT = torch.tensor(texts)
    read_NSD = torch.cat([prompt_KD.expand(len(texts), -1, -1), lm.embed(text_NT)], dim=1)
    logits_NSV = lm.model(inputs_embeds=read_NSD, use_cache=False).logits
    aligned_NTV = logits_NSV[:, len(prompt_KD) - 1 : len(prompt_KD) - 1 + text_NT.shape[1]].log_softmax(-1)
    return aligned_NTV.gather(2, text_NT[:, :, None]).sum((1, 2)).tolist()


@pytest.fixture(scope="module")
def every_text(letters_lm):
    """For each prompt all texts of at most SHORT tokens with their log-probabilities."""
    end, letters = letters_lm.token_rule.end_id, range(1, 5)
    shapes = [[[*ids, end] for ids in product(letters, repeat=length)] for length in range(SHORT)]
    shapes.append([list(ids) for ids in product(letters, repeat=SHORT)])
    return [
        [pair for texts in shapes for pair in zip(texts, log_probs(letters_lm, prompt_KD, texts), strict=True)]
        for prompt_KD in draw_prompts(letters_lm)
    ]


@pytest.mark.parametrize("partial_weight", [0.0, 0.1, 5.0])
@pytest.mark.parametrize(
    "clauses",
    [
        (("ab",),),
        (("ab",), ("ba",)),
        (("aa", "bb"), ("!c",)),
        (("!a", "b"), ("!b", "a"), ("!ab",)),
        (("c",), ("!a",), ("bb", "c c")),
        (("abca",),),
    ],
)
def test_with_room_for_all_it_finds_the_likeliest_text_of_which_the_formula_holds(
    clauses, partial_weight, letters_lm, every_text
):
    prompts = draw_prompts(letters_lm)
    strategy = Constrained(width=256, length_penalty=0.0, clauses=clauses, partial_weight=partial_weight)
    for said, texts in zip(strategy.decode(letters_lm, prompts, [SHORT] * B), every_text, strict=True):
        held = [(log_p, ids) for ids, log_p in texts if holds_of(clauses, decode(letters_lm.token_rule, ids))]
        best, ids = max(held)
        assert said.score == pytest.approx(best, abs=1e-4)
        assert said.token_ids == ids


def test_the_listed_texts_are_all_there_is(every_text):
    for texts in every_text:
        assert sum(torch.tensor([log_p for _, log_p in texts]).exp()).item() == pytest.approx(1.0, abs=1e-4)
        assert len(texts) == 1 + 4 + 16 + 64 + 256


def test_a_phrase_counts_behind_a_space_and_without_one():
    tokens = TokenRule.load(ModelSource())
    assert encode(tokens, " Paris") != encode(tokens, " ") + encode(tokens, "Paris"), "spaces begin tokens here"
    automaton = Constrained(clauses=(("Paris",),)).compile(tokens)
    for text, occurs in (("I saw Paris", True), ("Paris", True), ("I saw London", False), ("Par is", False)):
        state = automaton.start
        for token in encode(tokens, text):
            state = automaton.step(state, token)
        assert automaton.holds(state) is occurs


def test_clauses_without_meaning_are_refused(tiny_llama):
    for clauses in (((),), (("",),)):
        with pytest.raises(ValidationError):
            Constrained(clauses=clauses)
    with pytest.raises(DecodingError, match="constrained.clauses: '!' names no text"):
        Constrained(clauses=(("a",), ("!",))).decode(tiny_llama, draw_prompts(tiny_llama), [5] * B)
    few = replace(tiny_llama.token_rule, num_embeddings=50)
    with pytest.raises(DecodingError, match=r"constrained.clauses: 'a' needs token \d+, the model has 50 tokens"):
        Constrained(clauses=(("a",),)).compile(few)
    with pytest.raises(DecodingError, match="constrained.clauses: 15 distinct phrases"):
        Constrained(clauses=tuple((letter,) for letter in "abcdefghijklmno")).compile(tiny_llama.token_rule)
