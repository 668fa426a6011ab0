"""Corpora: rows of (id, text) from the files that people have."""

from orchestrator.corpus.formats import short_name
from orchestrator.corpus.opened import Corpus, CorpusRow, Reading, open_corpus

__all__ = ["Corpus", "CorpusRow", "Reading", "open_corpus", "short_name"]
