"""Inputs of a corpus: files, their division into shards, and the documents in them.

In a text file a document ends at a blank line, or at each line end; in a `.jsonl` file each line is a JSON object with
the text under one key. Both may be compressed with gzip or Zstandard. Shards are cut at document boundaries; a
compressed file is never cut.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO

from training.corpus.indexed import CorpusError

SUFFIXES = (".txt", ".jsonl", ".txt.gz", ".jsonl.gz", ".txt.zst", ".jsonl.zst")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
READ = 1 << 20
MAX_LINE = 1 << 26
MAX_DOCUMENT = 1 << 22
"""Characters; a longer document is cut into several, so that a file without blank lines does not exhaust memory."""

FAULTS = {
    "not_utf8": "lines that are not UTF-8",
    "not_json": "lines that are not JSON objects",
    "no_text": "JSON objects without a text under the key",
    "broken_compression": "files whose compressed data are incomplete or damaged",
    "long_line": "lines of more than 64 MiB",
}


@dataclass
class Faults:
    """Counts of what was left out, and the first five places, by kind (`FAULTS`)."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, place: str) -> None:
        self.merge(Faults({kind: 1}, {kind: [place]}))

    def merge(self, other: Faults) -> None:
        for kind, count in other.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count
            self.places[kind] = [*self.places.get(kind, []), *other.places[kind]][:5]


@dataclass(frozen=True)
class Piece:
    """The bytes from `start` to `stop` of a file; the whole file if it is compressed."""

    path: Path
    start: int
    stop: int


def find_inputs(inputs: Iterable[Path]) -> list[Path]:
    """Files in the order given; a folder is replaced by the text files below it, sorted by path.

    Raises CorpusError for a name that is absent or has an unknown suffix, and for a folder without text files.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = sorted(each for each in path.rglob("*") if each.is_file() and each.name.endswith(SUFFIXES))
            if not found:
                raise CorpusError(f"{path} contains no text file; known suffixes are {', '.join(SUFFIXES)}.")
            files += found
        elif not path.is_file():
            raise CorpusError(f"{path} does not exist; give text files or folders of them.")
        elif not path.name.endswith(SUFFIXES):
            raise CorpusError(f"{path} has an unknown suffix; known suffixes are {', '.join(SUFFIXES)}.")
        else:
            files.append(path)
    return files


def divide(files: Sequence[Path], by_line: bool, shard_bytes: int) -> list[list[Piece]]:
    """Shards of about `shard_bytes` on disk: large files are cut, small files share a shard. The order is kept."""
    shards: list[list[Piece]] = []
    room = 0
    for piece in chain.from_iterable(_cut(path, by_line, shard_bytes) for path in files):
        if room <= 0:
            shards.append([])
            room = shard_bytes
        shards[-1].append(piece)
        room -= piece.stop - piece.start
    return shards


def _cut(path: Path, by_line: bool, shard_bytes: int) -> Iterator[Piece]:
    size = path.stat().st_size
    start = 0
    if path.name.endswith((".txt", ".jsonl")):
        boundary = re.compile(rb"\n" if by_line or path.suffix == ".jsonl" else rb"\n[ \t\r\f\v]*\n")
        with path.open("rb") as file:
            while start + shard_bytes < size:
                stop = _after(file, boundary, start + shard_bytes, size)
                yield Piece(path, start, stop)
                start = stop
    if start < size:
        yield Piece(path, start, size)


def _after(file: IO[bytes], boundary: re.Pattern[bytes], position: int, size: int) -> int:
    """The byte after the first boundary that follows `position`; `size` if no boundary follows."""
    file.seek(position)
    carry = b""
    while block := file.read(READ):
        if found := boundary.search(carry + block):
            return position - len(carry) + found.end()
        carry = (carry + block)[-1024:]
        position = file.tell()
    return size


class Reader:
    """Reads the documents of pieces, and counts what it reads and what it leaves out."""

    def __init__(self, by_line: bool, key: str) -> None:
        self.by_line, self.key = by_line, key
        self.faults = Faults()
        self.text_bytes = 0
        self.cut_documents = 0

    def documents(self, piece: Piece) -> Iterator[str]:
        """Texts of the documents, their lines joined by line feeds; none is blank."""
        lines = self._lines(piece)
        if ".jsonl" in piece.path.suffixes[-2:]:
            texts = self._json_texts(lines, piece.path)
        elif self.by_line:
            texts = (line for _, line in lines)
        else:
            texts = self._paragraphs(line for _, line in lines)
        for text in texts:
            if text := text.strip():
                yield from self._bounded(text)

    def _bounded(self, text: str) -> Iterator[str]:
        if len(text) > MAX_DOCUMENT:
            self.cut_documents += 1
        for start in range(0, len(text), MAX_DOCUMENT):
            yield text[start : start + MAX_DOCUMENT]

    def _paragraphs(self, lines: Iterable[str]) -> Iterator[str]:
        document: list[str] = []
        length = 0
        for line in lines:
            if stripped := line.strip():
                document.append(stripped)
                length += len(stripped)
            if document and (not stripped or length > MAX_DOCUMENT):
                self.cut_documents += bool(stripped)
                yield "\n".join(document)
                document, length = [], 0
        if document:
            yield "\n".join(document)

    def _json_texts(self, lines: Iterable[tuple[int, str]], path: Path) -> Iterator[str]:
        for offset, line in lines:
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                self.faults.add("not_json", f"{path}: byte {offset}")
                continue
            text = value.get(self.key)
            if not isinstance(text, str):
                self.faults.add("no_text", f"{path}: byte {offset}")
            elif not _is_unicode(text):
                self.faults.add("not_utf8", f"{path}: byte {offset}")
            else:
                yield "\n".join(part for line in text.split("\n") if (part := line.strip()))

    def _lines(self, piece: Piece) -> Iterator[tuple[int, str]]:
        """Lines without line feed, each with its byte offset in the (decompressed) file."""
        for offset, block in self._blocks(piece):
            try:
                text = block.decode("utf-8")
            except UnicodeDecodeError:
                yield from self._lines_one_by_one(offset, block, piece.path)
                continue
            for line in text.split("\n"):
                yield offset, line
                offset += len(line.encode("utf-8")) + 1

    def _lines_one_by_one(self, offset: int, block: bytes, path: Path) -> Iterator[tuple[int, str]]:
        for raw in block.split(b"\n"):
            try:
                yield offset, raw.decode("utf-8")
            except UnicodeDecodeError:
                self.faults.add("not_utf8", f"{path}: byte {offset}")
            offset += len(raw) + 1

    def _blocks(self, piece: Piece) -> Iterator[tuple[int, bytes]]:
        """Blocks of about a megabyte of whole lines, without the last line feed, each with its byte offset."""
        carry, offset, skipping = b"", piece.start, False
        try:
            for block in _read(piece):
                self.text_bytes += len(block)
                carry += block
                if skipping:
                    end = carry.find(b"\n") + 1
                    offset += end or len(carry)
                    carry, skipping = (carry[end:], False) if end else (b"", True)
                end = carry.rfind(b"\n") + 1
                if end:
                    yield offset, carry[: end - 1].removeprefix(b"" if offset else BYTE_ORDER_MARK)
                    carry, offset = carry[end:], offset + end
                elif len(carry) > MAX_LINE:
                    self.faults.add("long_line", f"{piece.path}: byte {offset}")
                    carry, offset, skipping = b"", offset + len(carry), True
        except _DAMAGED as error:
            # The line in which the damage begins may be wrong.
            self.faults.add("broken_compression", f"{piece.path}: {error}")
            return
        if carry:
            yield offset, carry.removeprefix(b"" if offset else BYTE_ORDER_MARK)


class _BrokenOff(Exception):
    """Compressed data that are incomplete or damaged."""


_DAMAGED = (_BrokenOff, EOFError, zlib.error, gzip.BadGzipFile)


def _read(piece: Piece) -> Iterator[bytes]:
    if piece.path.suffix == ".gz":
        with gzip.open(piece.path, "rb") as stream:
            while block := stream.read(READ):
                yield block
    elif piece.path.suffix == ".zst":
        yield from _read_zst(piece.path)
    else:
        with piece.path.open("rb") as file:
            file.seek(piece.start)
            left = piece.stop - piece.start
            while left and (block := file.read(min(READ, left))):
                yield block
                left -= len(block)


def _read_zst(path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise CorpusError(f"{path} needs the package zstandard; install it with `pip install zstandard`.") from error
    with path.open("rb") as file:
        frame = None
        while data := file.read(READ >> 4):
            while data:
                if frame is None or frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                try:
                    yield frame.decompress(data)
                except zstandard.ZstdError as error:
                    raise _BrokenOff(str(error)) from error
                data = frame.unused_data if frame.eof else b""
        if frame is not None and not frame.eof:
            raise _BrokenOff("the compressed data are incomplete")


def _is_unicode(text: str) -> bool:
    """Whether the text can be encoded as UTF-8: JSON may contain lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
