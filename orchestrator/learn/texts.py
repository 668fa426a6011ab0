"""What is learned from: a corpus's texts in pieces of the lengths that are asked for.

Owns: cutting texts, which are held out. Must not know: networks, training, files of a learning.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from engine.frozen_lm import TokenRule
from engine.target import Target, decode
from orchestrator.console.errors import UserError
from orchestrator.corpus import Corpus

MOST_PIECES = 50_000
"""Pieces that are kept; more than a training of an hour sees. Assumption."""

NUM_HELD_OUT = 64
"""Pieces that figures are measured on, at most."""

HELD_OUT_IN = 20
"""Where no corpus of their own is given, one piece in so many is held out."""

SHORTEST = 4
"""Fewest tokens of a piece, its end included."""


@dataclass(frozen=True)
class Texts:
    """Pieces to learn from, and those that are never learned from.

    Attributes:
        names: of the corpora they are from, the held out ones' last.
    """

    train: list[Target]
    held_out: list[Target]
    names: tuple[str, str]

    def digest(self) -> str:
        """Of what is learned from, 16 hex digits."""
        ids = json.dumps([target.token_ids for target in self.train])
        return hashlib.blake2b(ids.encode(), digest_size=8).hexdigest()


def read_texts(corpus: Corpus, held_out: Corpus | None, token_rule: TokenRule, longest: int) -> Texts:
    """Pieces of one corpus, and of another one or of its own to measure on.

    Args:
        longest: most tokens of a piece, its end included.
    Raises:
        UserError: there are too few.
    """
    pieces = list(islice(_pieces(corpus, token_rule, longest), MOST_PIECES))
    if held_out is None:
        is_out = [_draw(piece.id) % HELD_OUT_IN == 0 for piece in pieces]
        measured = [piece for piece, out in zip(pieces, is_out, strict=True) if out]
        pieces = [piece for piece, out in zip(pieces, is_out, strict=True) if not out]
    else:
        measured = list(islice(_pieces(held_out, token_rule, longest), MOST_PIECES))
    chosen = measured[:: max(1, len(measured) // NUM_HELD_OUT)][:NUM_HELD_OUT]
    if not pieces or not chosen:
        raise UserError(
            f"corpus {corpus.path}: {len(pieces)} pieces of {SHORTEST} to {longest} tokens to learn from and "
            f"{len(chosen)} to measure on; give more text, or --held-out a corpus of its own"
        )
    return Texts(pieces, chosen, (str(corpus.path), str((held_out or corpus).path)))


def _pieces(corpus: Corpus, token_rule: TokenRule, longest: int) -> Iterator[Target]:
    """Consecutive pieces of every text; their lengths vary, but are the same each time."""
    ends = token_rule.end_id is not None
    for row in corpus.rows():
        if not isinstance(row.text, str):
            continue
        ids, number = [token for token in token_rule.speller.plain(row.text) if token < token_rule.num_embeddings], 0
        while len(ids) + ends >= SHORTEST:
            name = f"{row.row}-{number}"
            size = min(len(ids), SHORTEST + _draw(f"length {name}") % (longest - SHORTEST + 1) - ends)
            piece, ids, number = ids[:size], ids[size:], number + 1
            if len(piece) + ends >= SHORTEST:
                closed = (*piece, token_rule.end_id) if token_rule.end_id is not None else tuple(piece)
                yield Target(name, decode(token_rule, list(piece)), closed, ends=ends)


def _draw(name: str) -> int:
    return zlib.crc32(name.encode())
