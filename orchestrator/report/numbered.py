"""Tokens by how often a page shows them: a frequent one takes a digit where its id takes five.

Owns: the numbering, the tokens' texts. Must not know: rows, figures.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from engine.frozen_lm import TokenRule
from engine.model_source import ModelError, ModelSource

HOLDING_TOKENS = ("target", "said", "rivals", "near")
"""Columns of token ids: lists, or lists of lists, or null."""


def number_tokens(columns: dict[str, Any], source: ModelSource) -> dict[str, Any]:
    """Put numbers in the place of token ids; what the page needs to take them back.

    Args:
        columns: changed in place.
        source: whose tokenizer gives the texts; without it tokens go by their ids.
    Returns:
        ids: by number, most frequent first; texts: likewise, null where nothing is known.
    """
    present = [name for name in HOLDING_TOKENS if name in columns]
    ids = [id for id, _ in Counter(id for name in present for id in _leaves(columns[name])).most_common()]
    numbers = {id: number for number, id in enumerate(ids)}
    for name in present:
        columns[name] = _renamed(columns[name], numbers)
    return {"ids": ids, "texts": _texts(ids, source)}


def _leaves(value: Any) -> Iterator[int]:
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value


def _renamed(value: Any, numbers: dict[int, int]) -> Any:
    if isinstance(value, list):
        return [_renamed(each, numbers) for each in value]
    return None if value is None else numbers[value]


def _texts(ids: list[int], source: ModelSource) -> list[str | None] | None:
    """The end-of-text token's is empty; None where the tokenizer cannot be had."""
    try:
        token_rule = TokenRule.load(source)
    except (ModelError, OSError):
        return None

    def text(id: int) -> str | None:
        if not 0 <= id < token_rule.num_embeddings:
            return None
        return "" if id == token_rule.end_id else token_rule.speller.decode([id])

    return [text(id) for id in ids]
