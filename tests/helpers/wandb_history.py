"""Reads the history out of an offline W&B file: LevelDB log blocks of 32 KiB after a header of 7 bytes."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = (
    32768,
    7,
)  # a record's header: checksum (4 bytes), length (2), kind (1: whole, 2 to 4: first to last part)


def records(file: Path) -> Iterator[bytes]:
    """The records, put together from their parts."""
    data, at, held = file.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too short for a header: padding
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + HEADER])
        held += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):
            yield held
            held = b""


def parsed(file: Path) -> Iterator[Any]:
    """The records as W&B names them."""
    from wandb.proto import wandb_internal_pb2

    for data in records(file):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        yield record


def runs(file: Path) -> Iterator[Any]:
    """What is said of the run: its group, job, name."""
    return (record.run for record in parsed(file) if record.HasField("run"))


def history(file: Path) -> Iterator[dict[str, str]]:
    """JSON values by name, one dictionary a logged step."""
    for record in parsed(file):
        if record.history.item:
            yield {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
