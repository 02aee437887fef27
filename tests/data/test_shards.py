"""An interrupted build resumes after its last saved shard, at any document of any source."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.conftest import Broken, Letters, Made, assert_equal_rows
from textflow.data import Document, HubDataset, HubPairs, SplitRules, shards
from textflow.data.build import RowFormat, build
from textflow.data.sources import hub as hub_module
from textflow.data.sources import pairs as pairs_module

FRACTIONS, PACKED, PAIRS = SplitRules(0.2, 0.1), RowFormat(16, True), RowFormat(16, False, 4)
PARTS = {"train-0": (0, 50), "train-1": (50, 100), "train-2": (100, 150), "validation": (150, 180), "test": (180, 200)}
Patch = pytest.MonkeyPatch
pytestmark = pytest.mark.usefixtures("small_shards")


def write_parquet(path: Path, **columns: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=10)


@pytest.fixture
def hub(tmp_path: Path) -> HubDataset:
    """A streamed data set of three shards."""
    texts = [document.text for document in Made().documents()]
    for i in range(3):
        write_parquet(tmp_path / "set" / f"train-{i}.parquet", text=texts[i * 67 : (i + 1) * 67])
    return HubDataset(str(tmp_path / "set"), streaming=True)


@pytest.fixture
def pairs(tmp_path: Path) -> HubPairs:
    """A streamed data set of 150 pairs to train on in three shards, and 30 and 20 held out."""
    texts = [document.text for document in Made().documents()]
    for name, (start, end) in PARTS.items():
        sources = [text[::-1] for text in texts[start:end]]
        write_parquet(tmp_path / "pairs" / f"{name}.parquet", source=sources, target=texts[start:end])
    return HubPairs(str(tmp_path / "pairs"), "source", "target", streaming=True)


def record_origins(monkeypatch: Patch, end: int | None = None, error: Exception | None = None) -> list[str]:
    """The origins of all documents read from now on; the error is raised after the first `end` of them."""
    origins: list[str] = []
    read_rows, read_pair = hub_module.documents_from_rows, pairs_module.document_from_pair

    def record(origin: str) -> None:
        if len(origins) == end and error:
            raise error
        origins.append(origin.rpartition("/")[2])

    def rows(*arguments: Any) -> Any:
        for document in read_rows(*arguments):
            record(document.origin)
            yield document

    def pair(*arguments: Any) -> Document:
        record(arguments[-1])
        return read_pair(*arguments)

    monkeypatch.setattr(hub_module, "documents_from_rows", rows)
    monkeypatch.setattr(pairs_module, "document_from_pair", pair)
    return origins


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "end", "streaming"),
    [
        *(("hub", 1, True), ("hub", 50, False), ("hub", 103, True), ("hub", 134, False), ("hub", 199, True)),
        *(("pairs", 1, False), ("pairs", 50, True), ("pairs", 103, False), ("pairs", 150, True)),
        *(("pairs", 165, True), ("pairs", 165, False), ("pairs", 180, True), ("pairs", 199, True)),
    ],
)
def test_a_build_resumes_in_the_middle_of_a_data_set(
    name: str, end: int, streaming: bool, tmp_path: Path, monkeypatch: Patch, request: pytest.FixtureRequest
) -> None:
    source = replace(request.getfixturevalue(name), streaming=streaming)
    row_format, tokenizer = (PAIRS if name == "pairs" else PACKED), Letters()
    with monkeypatch.context() as patch:
        origins = record_origins(patch)
        build(source, Letters(), row_format, FRACTIONS, tmp_path / "uninterrupted", 1)
    with monkeypatch.context() as patch, pytest.raises(Broken):
        record_origins(patch, end, Broken())
        build(source, Letters(), row_format, FRACTIONS, tmp_path / "rows", 1)
    assert not (tmp_path / "rows").exists()
    saved = sum(len(shards.read_shard(path).documents) for path in (tmp_path / "rows.building").glob("shard-*"))
    with monkeypatch.context() as patch:
        resumed_origins = record_origins(patch)
        build(source, tokenizer, row_format, FRACTIONS, tmp_path / "rows", 1)
    assert len(origins) == 200 and resumed_origins == origins[saved:] and end - 75 <= saved <= end
    assert tokenizer.num_encoded == (200 - saved) * (2 if name == "pairs" else 1)
    assert_equal_rows(tmp_path / "rows", tmp_path / "uninterrupted")
    assert not (tmp_path / "rows.building").exists()


@pytest.mark.integration
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("name", ["hub", "pairs"])
def test_reading_resumes_at_any_document(name: str, streaming: bool, request: pytest.FixtureRequest) -> None:
    source = replace(request.getfixturevalue(name), streaming=streaming)
    documents, reading = list(source.documents()), source.resume()
    assert len(documents) == 200
    for position in range(201):
        state = json.loads(json.dumps(reading.state_dict()))
        if position in (0, 1, 49, 50, 66, 67, 133, 149, 150, 151, 180, 199, 200):  # around the ends of parts and shards
            assert list(source.resume(state)) == documents[position:], position
        assert next(reading, None) == (documents[position] if position < 200 else None)


@pytest.mark.integration
def test_pairs_resume_from_the_state_of_an_older_build(pairs: HubPairs) -> None:
    documents = list(pairs.documents())
    assert [document.split for document in documents[149:182:30]] == [None, "validation"]
    assert list(pairs.resume({"num_read": 163, "source_state": None})) == documents[163:]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "end", "message"), [("hub", 90, "broke off after row 90"), ("pairs", 155, "split validation, .* row 5")]
)
def test_a_lost_connection_names_the_last_row_and_the_remedy(
    name: str, end: int, message: str, tmp_path: Path, monkeypatch: Patch, request: pytest.FixtureRequest
) -> None:
    record_origins(monkeypatch, end, ConnectionError("the connection is lost"))
    row_format = PAIRS if name == "pairs" else PACKED
    with pytest.raises(ValueError, match=message + r" \(the connection is lost\); run the same command again"):
        build(request.getfixturevalue(name), Letters(), row_format, FRACTIONS, tmp_path / "rows", 1)
