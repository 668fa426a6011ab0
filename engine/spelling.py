"""Ways of spelling a text in a tokenizer's tokens.

Owns: the order in which ways are tried, the inverse by which a text is read back. Must not know: targets, models, which
tokens a model has.

A tokenizer may rewrite a text before it cuts it (NFC, lower case), put a space in front, or read a character of the
text as its own marker. Then its tokens say another text, and other tokens may say this one.
"""

import copy
import json
from collections.abc import Iterator
from enum import StrEnum
from functools import cached_property
from itertools import groupby
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerBase

ANCHORS = "a0."
"""Characters beside which another one is tried: what a decoder strips off a text's beginning is not stripped there."""


class Spelling(StrEnum):
    """How a text was spelt; the first that says it is taken."""

    PLAIN = "plain"  # the tokenizer as it is
    AS_WRITTEN = "as_written"  # nothing rewritten, and tokens added to the vocabulary spelt in ordinary ones
    NO_PREFIX = "no_prefix"  # and no space put in front
    EXTRA_SPACE = "extra_space"  # and a space in front, which decoding takes away
    BYTES = "bytes"  # and characters byte by byte where their own tokens say something else
    CHARACTERS = "characters"  # and every character on its own


class Speller:
    """A tokenizer and its variants, each made when a text first needs it.

    Args:
        tokenizer: of any kind; one without a `tokenizers` backend has fewer variants.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self._backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
        self._sound: dict[str, bool] = {}

    def plain(self, text: str) -> list[int]:
        """The tokenizer's own ids: nothing added, and special tokens spelt out in a text stay spelt out."""
        return self._tokenizer(text, add_special_tokens=False, **self._options)["input_ids"]

    def decode(self, token_ids: list[int]) -> str:
        """The text of token ids, nothing left out and nothing cleaned up."""
        return str(self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def ways(self, text: str) -> Iterator[tuple[Spelling, list[int]]]:
        """Token ids that may say a text, the tokenizer's own first; whoever asks reads them back."""
        yield Spelling.PLAIN, self.plain(text)
        space = self._cut(" ")
        if self._backend is not None:
            yield Spelling.AS_WRITTEN, self._ids(self._prefixing, text)
            yield Spelling.NO_PREFIX, self._cut(text)
            yield Spelling.EXTRA_SPACE, space + self._cut(text)
        for spelling, by_character in ((Spelling.BYTES, False), (Spelling.CHARACTERS, True)):
            ids = self._pieces(text, by_character)
            if ids is not None:
                yield spelling, ids
                yield spelling, space + ids

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """Tokens that `skip_special_tokens=True` leaves out of a decoded text."""
        return frozenset(self._tokenizer.all_special_ids)

    @cached_property
    def _options(self) -> dict[str, Any]:
        try:
            self._tokenizer("", add_special_tokens=False, split_special_tokens=True)
        except ValueError:  # mistral-common's: it reads no special token out of a text and takes no such option
            return {}
        return {"split_special_tokens": True}

    @cached_property
    def _prefixing(self) -> Tokenizer:
        assert self._backend is not None
        return _as_written(self._backend, prefix=True)

    @cached_property
    def _bare(self) -> Tokenizer:
        assert self._backend is not None
        return _as_written(self._backend, prefix=False)

    def _ids(self, tokenizer: Tokenizer, text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    def _cut(self, text: str) -> list[int]:
        """As written, without a prefix; by vocabulary alone where the tokenizer has no backend to vary."""
        if self._backend is not None:
            return self._ids(self._bare, text)
        return [id for character in text for id in self._in_vocabulary(character)]

    def _pieces(self, text: str, by_character: bool) -> list[int] | None:
        """Runs of sound characters cut as one, or each on its own; the others in bytes. None if a byte has no token."""
        ids: list[int] = []
        for is_sound, characters in groupby(text, self._is_sound):
            run = "".join(characters)
            for part in run if by_character or not is_sound else [run]:
                piece = self._cut(part) if is_sound else self._bytes(part)
                if piece is None:
                    return None
                ids += piece
        return ids

    def _is_sound(self, character: str) -> bool:
        """Whether a character's own tokens say it."""
        if character not in self._sound:
            anchor, ids = self._anchor, self._cut(character)
            self._sound[character] = bool(ids) and self.decode(anchor + ids) == self.decode(anchor) + character
        return self._sound[character]

    @cached_property
    def _anchor(self) -> list[int]:
        return next((ids for anchor in ANCHORS if self.decode(ids := self._cut(anchor)) == anchor), [])

    def _bytes(self, character: str) -> list[int] | None:
        ids = [self._vocabulary.get(f"<0x{byte:02X}>") for byte in character.encode()]
        return None if None in ids else [id for id in ids if id is not None]

    def _in_vocabulary(self, character: str) -> list[int]:
        names = (character, "\u2581") if character == " " else (character,)  # SentencePiece's sign for a space
        return [self._vocabulary[name] for name in names if name in self._vocabulary][:1]

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return self._tokenizer.get_vocab()


def _as_written(backend: Tokenizer, *, prefix: bool) -> Tokenizer:
    """The same model, its vocabulary shared, behind steps that lose nothing of a text; it knows no added tokens."""
    tokenizer = Tokenizer(backend.model)
    kept = [step for step in _steps(backend.normalizer, normalizers.Sequence) if _is_reversible(step, prefix)]
    if kept:
        tokenizer.normalizer = normalizers.Sequence(kept)
    cuts = _lossless(_steps(backend.pre_tokenizer, pre_tokenizers.Sequence))
    if cuts:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut if prefix else _without_prefix(cut) for cut in cuts])
    return tokenizer


def _steps(part: Any, sequence: type) -> list[Any]:
    if part is None:
        return []
    return [step for each in part for step in _steps(each, sequence)] if isinstance(part, sequence) else [part]


def _state(step: Any) -> dict[str, Any]:
    return json.loads(step.__getstate__())


def _is_reversible(step: Any, prefix: bool) -> bool:
    """Steps of a normaliser that decoding takes back: the space's own sign, bytes as characters, and the prefix."""
    state = _state(step)
    if state["type"] == "Replace":
        return state["pattern"] == {"String": " "}
    return state["type"] == "ByteLevel" or (prefix and state["type"] == "Prepend")


MARKING = ("ByteLevel", "Metaspace")
"""Steps that keep every space as a sign of its own."""
LOSSY = ("BertPreTokenizer", "CharDelimiterSplit", "Whitespace", "WhitespaceSplit")


def _lossless(steps: list[Any]) -> list[Any]:
    """Without the steps that drop spaces, where another one keeps them."""
    if not any(_state(step)["type"] in MARKING for step in steps):
        return steps
    return [step for step in steps if _state(step)["type"] not in LOSSY and not _drops_matches(_state(step))]


def _drops_matches(state: dict[str, Any]) -> bool:
    """Split and Punctuation can; an inverted Split keeps what matches, which is the whole text as a rule."""
    return state.get("behavior") == "Removed" and not state.get("invert")


def _without_prefix(step: Any) -> Any:
    step = copy.deepcopy(step)  # the setters would change the tokenizer it came from
    if isinstance(step, pre_tokenizers.ByteLevel):
        step.add_prefix_space = False
    if isinstance(step, pre_tokenizers.Metaspace):
        step.prepend_scheme = "never"
    return step
