"""Ways of spelling: on every kind of tokenizer what is taken says the text, and what has a way is taken."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import normalizers
from tokenizers.decoders import DecodeStream

from engine.frozen_lm import TokenRule
from engine.spelling import Spelling
from engine.target import Invalid, Refusal, Target, decode, make_target
from tests.tiny import END_OF_TEXT, byte_tokenizer
from tests.tiny_tokenizers import (
    MARK,
    byte_ids,
    bytes_after,
    bytes_after_a_space,
    bytes_with_a_token_more,
    llama_of,
    pieces,
    sentencepiece_model,
    slow_of,
    unigram,
    words,
)

CORPORA = Path(__file__).parents[2] / "corpora"
TEXTS = [
    row["text"]
    for corpus in ("short_and_odd", "udhr_languages")
    for row in pq.read_table(CORPORA / f"{corpus}.parquet").to_pylist()
]
ENGLISH = [text for text in TEXTS if text.isascii()]
REWRITTEN = ["cafe\u0301", "Vie\u0323\u0302t", "\u1112\u1161\u11ab", "5 \u212b", "\u0958\u0932\u092e", "\uf900"]
"""What NFC makes other characters of."""
SPACES = [" ", "  Ada", " Ada", "Ada ", "a  b", "\nAda\n", "\tA", "a\r\nb"]
SIGNS = [f"a{MARK}b", f"{MARK}a", "a</s>b", "<unk>", "<0x0A>", f"say {END_OF_TEXT} aloud", "a\0b"]

KINDS = {
    "bytes": byte_tokenizer,
    "nfc": lambda: bytes_after(normalizers.NFC()),
    "nfkc": lambda: bytes_after(normalizers.NFKC()),
    "lower": lambda: bytes_after(normalizers.Lowercase()),
    "space first": bytes_after_a_space,
    "llama": lambda: pieces(rule="metaspace"),
    "llama, older file": lambda: pieces(rule="prepend"),
    "gemma": lambda: pieces(rule="none"),
    "t5": lambda: unigram("\ufb01", MARK + "the"),
    "t5, older file": lambda: unigram(splits_words=True),
    "words": lambda: words("hello", "world"),
    "byte ids": byte_ids,
}
COMPLETE = [kind for kind in KINDS if kind not in ("t5", "t5, older file", "words")]
"""Tokenizers with a token for every byte: they have a path to every text."""


def rule_of(tokenizer) -> TokenRule:
    return TokenRule(tokenizer, context=10_000, end_id=tokenizer.eos_token_id, num_embeddings=len(tokenizer))


@pytest.fixture(scope="module")
def rules():
    return {kind: rule_of(make()) for kind, make in KINDS.items()}


@pytest.fixture(scope="module")
def sentencepiece(tmp_path_factory):
    """A SentencePiece model's file."""
    return sentencepiece_model(tmp_path_factory.mktemp("pieces"), TEXTS)


def spelt(tokens, text) -> Spelling:
    """How a text was spelt, once its tokens have been read back."""
    target = make_target(tokens, "a", text)
    assert isinstance(target, Target), (text, str(target))
    says(tokens, target, text)
    return target.spelling


def says(tokens, target, text):
    """What anybody gets who decodes the tokens, whether special tokens are skipped or the end alone is cut."""
    ids = list(target.token_ids)
    assert ids[-1] == tokens.end_id and tokens.end_id not in ids[:-1] and max(ids) < tokens.num_embeddings
    assert decode(tokens, ids) == text
    assert tokens.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
    if backend := getattr(tokens.tokenizer, "backend_tokenizer", None):
        stream = DecodeStream(ids=[], skip_special_tokens=True)  # how vLLM prints
        assert "".join(stream.step(backend, id) or "" for id in ids) == text


@pytest.mark.parametrize("kind", COMPLETE)
def test_where_every_byte_has_a_token_every_text_has_a_spelling(kind, rules):
    for text in [*TEXTS, *REWRITTEN, *SPACES, *SIGNS]:
        spelt(rules[kind], text)


def test_a_text_that_the_tokenizer_says_itself_is_spelt_plainly(rules):
    assert {spelt(rules["bytes"], text) for text in [*TEXTS, *REWRITTEN, *SPACES, *SIGNS]} == {Spelling.PLAIN}
    plain = [text for text in ENGLISH if not text.startswith(" ")]
    for kind in ("nfc", "llama", "llama, older file", "gemma"):
        assert {spelt(rules[kind], text) for text in plain} == {Spelling.PLAIN}, kind


@pytest.mark.parametrize(
    ("kind", "text", "spelling"),
    [
        *[("nfc", text, Spelling.AS_WRITTEN) for text in REWRITTEN],
        ("nfkc", "\ufb01ne", Spelling.AS_WRITTEN),
        ("lower", "Ada", Spelling.AS_WRITTEN),
        ("space first", "Ada", Spelling.NO_PREFIX),
        ("space first", " Ada", Spelling.PLAIN),
        ("llama", " Ada", Spelling.EXTRA_SPACE),
        ("llama", "  Ada", Spelling.EXTRA_SPACE),
        ("llama", " ", Spelling.EXTRA_SPACE),
        ("llama", f"a{MARK}b", Spelling.BYTES),
        ("llama", f" {MARK}b", Spelling.BYTES),
        ("llama, older file", " Ada", Spelling.PLAIN),
        ("gemma", f"{MARK}b", Spelling.BYTES),
        ("t5", "a  b", Spelling.AS_WRITTEN),
        ("t5", "\ufb01ne ligature", Spelling.AS_WRITTEN),
        ("t5", "  two leading spaces", Spelling.EXTRA_SPACE),
        ("t5", "a</s>b", Spelling.CHARACTERS),
        ("t5, older file", "trailing space ", Spelling.AS_WRITTEN),
        ("words", "hello world, ada", Spelling.PLAIN),
    ],
)
def test_the_first_spelling_that_says_the_text_is_taken(kind, text, spelling, rules):
    assert spelt(rules[kind], text) is spelling


def test_a_sentencepiece_model_is_spelt_as_transformers_converts_it_and_in_python_alone(sentencepiece):
    fast, slow = rule_of(llama_of(sentencepiece)), rule_of(slow_of(sentencepiece))
    assert hasattr(fast.tokenizer, "backend_tokenizer") and not hasattr(slow.tokenizer, "backend_tokenizer")
    for tokens in (fast, slow):
        spellings = Counter(spelt(tokens, text) for text in [*TEXTS, *REWRITTEN, f"a{MARK}b"])
        assert spellings[Spelling.PLAIN] > 100 and spellings[Spelling.BYTES] >= 1
    assert {spelt(slow, text) for text in REWRITTEN[2:]} == {Spelling.BYTES}


@pytest.mark.parametrize(
    ("kind", "text", "detail"),
    [
        ("words", "Hello world", "its tokens say 'hello world' where the text says 'Hello world'"),
        ("words", "hello  world", "its tokens say 'world' where the text says ' world'"),
        ("t5", "\u0e01", "its tokens say '<unk>' where the text says '\u0e01'"),
    ],
)
def test_a_text_without_a_path_is_refused_with_what_its_tokens_say(kind, text, detail, rules):
    assert make_target(rules[kind], "a", text) == Refusal(Invalid.NOT_ROUND_TRIPPABLE, detail)


def test_a_token_added_without_a_row_is_spelt_in_ordinary_ones():
    tokenizer = bytes_with_a_token_more("<tool_call>")
    text = "call <tool_call> now"
    with_row = make_target(rule_of(tokenizer), "a", text)
    without = make_target(TokenRule(tokenizer, 64, tokenizer.eos_token_id, num_embeddings=257), "a", text)
    assert isinstance(with_row, Target) and with_row.spelling is Spelling.PLAIN and 257 in with_row.token_ids
    assert isinstance(without, Target) and without.spelling is Spelling.AS_WRITTEN and max(without.token_ids) < 257
    assert len(without.token_ids) == len(text) + 1


def test_a_token_beyond_the_embedding_that_nothing_else_can_say_is_named():
    tokenizer = byte_tokenizer()
    byte = tokenizer.convert_tokens_to_ids("!")
    tokens = TokenRule(tokenizer, 64, tokenizer.eos_token_id, num_embeddings=byte)
    refusal = make_target(tokens, "a", "Ada!")
    assert isinstance(refusal, Refusal) and refusal.reason is Invalid.TOKEN_BEYOND_EMBEDDING
    assert "the model has" in refusal.detail and f"token {tokenizer.convert_tokens_to_ids('A')} ('A')" in refusal.detail


def test_the_tokenizer_itself_is_left_as_it_was(rules):
    for kind in ("space first", "llama", "t5"):
        backend = rules[kind].tokenizer.backend_tokenizer
        before = backend.to_str()
        list(rules[kind].speller.ways(f" Caf\u00e9{MARK}"))
        assert backend.to_str() == before


def test_a_text_that_is_spelt_plainly_costs_one_encoding_and_one_decoding(monkeypatch, rules):
    tokens, calls = rules["llama"], Counter()
    tokenizer = type(tokens.tokenizer)
    for name in ("__call__", "decode"):
        real = getattr(tokenizer, name)
        counted = lambda self, *a, real=real, name=name, **k: (calls.update([name]), real(self, *a, **k))[1]  # noqa: E731
        monkeypatch.setattr(tokenizer, name, counted)
    for text in ("Ada!", "a cat"):
        make_target(tokens, "a", text)
    assert calls == {"__call__": 2, "decode": 2}


LETTERS = st.text(
    st.one_of(
        st.sampled_from(f" \n\t{MARK}aAeb.<>/s\u0301\u212b\ufb01\u1112\u1161"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
    max_size=12,
)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LETTERS)
def test_whatever_is_accepted_decodes_to_the_text(kind, text, rules):
    target = make_target(rules[kind], "a", text)
    if isinstance(target, Target):
        says(rules[kind], target, text)
    else:
        assert kind not in COMPLETE and target.reason is Invalid.NOT_ROUND_TRIPPABLE
