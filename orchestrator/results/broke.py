"""Where a text that is not exact broke, in words.

Owns: the words. Must not know: tokenizers, who shows it.
"""

from collections.abc import Callable

from orchestrator.console.terminal import printable
from orchestrator.results.ledger import Row

Says = Callable[[list[int]], str]
"""The text of token ids, end-of-text left out."""


def where_it_broke(row: Row, says: Says | None = None, *, is_short: bool = False) -> str | None:
    """`21 of 34 tokens right, then ','`; None where no token was ever measured.

    Args:
        says: for what came instead; None leaves it out.
        is_short: for a table: `21 of 34, then ','`.
    """
    broke, target = row["first_mismatch"], row["token_ids"]
    if broke is None or target is None:
        return None
    right = f"{broke} of {len(target)}" + ("" if is_short else " tokens right")
    return right if says is None else right + _instead(row["generated_ids"], broke, says)


def _instead(said: list[int] | None, broke: int, says: Says) -> str:
    if said is None:
        return ""
    if broke >= len(said):
        return ", then cut off"
    instead = says([said[broke]])
    return f", then '{printable(instead)}'" if instead else ", then it ends"
