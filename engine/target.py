"""Texts as token ids: what can be a target, and why something cannot.

Owns: tokenisation of targets and the reasons for refusal. Must not know: optimisation, Parquet, Ray.
"""

from dataclasses import dataclass
from enum import StrEnum

from engine.frozen_lm import TokenRule


class Invalid(StrEnum):
    """Why a corpus row cannot be a target."""

    NULL_TEXT = "null_text"
    NULL_ID = "null_id"
    NOT_A_STRING = "not_a_string"
    EMPTY = "empty"
    NOT_UNICODE = "not_unicode"
    NOT_ROUND_TRIPPABLE = "not_round_trippable"
    TOO_LONG = "too_long"
    DUPLICATE_ID = "duplicate_id"


@dataclass(frozen=True)
class Target:
    """A text to reproduce.

    Attributes:
        id: unique in the corpus.
        text: what the tokens decode to, byte for byte.
        token_ids: T ids, the end-of-text token last where `ends`.
        ends: whether stopping is part of the target.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    ends: bool = True


def encode(tokens: TokenRule, text: str) -> list[int]:
    """Plain token ids: nothing added, and special tokens spelled out in a text stay spelled out."""
    return tokens.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def decode(tokens: TokenRule, token_ids: list[int]) -> str:
    """The text of token ids, end-of-text left out, nothing cleaned up."""
    kept = [token for token in token_ids if token != tokens.end_id]
    return str(tokens.tokenizer.decode(kept, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def make_target(
    tokens: TokenRule, id: str | None, text: object, *, end_of_text: bool = True, num_vectors: int = 1
) -> Target | Invalid:
    """A target, or the reason why this row cannot be one.

    Args:
        tokens: the model's tokenizer, context and end-of-text id.
        id: the row's id.
        text: the row's text, as the corpus file gave it.
        end_of_text: whether the end-of-text token is part of the target.
        num_vectors: soft-prompt vectors that must fit beside it in the context.
    Raises:
        ValueError: `end_of_text` asked of a tokenizer that has no such token.
    """
    if end_of_text and tokens.end_id is None:
        raise ValueError("end_of_text = true: this model's tokenizer has no end-of-text token; set end_of_text=false")
    if id is None:
        return Invalid.NULL_ID
    if text is None:
        return Invalid.NULL_TEXT
    if not isinstance(text, str):
        return Invalid.NOT_A_STRING
    if not text:
        return Invalid.EMPTY
    if len(text) > tokens.max_characters:
        return Invalid.TOO_LONG
    try:
        text.encode()
    except UnicodeEncodeError:
        return Invalid.NOT_UNICODE
    ids = encode(tokens, text)
    if tokens.end_id in ids or decode(tokens, ids) != text:
        return Invalid.NOT_ROUND_TRIPPABLE
    if end_of_text:
        ids = [*ids, tokens.end_id]
    if num_vectors + len(ids) > tokens.context:
        return Invalid.TOO_LONG
    return Target(id, text, tuple(ids), ends=end_of_text)
