"""Records of JSON lines and of JSON arrays."""

import codecs
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO

from textflow.data.byte_stream import HEAD_BYTES, iconv_command
from textflow.data.lines import TextEntry

SEPARATORS = ", \t\r\n"  # between the items of a JSON array


def parse_json(line: TextEntry) -> TextEntry:
    """Record of a JSON line: an object or a string."""
    if line.error:
        return line._replace(is_line=False)
    try:
        value = json.loads(line.value)
    except (ValueError, RecursionError) as error:
        return TextEntry(line.origin, None, f"not JSON ({error}); JSON lines hold one object a line")
    return record_entry(line.origin, value)


def record_entry(origin: str, value: object) -> TextEntry:
    """TextEntry of a JSON value, which must be an object or a string."""
    if isinstance(value, str | dict):
        return TextEntry(origin, value)
    return TextEntry(origin, None, f'a {type(value).__name__}, an object such as {{"text": ...}} is needed')


def read_array(file: IO[bytes], path: Path, max_bytes: int) -> Iterator[TextEntry]:
    """Iterate over the items of a JSON array; one item and a block of the file are held in memory at a time."""
    decoder, blocks = json.JSONDecoder(), decoded_blocks(file, path)
    text = next(blocks)
    number, start = 1, text.index("[") + 1
    while True:
        while text[start : start + 1] in SEPARATORS and start < len(text):
            start += 1
        if text.startswith("]", start):
            if text[start + 1 :].strip() or any(block.strip() for block in blocks):
                yield TextEntry(f"{path}:item {number}", None, "text follows the array; a file holds one array")
            return
        try:
            value, start = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:  # cut at the end of the block, or not JSON
            too_long = len(text) - start > max_bytes
            more = "" if too_long else "".join(islice(blocks, max(len(text) // HEAD_BYTES, 1)))
            if not more:
                reason = f"longer than {max_bytes:,} bytes" if too_long else f"not JSON ({error})"
                yield TextEntry(f"{path}:item {number}", None, f"{reason}; the rest of the file is not read")
                return
            text, start = text[start:] + more, 0
            continue
        yield record_entry(f"{path}:item {number}", value)
        number += 1


def decoded_blocks(file: IO[bytes], path: Path) -> Iterator[str]:
    """Iterate over a file as blocks of text."""
    try:
        yield from codecs.iterdecode(iter(lambda: file.read(HEAD_BYTES), b""), "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; if it is Latin-1: {iconv_command('LATIN1', path)}") from None
