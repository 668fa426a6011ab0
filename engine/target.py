"""Texts as token ids: what can be a target, and why something cannot.

Owns: which spelling of a text is taken, and the reasons for refusal. Must not know: how spellings are made,
optimisation, Parquet, Ray.
"""

from dataclasses import dataclass
from enum import StrEnum
from os.path import commonprefix

from engine.frozen_lm import TokenRule
from engine.spelling import Spelling


class Invalid(StrEnum):
    """Why a corpus row cannot be a target."""

    NULL_TEXT = "null_text"
    NULL_ID = "null_id"
    NOT_A_STRING = "not_a_string"
    EMPTY = "empty"
    NOT_UNICODE = "not_unicode"
    NOT_ROUND_TRIPPABLE = "not_round_trippable"
    TOO_LONG = "too_long"
    TOKEN_BEYOND_EMBEDDING = "token_beyond_embedding"


@dataclass(frozen=True)
class Refusal:
    """Why a text cannot be a target, and what of it is at fault, for people."""

    reason: Invalid
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True)
class Target:
    """A text to reproduce.

    Attributes:
        id: unique in the corpus.
        text: what the tokens decode to, byte for byte.
        token_ids: T ids, the end-of-text token last where `ends`.
        ends: whether stopping is part of the target.
        spelling: how the tokens were found.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    ends: bool = True
    spelling: Spelling = Spelling.PLAIN


def encode(token_rule: TokenRule, text: str) -> list[int]:
    """The tokenizer's own token ids: nothing added, and special tokens spelled out in a text stay spelled out."""
    return token_rule.speller.plain(text)


def decode(token_rule: TokenRule, token_ids: list[int]) -> str:
    """The text of token ids, end-of-text left out, nothing cleaned up."""
    return token_rule.speller.decode([token for token in token_ids if token != token_rule.end_id])


def make_target(
    token_rule: TokenRule, id: str | None, text: object, *, end_of_text: bool = True, num_vectors: int = 1
) -> Target | Refusal:
    """A target, or the reason why this row cannot be one.

    Args:
        token_rule: the model's tokenizer, context and end-of-text id.
        id: the row's id.
        text: the row's text, as the corpus file gave it.
        end_of_text: whether the end-of-text token is part of the target.
        num_vectors: soft-prompt vectors that must fit beside it in the context.
    Raises:
        ValueError: `end_of_text` asked of a tokenizer that has no such token.
    """
    if end_of_text and token_rule.end_id is None:
        raise ValueError("end_of_text = true: this model's tokenizer has no end-of-text token; set end_of_text=false")
    if id is None:
        return Refusal(Invalid.NULL_ID)
    if text is None:
        return Refusal(Invalid.NULL_TEXT)
    if not isinstance(text, str):
        return Refusal(Invalid.NOT_A_STRING)
    if not text:
        return Refusal(Invalid.EMPTY)
    if len(text) > token_rule.max_characters:
        return Refusal(Invalid.TOO_LONG)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Refusal(Invalid.NOT_UNICODE)
    spelt = spell(token_rule, text)
    if isinstance(spelt, Refusal):
        return spelt
    spelling, ids = spelt
    if end_of_text:
        ids = [*ids, token_rule.end_id]
    if num_vectors + len(ids) > token_rule.context:
        return Refusal(Invalid.TOO_LONG)
    return Target(id, text, tuple(ids), ends=end_of_text, spelling=spelling)


def spell(token_rule: TokenRule, text: str) -> tuple[Spelling, list[int]] | Refusal:
    """The first spelling whose tokens the model has, decode to exactly the text and do not end it.

    One that holds no special token at all is preferred, because a reader who skips special tokens would lose a part.
    """
    beyond: Refusal | None = None
    with_special: tuple[Spelling, list[int]] | None = None
    for spelling, ids in token_rule.speller.ways(text):
        if token_rule.end_id in ids or decode(token_rule, ids) != text:
            continue
        if max(ids) >= token_rule.num_embeddings:
            beyond = beyond or _beyond(token_rule, ids)
        elif token_rule.speller.special_ids.isdisjoint(ids):
            return spelling, ids
        else:
            with_special = with_special or (spelling, ids)
    return with_special or beyond or _not_round_trippable(token_rule, text)


def _beyond(token_rule: TokenRule, ids: list[int]) -> Refusal:
    missing = next(id for id in ids if id >= token_rule.num_embeddings)
    says, known = decode(token_rule, [missing]), token_rule.num_embeddings
    detail = f"it needs token {missing} ({says!r}), the model has {known} tokens"
    return Refusal(Invalid.TOKEN_BEYOND_EMBEDDING, detail)


SHOWN = 24
"""Characters shown of where a text and its tokens part."""


def _not_round_trippable(token_rule: TokenRule, text: str) -> Refusal:
    ids = encode(token_rule, text)
    said = decode(token_rule, ids)
    if said == text:
        return Refusal(Invalid.NOT_ROUND_TRIPPABLE, "its tokens hold the model's end-of-text token")
    at = len(commonprefix([said, text]))
    detail = f"its tokens say {said[at : at + SHOWN]!r} where the text says {text[at : at + SHOWN]!r}"
    return Refusal(Invalid.NOT_ROUND_TRIPPABLE, detail)
