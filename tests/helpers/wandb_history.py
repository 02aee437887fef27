"""Reader of offline W&B files: LevelDB log blocks of 32 KiB after a header of 7 bytes."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK = 32768
HEADER = 7  # bytes of a record's header: checksum (4), length (2), kind (1: complete, 2 to 4: first to last part)


def records(file: Path) -> Iterator[Any]:
    """The records as W&B's protobuf messages, joined from their parts."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # a run's finish() returns before W&B's process has written the file; this waits for its end
    data, offset, payload = file.read_bytes(), HEADER, b""
    while offset + HEADER <= len(data):
        if BLOCK - offset % BLOCK < HEADER:  # too short for a header: padding
            offset += BLOCK - offset % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[offset + 4 : offset + HEADER])
        payload += data[offset + HEADER : offset + HEADER + length]
        offset += HEADER + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(payload)
            yield record
            payload = b""


def runs(file: Path) -> Iterator[Any]:
    """Records of the run: its group, job and name."""
    return (record.run for record in records(file) if record.HasField("run"))


def history(file: Path) -> Iterator[dict[str, str]]:
    """JSON values by name, one dictionary per logged step."""
    for record in records(file):
        if record.history.item:
            yield {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
