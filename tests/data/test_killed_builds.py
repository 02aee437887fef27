"""A killed build keeps its complete shards; a damaged shard is tokenised again."""

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.conftest import Broken, Letters, Made, assert_equal_rows, fail_at
from textflow.data import SplitRules
from textflow.data.build import RowFormat, build
from textflow.data.stats import DataStats

FRACTIONS, PACKED = SplitRules(0.2, 0.1), RowFormat(16, True)
pytestmark = pytest.mark.usefixtures("small_shards")


def is_alive(pid: str) -> bool:
    """True if a process runs and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.integration
@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_killed_build_loses_at_most_a_shard(tmp_path: Path, num_proc: int) -> None:
    fork = multiprocessing.get_context("fork")
    started = fork.Event()

    def wait_at_120(i: int) -> None:
        if i == 120:
            started.set()
            time.sleep(60)

    arguments = (Letters(), PACKED, FRACTIONS, tmp_path / "rows", num_proc)
    process = fork.Process(target=build, args=(Made(empty=(3, 150), before=wait_at_120), *arguments))
    process.start()
    assert started.wait(60)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
    process.kill()
    process.join()
    assert len(workers) == (num_proc if num_proc > 1 else 0)
    deadline = time.monotonic() + 60
    while running := [pid for pid in workers if is_alive(pid)]:
        assert time.monotonic() < deadline, f"tokenising processes {running} outlive the build"
        time.sleep(0.05)
    assert [*(tmp_path / "rows.building").glob("shard-*")], "killed before a shard was saved"
    tokenizer = Letters()
    build(Made(empty=(3, 150)), tokenizer, PACKED, FRACTIONS, tmp_path / "rows", 1)
    build(Made(empty=(3, 150)), Letters(), PACKED, FRACTIONS, tmp_path / "uninterrupted", 1)
    assert DataStats.read(tmp_path / "rows" / "stats.json").skipped == {"empty": 2} and tokenizer.num_encoded < 198
    assert_equal_rows(tmp_path / "rows", tmp_path / "uninterrupted")
    assert not (tmp_path / "rows.building").exists()


def flip_in_directory(data: bytes, field: int, bits: int) -> bytes:
    """An archive with bits of a field flipped in its directory's first entry."""
    offset = data.index(b"PK\x01\x02") + field
    return data[:offset] + bytes([data[offset] ^ bits]) + data[offset + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[: len(data) // 2], "not a zip file"),
    "byte": (lambda data: data[: len(data) // 3] + b"\xff\xfe" + data[len(data) // 3 + 2 :], "checksum"),
    "method": (lambda data: flip_in_directory(data, 10, 64), "compression method is not supported"),
    "encrypted": (lambda data: flip_in_directory(data, 8, 1), "is encrypted"),
    "type": (lambda data: data.replace(b"'<u2'", b"'|u1'", 1), "checksum"),  # half of the bytes are read
}


@pytest.mark.integration
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named_and_tokenised_again(tmp_path: Path, damage: str) -> None:
    with pytest.raises(Broken):
        build(Made(before=fail_at(150, Broken())), Letters(), PACKED, FRACTIONS, tmp_path / "rows", 1)
    shard = tmp_path / "rows.building" / "shard-000001.npz"
    change, message = DAMAGE[damage]
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.warns(UserWarning, match=f"shard-000001.npz is damaged .*{message}.* tokenised again from there"):
        build(Made(), Letters(), PACKED, FRACTIONS, tmp_path / "rows", 1)
    build(Made(), Letters(), PACKED, FRACTIONS, tmp_path / "uninterrupted", 1)
    assert_equal_rows(tmp_path / "rows", tmp_path / "uninterrupted")
