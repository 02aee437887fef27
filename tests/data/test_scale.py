"""Much text: caching goes on where it broke off, whatever the ranks; few bytes a batch; damage is named."""

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from textflow.data import DataModule, Document, HubDataset, HubPairs, SplitFractions, shards, tokenize
from textflow.data.build import SPLITS, RowFormat, build
from textflow.data.stats import DataStats

SPLIT, SHAPE = SplitFractions(0.2, 0.1), RowFormat(16, True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few documents, shards of a few chunks."""
    monkeypatch.setattr(tokenize, "MAX_CHARACTERS", 300)
    monkeypatch.setattr(shards, "MAX_CHARACTERS", 900)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Any) -> HubDataset:
    """A set of three shards, streamed."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    texts = [document.text for document in made().documents()]
    (tmp_path / "set").mkdir()
    for shard in range(3):
        table = pa.table({"text": texts[shard * 67 : (shard + 1) * 67]})
        pq.write_table(table, tmp_path / "set" / f"train-{shard}.parquet", row_group_size=10)
    return HubDataset(str(tmp_path / "set"), streaming=True)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Any) -> HubPairs:
    """A set of pairs, 150 of them in three shards to train on, 30 and 20 held out."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    texts = [document.text for document in made().documents()]
    (tmp_path / "pairs").mkdir()
    cuts = {
        "train-0": (0, 50),
        "train-1": (50, 100),
        "train-2": (100, 150),
        "validation": (150, 180),
        "test": (180, 200),
    }
    for name, (start, end) in cuts.items():
        table = pa.table({"source": [text[::-1] for text in texts[start:end]], "target": texts[start:end]})
        pq.write_table(table, tmp_path / "pairs" / f"{name}.parquet", row_group_size=10)
    return HubPairs(str(tmp_path / "pairs"), "source", "target", streaming=True)


class Broken(Exception):
    """The net is gone."""


def counting(letters: Any) -> Any:
    """A tokenizer that counts the texts that it encodes."""

    class Counting(type(letters)):  # type: ignore[misc]
        encoded = 0

        def encode(self, texts: list[str]) -> list[list[int]]:
            Counting.encoded += len(texts)
            return super().encode(texts)

    return Counting()


def same(a: Path, b: Path) -> None:
    for part in SPLITS:
        assert (a / f"{part}.arrow").read_bytes() == (b / f"{part}.arrow").read_bytes(), part
    assert DataStats.read(a / "stats.json") == DataStats.read(b / "stats.json")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("at", [1, 50, 103, 134, 199])
def test_caching_a_hub_set_goes_on_in_the_middle_of_a_shard(
    hub: HubDataset, letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, streaming: bool
) -> None:
    hub = HubDataset(hub.name, streaming=streaming)
    build(hub, letters, SHAPE, SPLIT, tmp_path / "whole", 1)
    numbered = "textflow.data.sources.hub.documents_from_rows"
    from textflow.data.sources.hub import documents_from_rows as pair

    def breaks(*args: Any) -> Iterator[Document]:
        for document in pair(*args):
            if document.origin.endswith(f"row {at + 1}"):
                raise Broken
            yield document

    with monkeypatch.context() as patch:
        patch.setattr(numbered, breaks)
        with pytest.raises(Broken):
            build(hub, letters, SHAPE, SPLIT, tmp_path / "rows", 1)
    assert not (tmp_path / "rows").exists()
    tokenizer = counting(letters)
    build(hub, tokenizer, SHAPE, SPLIT, tmp_path / "rows", 1)
    same(tmp_path / "rows", tmp_path / "whole")
    assert at - 75 <= 200 - tokenizer.encoded <= at and not (tmp_path / "rows.building").exists()


def test_a_stream_that_breaks_off_names_the_row_and_the_way_on(
    hub: HubDataset, monkeypatch: pytest.MonkeyPatch, letters: Any, tmp_path: Path
) -> None:
    from textflow.data.sources.hub import documents_from_rows as pair

    def breaks(*args: Any) -> Iterator[Document]:
        yield from islice(pair(*args), 90)
        raise ConnectionError("the net is gone")

    monkeypatch.setattr("textflow.data.sources.hub.documents_from_rows", breaks)
    with pytest.raises(ValueError, match=r"broke off after row 90 \(the net is gone\); run the same command again"):
        build(hub, letters, SHAPE, SPLIT, tmp_path / "rows", 1)


def following(monkeypatch: pytest.MonkeyPatch, end: int | None = None, error: Exception | None = None) -> list[str]:
    """Where the pairs that are read from now on stand; reading breaks off after so many."""
    from textflow.data.sources.pairs import document_from_pair

    read: list[str] = []

    def noted(record: Any, given: str, text: str, origin: str) -> Document:
        if len(read) == end and error:
            raise error
        read.append(origin.rpartition("/")[2])
        return document_from_pair(record, given, text, origin)

    monkeypatch.setattr("textflow.data.sources.pairs.document_from_pair", noted)
    return read


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("at", [1, 50, 103, 150, 165, 180, 199])
def test_caching_pairs_goes_on_without_reading_those_before(
    pairs: HubPairs, letters: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, streaming: bool
) -> None:
    pairs, shape = replace(pairs, streaming=streaming), RowFormat(16, False, 4)
    with monkeypatch.context() as patch:
        pair = following(patch)
        build(pairs, letters, shape, SPLIT, tmp_path / "whole", 1)
    with monkeypatch.context() as patch, pytest.raises(Broken):
        following(patch, at, Broken())
        build(pairs, letters, shape, SPLIT, tmp_path / "rows", 1)
    kept = sum(len(shards.read_shard(path).documents) for path in (tmp_path / "rows.building").glob("shard-*"))
    with monkeypatch.context() as patch:
        again = following(patch)
        build(pairs, letters, shape, SPLIT, tmp_path / "rows", 1)
    assert len(pair) == 200 and again == pair[kept:] and at - 40 <= kept <= at
    same(tmp_path / "rows", tmp_path / "whole")


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", ["hub", "pairs"])
def test_a_set_is_read_on_from_every_place(name: str, streaming: bool, request: pytest.FixtureRequest) -> None:
    source = replace(request.getfixturevalue(name), streaming=streaming)
    pair, reading = list(source.documents()), source.resume()
    assert len(pair) == 200
    for done in range(201):
        place = json.loads(json.dumps(reading.state_dict()))
        if done % 10 in (0, 9):
            assert list(source.resume(place)) == pair[done:], done
        assert next(reading, None) == (pair[done] if done < 200 else None)


def test_pairs_go_on_after_a_build_that_kept_their_number_alone(pairs: HubPairs) -> None:
    pair = list(pairs.documents())
    assert [document.split for document in pair[149:182:30]] == [None, "validation"]
    assert list(pairs.resume({"num_read": 163, "source_state": None})) == pair[163:]


def test_a_stream_of_pairs_that_breaks_off_names_the_row_and_the_way_on(
    pairs: HubPairs, monkeypatch: pytest.MonkeyPatch, letters: Any, tmp_path: Path
) -> None:
    following(monkeypatch, 155, ConnectionError("the net is gone"))
    said = r"split validation, broke off after row 5 \(the net is gone\); run the same command again"
    with pytest.raises(ValueError, match=said):
        build(pairs, letters, RowFormat(16, False, 4), SPLIT, tmp_path / "rows", 1)


def alive(pid: str) -> bool:
    """Whether a process runs: it is there, and more than its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.integration
@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_build_loses_at_most_a_shard(made: Any, letters: Any, tmp_path: Path, processes: int) -> None:
    fork = multiprocessing.get_context("fork")
    half = fork.Event()

    class Slow(made):  # type: ignore[misc]
        def documents(self) -> Iterator[Document]:
            for i, document in enumerate(super().documents()):
                if i == 120:
                    half.set()
                    time.sleep(60)
                yield document._replace(text="" if i in (3, 150) else document.text)

    class Holes(made):  # type: ignore[misc]
        def documents(self) -> Iterator[Document]:
            for i, document in enumerate(super().documents()):
                yield document._replace(text="" if i in (3, 150) else document.text)

    process = fork.Process(target=build, args=(Slow(), letters, SHAPE, SPLIT, tmp_path / "rows", processes))
    process.start()
    assert half.wait(60)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.join()
    assert len(workers) == (processes if processes > 1 else 0)
    deadline = time.monotonic() + 60
    while left := [pid for pid in workers if alive(pid)]:
        assert time.monotonic() < deadline, f"tokenising processes {left} outlive what they work for"
        time.sleep(0.05)
    kept = sorted(path.name for path in (tmp_path / "rows.building").glob("shard-*"))
    assert kept, "killed before a shard was kept"
    tokenizer = counting(letters)
    build(Holes(), tokenizer, SHAPE, SPLIT, tmp_path / "rows", 1)
    build(Holes(), letters, SHAPE, SPLIT, tmp_path / "whole", 1)
    assert DataStats.read(tmp_path / "rows" / "stats.json").skipped == {"empty": 2} and tokenizer.encoded < 198
    same(tmp_path / "rows", tmp_path / "whole")


def central(data: bytes, field: int, bits: int) -> bytes:
    """An archive with bits of a field flipped in its directory's first entry."""
    spot = data.index(b"PK\x01\x02") + field
    return data[:spot] + bytes([data[spot] ^ bits]) + data[spot + 1 :]


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut": (lambda data: data[: len(data) // 2], "not a zip file"),
    "byte": (lambda data: data[: len(data) // 3] + b"\xff\xfe" + data[len(data) // 3 + 2 :], "checksum"),
    "method": (lambda data: central(data, 10, 64), "compression method is not supported"),
    "encrypted": (lambda data: central(data, 8, 1), "is encrypted"),
    "type": (lambda data: data.replace(b"'<u2'", b"'|u1'", 1), "checksum"),  # half of the bytes are read
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_named_and_tokenised_again(made: Any, letters: Any, tmp_path: Path, damage: str) -> None:
    class Breaks(made):  # type: ignore[misc]
        def documents(self) -> Iterator[Document]:
            yield from list(super().documents())[:150]
            raise Broken

    with pytest.raises(Broken):
        build(Breaks(), letters, SHAPE, SPLIT, tmp_path / "rows", 1)
    kept = sorted((tmp_path / "rows.building").glob("shard-*"))
    harm, words = DAMAGE[damage]
    kept[1].write_bytes(harm(kept[1].read_bytes()))
    with pytest.warns(UserWarning, match=f"shard-000001.npz is damaged .*{words}.* tokenised again from there"):
        build(made(), letters, SHAPE, SPLIT, tmp_path / "rows", 1)
    build(made(), letters, SHAPE, SPLIT, tmp_path / "whole", 1)
    same(tmp_path / "rows", tmp_path / "whole")


# --- what the rows become


def place(module: DataModule, rank: int, world: int) -> DataModule:
    """A module as a rank sees it."""
    progress = SimpleNamespace(total=SimpleNamespace(processed=0))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    place = {"global_rank": rank, "world_size": world, "accumulate_grad_batches": 1}
    module.trainer = SimpleNamespace(**place, fit_loop=loop)  # type: ignore[assignment]
    return module


def taken(module: DataModule, batches: int) -> list[list[int]]:
    return list(chain(*(batch.ids.tolist() for batch in islice(module.train_dataloader(), batches))))


@pytest.mark.integration
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("world", [2, 3, 5])
def test_a_run_goes_on_with_the_same_rows_on_another_number_of_ranks(data: Any, world: int, workers: int) -> None:
    state = {"rows_consumed": 44}
    ranks = [place(data(num_workers=workers), rank, world) for rank in range(world)]
    for module in ranks:
        module.load_state_dict(state)
    rows = [taken(module, 3) for module in ranks]
    assert {len(mine) for mine in rows} == {12}
    pair = taken(data(), (44 + 12 * world) // 4 + 1)[44 : 44 + 12 * world]
    assert sorted(chain(*rows)) == sorted(pair)


@pytest.mark.integration
def test_a_batch_travels_as_ids_and_lengths_and_its_mask_is_made_on_the_device(data: Any) -> None:
    module = data(seq_length=64, batch_size=8, pack=False)
    packed = next(iter(module.train_dataloader()))
    assert sum(part.nbytes for part in packed if part is not None) == 8 * 64 * 2 + 8 * 4
    batch = module.on_after_batch_transfer(type(packed)(*(None if p is None else p.to("meta") for p in packed)), 0)
    assert batch.mask.is_meta and batch.mask.shape == (8, 64) and batch.ids.is_meta and batch.ids.dtype == torch.int64


@pytest.mark.integration
@pytest.mark.parametrize("spot", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_changed_byte_of_the_rows_is_named_or_changes_nothing(data: Any, spot: float) -> None:
    module = data()
    pair, path = taken(module, 60), module.rows_folder / "train.arrow"
    rows = bytearray(path.read_bytes())
    rows[int(spot * len(rows))] ^= 1
    path.write_bytes(rows)
    try:
        module.setup()
        found = taken(module, 60)
    except ValueError as error:
        assert "train.arrow is damaged" in str(error) and f"remove the folder {module.rows_folder}" in str(error)
    else:
        assert found == pair


@pytest.mark.integration
def test_a_torn_file_of_rows_and_a_torn_report_are_named(data: Any) -> None:
    module = data()
    for name in ("train.arrow", "stats.json"):
        path = module.rows_folder / name
        pair = path.read_bytes()
        path.write_bytes(pair[: len(pair) // 2])
        with pytest.raises(ValueError, match=f"{name} is damaged .*remove the folder .* builds it again"):
            module.setup()
        path.write_bytes(pair)
