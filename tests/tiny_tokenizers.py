"""Small tokenizers of the kinds that models have, made in code.

Owns: one of each kind, with the steps around its vocabulary that lose or add something. Must not know: models.
"""

import string
from collections.abc import Iterable
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import (
    ByT5Tokenizer,
    GPTSw3Tokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from tests.tiny import byte_tokenizer

UNKNOWN, END, MARK = "<unk>", "</s>", "\u2581"
"""Unknown token, end-of-text token, SentencePiece's sign for a space."""


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """As transformers holds it."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, clean_up_tokenization_spaces=False
    )


def bytes_after(normalizer: normalizers.Normalizer) -> PreTrainedTokenizerFast:
    """One token a byte behind a rule that rewrites the text: NFC is Qwen's."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


def bytes_after_a_space() -> PreTrainedTokenizerFast:
    """One token a byte, and a space put before every text."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    return tokenizer


def bytes_with_a_token_more(token: str, *, special: bool = False) -> PreTrainedTokenizerFast:
    """One token a byte, and one that was added for a tool."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([token], special_tokens=special)
    return tokenizer


def pieces(*, rule: str) -> PreTrainedTokenizerFast:
    """Characters and two merges, with a byte for what is not among them.

    Args:
        rule: of the space before a text: `metaspace` (Llama in transformers 5), `prepend` (Llama's older file), `none`
            (Gemma).
    """
    names = [UNKNOWN, END, *(f"<0x{byte:02X}>" for byte in range(256)), *string.printable[:95].replace(" ", MARK)]
    names += [MARK + MARK, MARK + "a"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, [(MARK, MARK), (MARK, "a")], unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    steps: list = [decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()]
    if rule == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(MARK, prepend_scheme="first", split=False)
    else:
        first = [normalizers.Prepend(MARK)] if rule == "prepend" else []
        tokenizer.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", MARK)])
    if rule != "none":
        steps.append(decoders.Strip(" ", left=1))
    tokenizer.decoder = decoders.Sequence(steps)
    return wrapped(tokenizer)


def unigram(*known: str, splits_words: bool = False) -> PreTrainedTokenizerFast:
    """T5's kind: rewrites compatibility characters and repeated spaces, knows ASCII and what is named alone.

    Args:
        splits_words: as older files do, which loses every other white space too.
    """
    characters = [*string.printable[:95].replace(" ", MARK), "\n", "\t"]
    pieces = dict.fromkeys([UNKNOWN, END, *characters, *known])
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0 if piece == END else -10.0) for piece in pieces], unk_id=0))
    marking = pre_tokenizers.Metaspace(MARK, prepend_scheme="always")
    before = [pre_tokenizers.WhitespaceSplit()] if splits_words else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*before, marking])
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.decoder = decoders.Metaspace(MARK, prepend_scheme="always")
    return wrapped(tokenizer)


def words(*known: str, lower: bool = True) -> PreTrainedTokenizerFast:
    """BERT's kind: whole words, letters and continuing letters, cut at white space and punctuation."""
    letters = string.ascii_lowercase
    names = dict.fromkeys([UNKNOWN, END, *known, *letters, *(f"##{letter}" for letter in letters), *string.punctuation])
    tokenizer = Tokenizer(models.WordPiece({name: n for n, name in enumerate(names)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return wrapped(tokenizer)


def sentencepiece_model(folder: Path, texts: Iterable[str]) -> Path:
    """A SentencePiece BPE model with byte fallback that rewrites nothing."""
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_prefix=str(folder / "pieces"), model_type="bpe", vocab_size=900,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=0.98, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    return folder / "pieces.model"


def llama_of(model: Path) -> PreTrainedTokenizerBase:
    """transformers' own conversion of a SentencePiece model."""
    folder = model.parent / "llama"
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(model.read_bytes())
    return LlamaTokenizer.from_pretrained(folder)


def slow_of(model: Path) -> PreTrainedTokenizerBase:
    """A tokenizer in Python alone, which rewrites compatibility characters."""
    return GPTSw3Tokenizer(str(model))


def byte_ids() -> PreTrainedTokenizerBase:
    """A tokenizer in Python alone whose ids are bytes."""
    return ByT5Tokenizer(extra_ids=0)
