"""Texts as a caller gives them, as a corpus.

Owns: which Python objects are texts, their ids. Must not know: tokens, models.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.corpus import Corpus, CorpusRow
from verbatim.errors import VerbatimError


@dataclass(frozen=True)
class Given(Corpus):
    """A corpus in memory; rows without an id are numbered as those of a file are."""

    texts: tuple[object, ...]
    ids: tuple[str | None, ...] | None

    def rows(self) -> Iterator[CorpusRow]:
        for row, text in enumerate(self.texts):
            yield CorpusRow(row, f"row-{row}" if self.ids is None else self.ids[row], text)


def given(texts: Any, ids: Iterable[Any] | None = None) -> Given:
    """A string, any iterable of strings, or a mapping from ids to texts.

    A pandas Series gives its values. What is not a string is refused row by row, as in a corpus' file.

    Raises:
        VerbatimError: not an iterable, or another number of ids.
    """
    if isinstance(texts, str):
        texts = [texts]
    if isinstance(texts, Mapping):
        if ids is not None:
            raise VerbatimError("ids: the texts are a mapping and name their ids; give one of both")
        texts, ids = list(texts.values()), list(texts)
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, bytearray)):
        raise VerbatimError(f"texts = {_shown(texts)}: must be a string, an iterable of strings, or a dict of them")
    rows = tuple(_plain(text) for text in texts)
    names = None if ids is None else tuple(None if id is None else str(id) for id in ids)
    if names is not None and len(names) != len(rows):
        raise VerbatimError(f"ids: {len(names)} for {len(rows)} texts; give one for each")
    return Given(Path("texts"), "text", None if names is None else "id", len(rows), "", (), "doubled", rows, names)


def _plain(text: object) -> object:
    """A pyarrow scalar as what it holds; pandas' missing values as None."""
    text = text.as_py() if hasattr(text, "as_py") else text  # type: ignore[attr-defined]
    return None if text != text else text


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 40 else f"{shown[:37]}..."
