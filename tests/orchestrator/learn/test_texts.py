"""What is learned from: pieces of texts, the same each time, and some that are never learned from."""

import pytest

from engine.target import decode
from orchestrator.console.errors import UserError
from orchestrator.corpus import open_corpus
from orchestrator.learn.texts import NUM_HELD_OUT, SHORTEST, read_texts

TEXT = "The keeper of the lighthouse wrote down the weather every evening, even when nobody asked him for it."
LONGEST = 11


@pytest.fixture
def corpus(tmp_path, write_jsonl):
    rows = [{"text": f"{n} times. {TEXT} {TEXT}"} for n in range(40)] + [{"text": None}, {"text": ""}, {"text": "a"}]
    return open_corpus(write_jsonl(tmp_path / "corpus.jsonl", rows))


def test_pieces_are_of_the_lengths_asked_for_end_and_say_their_text(corpus, tokens):
    texts = read_texts(corpus, None, tokens, LONGEST)
    lengths = {len(target.token_ids) for target in texts.train}
    assert lengths == set(range(SHORTEST, LONGEST + 1))
    for target in texts.train:
        assert target.ends and target.token_ids[-1] == tokens.end_id and tokens.end_id not in target.token_ids[:-1]
        assert decode(tokens, list(target.token_ids)) == target.text


def test_the_pieces_of_a_text_follow_each_other(corpus, tokens):
    texts = read_texts(corpus, None, tokens, LONGEST)
    by_name = {target.id: target.text for target in texts.train + texts.held_out}
    first = [by_name[name] for number in range(30) if (name := f"0-{number}") in by_name]
    assert f"0 times. {TEXT} {TEXT}".startswith("".join(first)[:60])


def test_a_part_is_held_out_and_never_learned_from_and_always_the_same(corpus, tokens):
    texts, again = (read_texts(corpus, None, tokens, LONGEST) for _ in range(2))
    assert 0 < len(texts.held_out) <= NUM_HELD_OUT
    assert not {t.id for t in texts.held_out} & {t.id for t in texts.train}
    assert texts == again and texts.digest() == again.digest()


def test_a_corpus_of_its_own_is_measured_on(corpus, tokens, tmp_path, write_jsonl):
    other = open_corpus(write_jsonl(tmp_path / "other.jsonl", [{"text": "It was not what it seemed to be."}]))
    texts = read_texts(corpus, other, tokens, 64)
    assert "".join(t.text for t in texts.held_out) == "It was not what it seemed to be."
    assert len(texts.train) > len(read_texts(corpus, None, tokens, 64).train)
    assert texts.names[1].endswith("other.jsonl")


def test_too_little_text_is_told(tmp_path, tokens, write_jsonl):
    corpus = open_corpus(write_jsonl(tmp_path / "corpus.jsonl", [{"text": "a"}]))
    with pytest.raises(UserError, match="0 pieces of 4 to 11 tokens to learn from and 0 to measure on; give more text"):
        read_texts(corpus, None, tokens, LONGEST)
