"""Files of text: unpacked, decoded, cut into lines; and the format that has one text a line.

Owns: compression, encodings, the longest line. Must not know: what the lines say.

Files unpack as they are read, by what they begin with and not by their names: a `.gz` that something on the way has
unpacked already is read as well.
"""

import codecs
import io
import lzma
import re
from collections.abc import Iterator
from typing import Any, cast

import pyarrow as pa

from orchestrator.corpus.rows import Complaint, Pairs

MAX_LINE = 1 << 24
"""Most characters of a line, of a CSV row or of a JSON object: no model reads a text of that length."""

CHUNK = 1 << 16
"""Characters that are read at once where lines do not matter."""

PACKED = re.compile(rb"(?P<gzip>\x1f\x8b)|(?P<zstd>\x28\xb5\x2f\xfd)|(?P<xz>\xfd7zXZ\0)|(?P<bz2>BZh[1-9]1AY&SY)")
"""What packed files begin with; none of it but the last is text in any encoding that is read."""

REMEDY = "write it as UTF-8, as with: iconv -f WINDOWS-1252 -t UTF-8"


class TextRows:
    """One text a line; blank lines are separators, not texts."""

    def columns_and_rows(self, source: Any) -> tuple[list[str], int]:
        return ["text"], sum(1 for _ in _texts(source))

    def require_readable(self, source: Any, text: str | None, id: str | None) -> None:
        """The one column can always be read."""

    def pairs(self, source: Any, text: str | None, id: str | None) -> Iterator[Pairs]:
        for line in _texts(source):
            yield [(line if id else None, line if text else None)]


def opened(source: Any, newline: str | None = None) -> io.TextIOWrapper:
    """The text of a file, unpacked. Bytes that are not UTF-8 are lone surrogates in it, for `lines` and `chunks`.

    Args:
        newline: as `open` takes it.
    """
    file = io.BufferedReader(_unpacked(source))
    is_utf16 = file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    return io.TextIOWrapper(file, encoding=encoding, errors="surrogateescape", newline=newline)


def begins_with(file: io.TextIOWrapper) -> str:
    """What an opened file begins with, some thousand characters without leading blanks; nothing is read off it."""
    head = cast(io.BufferedReader, file.buffer).peek(1)
    return head.decode(file.encoding, "ignore").lstrip()


def lines(file: io.TextIOWrapper) -> Iterator[str]:
    """Lines with their ends, none of them longer than `MAX_LINE`.

    Raises:
        Complaint: a line that is too long or not UTF-8.
    """
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise Complaint(f"line {number} has more than {MAX_LINE} characters; split it")
        yield _sound(line, number)


def chunks(file: io.TextIOWrapper) -> Iterator[str]:
    """The text in pieces of any length.

    Raises:
        Complaint: it is not UTF-8.
    """
    number = 1
    while chunk := file.read(CHUNK):
        yield _sound(chunk, number)
        number += chunk.count("\n")


def _unpacked(source: Any) -> io.RawIOBase:
    packed = PACKED.match(source.read(16))
    source.seek(0)
    if packed is None:
        return source
    if packed.lastgroup == "xz":
        return cast(io.RawIOBase, lzma.open(source))
    return cast(io.RawIOBase, pa.CompressedInputStream(pa.PythonFile(source, "r"), packed.lastgroup))


def _sound(text: str, line: int) -> str:
    """The same text; refused where it has a byte that was not UTF-8."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line += text.count("\n", 0, error.start)
        raise Complaint(f"line {line} is not UTF-8 (byte {ord(text[error.start]) & 0xFF:#04x}); {REMEDY}") from None
    return text


def _texts(source: Any) -> Iterator[str]:
    with opened(source, newline="") as file:
        for line in lines(file):
            if text := line.rstrip("\r\n"):
                yield text
