"""Byte streams of text files: decompressed, without a byte order mark, lines ended by LF; other encodings refused."""

import bz2
import gzip
import io
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any, NamedTuple

HEAD_BYTES = 1 << 16  # bytes at the start of a file that decide its format
UTF8_MARK = b"\xef\xbb\xbf"
ENCODINGS = {b"\xff\xfe\0\0": "UTF-32", b"\0\0\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
FOREIGN = {
    b"PK\x03\x04": "a ZIP archive, as .zip, .docx and .xlsx are; unpack it, or export its text",
    b"%PDF": "a PDF; extract its text first, e.g. with pdftotext",
    b"ARROW1": "an Arrow or Feather file; give its save_to_disk folder, or convert it to Parquet",
    b"FEA1": "a Feather file; convert it to Parquet",
    b"\x04\x22\x4d\x18": "compressed by LZ4; convert it, e.g. to gzip",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a RAR archive; unpack it",
    b"\xd0\xcf\x11\xe0": "an old Office file, as .doc and .xls are; export its text",
    b"SQLite format 3": "an SQLite data base; export its text as CSV",
    b"\x89HDF": "an HDF5 file; convert it to Parquet",
    b"\x93NUMPY": "a NumPy array; export its text",
}
FOREIGN_SUFFIXES = (".lz4", ".feather", ".arrow", ".br", ".snappy", ".lzo", ".db", ".pkl", ".pickle", ".orc", ".avro")
DECOMPRESSORS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": gzip.open,
    **{b"BZh%d1AY&SY" % level: bz2.open for level in range(1, 10)},
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": lambda file: import_module("pyarrow").CompressedInputStream(file, "zstd"),
}
DECOMPRESS_COMMANDS = {".gz": "gzip -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc", ".zst": "zstd -dc"}
COMPRESSED_SUFFIXES = tuple(DECOMPRESS_COMMANDS)


class TextStream(NamedTuple):
    """Open text file.

    Args:
        file: its bytes.
        head: its first bytes, at most HEAD_BYTES, which are still to be read from the file.
    """

    file: IO[bytes]
    head: bytes


@contextmanager
def open_text(path: Path) -> Iterator[TextStream]:
    """Open a file of UTF-8 text, plain or compressed by gzip, bzip2, xz or Zstandard.

    Raises:
        ValueError: if it cannot be read, is damaged, has another encoding or is of another kind.
    """
    try:
        with io.BufferedReader(io.FileIO(path), HEAD_BYTES) as file:
            magic = file.peek(16)
            opener = next((each for start, each in DECOMPRESSORS.items() if magic.startswith(start)), None)
            yield decoded_stream(path, io.BufferedReader(opener(file), HEAD_BYTES) if opener else file)
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise ValueError(f"{path} is damaged or cut ({error}); copy it again") from None
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise ValueError(f"{path} is damaged or cut ({error}); copy it again") from None
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None


def decoded_stream(path: Path, file: "io.BufferedReader[Any]") -> TextStream:
    """Stream after the byte order mark, with CR line ends (of old Macs) as LF; refuses what is not UTF-8 text."""
    head = file.peek(HEAD_BYTES)[:HEAD_BYTES]
    if encoding := next((name for mark, name in ENCODINGS.items() if head.startswith(mark)), None):
        raise ValueError(f"{path} is {encoding} text; convert it: {iconv_command(encoding, path)}")
    if kind := next((kind for magic, kind in FOREIGN.items() if head.startswith(magic)), None):
        raise ValueError(f"{path} is {kind}")
    if path.suffix.lower() in FOREIGN_SUFFIXES and b"\0" in head:
        raise ValueError(f"{path} is not a text format; convert it to text, JSON lines or Parquet")
    if head[257:262] == b"ustar":
        raise ValueError(f"{path} is a tar archive; unpack it: tar xf {shlex.quote(str(path))}")
    if head.startswith(UTF8_MARK):
        head = head[len(file.read(len(UTF8_MARK))) :]
    if b"\r" in head[:-1] and b"\n" not in head:
        return TextStream(io.BufferedReader(ReturnsAsNewlines(file), HEAD_BYTES), head.replace(b"\r", b"\n"))
    return TextStream(file, head)


class ReturnsAsNewlines(io.RawIOBase):
    """Bytes of a file with LF in place of each CR."""

    def __init__(self, file: "io.BufferedReader[Any]") -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.file.read1(len(buffer)).replace(b"\r", b"\n")
        buffer[: len(data)] = data
        return len(data)


def iconv_command(encoding: str, path: Path) -> str:
    """Shell command that converts a file to UTF-8."""
    return filter_command(f"iconv -f {encoding} -t UTF-8", path, "utf8_")


def filter_command(command: str, path: Path, prefix: str) -> str:
    """Shell command that writes the text of a file, which may be compressed, as another command changes it."""
    file = shlex.quote(str(path))
    unpack = DECOMPRESS_COMMANDS.get(path.suffix.lower())
    source = f"{unpack} {file} | {command}" if unpack else f"{command} {file}"
    return f"{source} > {shlex.quote(filtered_name(path, prefix))}"


def filtered_name(path: Path, prefix: str) -> str:
    """Name of the file that `filter_command` writes: without the suffix of a compression."""
    return prefix + (path.stem if path.suffix.lower() in COMPRESSED_SUFFIXES else path.name)


def data_suffix(path: Path) -> str:
    """Suffix that names the format, in lower case: .jsonl of a.JSONL.gz."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
