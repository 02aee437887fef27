"""Lines of plain text, of bounded length, and the entries that every format of a text file is read into."""

import shlex
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, Any, NamedTuple

from textflow.data.byte_stream import HEAD_BYTES, filter_command, filtered_name, iconv_command

LIMIT_HINT = "raise --data.source.max_document_bytes (JsonlPairs: max_line_bytes), for --data.files F after "
LIMIT_HINT += "--data.source TextFiles --data.source.paths F"


class TextEntry(NamedTuple):
    """Line or record of a file.

    Args:
        origin: file and position, e.g. mine.txt:12.
        value: text of a line; object, by field, or text of a record.
        error: reason why it cannot be read; None if it can.
        is_line: True for a line of plain text.
    """

    origin: str
    value: Any
    error: str | None = None
    is_line: bool = False


def text_of(entry: TextEntry) -> str:
    """Text of a line or record: the line, a JSON string, or the field `text`.

    Raises:
        ValueError: if it has none.
    """
    text = entry.value.get("text") if isinstance(entry.value, dict) else entry.value
    if entry.error or not isinstance(text, str):
        raise ValueError(f"{entry.origin}: {entry.error or 'no text; a record needs one in its field `text`'}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"{entry.origin}: the text has no UTF-8 form ({error.reason})") from None
    return text


def read_lines(file: IO[bytes], path: Path, max_bytes: int, advice: str) -> Iterator[TextEntry]:
    """Iterate over the lines of plain text, without line ends; `advice` helps with one longer than `max_bytes`."""
    for number in count(1):
        if not (raw := file.readline(max_bytes + 2)):
            return
        origin = f"{path}:{number}"
        if len(raw.rstrip(b"\r\n")) <= max_bytes:
            yield decode_line(raw, origin, path)
            continue
        yield TextEntry(origin, "", f"the line is longer than {max_bytes:,} bytes; {advice}", is_line=True)
        while raw and not raw.endswith(b"\n"):
            raw = file.readline(HEAD_BYTES)


def decode_line(raw: bytes, origin: str, path: Path) -> TextEntry:
    """Line of plain text; the error names the position of the first invalid byte."""
    if b"\0" in raw:
        reason = f"a NUL byte, so a binary file; if it is UTF-16 text: {iconv_command('UTF-16', path)}"
        return TextEntry(origin, "", reason, is_line=True)
    try:
        return TextEntry(origin, raw.decode("utf-8").rstrip("\r\n"), is_line=True)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 (byte {error.start + 1} of the line is 0x{raw[error.start]:02x}); if it is Latin-1: "
        return TextEntry(origin, "", reason + iconv_command("LATIN1", path), is_line=True)


def fold_advice(path: Path) -> str:
    """Advice for a line of plain text that is too long."""
    folded = shlex.quote(filtered_name(path, "folded_"))
    return (
        f"break it into lines at spaces: {filter_command('fold -s -w 10000', path, 'folded_')}, and read a line as a "
        f"document: --data.source TextFiles --data.source.paths {folded} --data.source.separator line"
    )
