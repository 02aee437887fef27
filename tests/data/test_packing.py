"""Packing keeps every token in order, for any number of processes."""

import json
import os

import pytest

from tests.data.conftest import fail_at
from tests.helpers.user_errors import refused
from textflow.data import SplitRules, packing, tokenize
from textflow.data.build import build, rows_key
from textflow.data.packing import RowFormat
from textflow.data.row_file import RowFile
from textflow.data.splits import FRACTION_SPLITS
from textflow.data.stats import DataStats

SPLIT = SplitRules(0.2, 0.1)


def flat(folder, part):
    file = RowFile(folder / f"{part}.arrow")
    return file[range(len(file))].ids.reshape(-1).tolist() if len(file) else []


def expected(source, tokenizer, part):
    texts = list(SPLIT.texts(source, part))
    return [i for ids in tokenizer.encode(texts) for i in [*ids, tokenizer.eos]]


@pytest.mark.parametrize("flush_ids", [1, 50, 1 << 18])
def test_rows_concatenate_back_to_the_documents(made, letters, tmp_path, monkeypatch, flush_ids):
    monkeypatch.setattr(packing, "FLUSH_IDS", flush_ids)
    report = build(made(), letters, RowFormat(16, True), SPLIT, tmp_path / "rows", 1)
    for part in FRACTION_SPLITS:
        ids, rows = expected(made(), letters, part), flat(tmp_path / "rows", part)
        assert rows == ids[: len(ids) // 16 * 16] and len(rows) > 0
        assert report.tokens[part] == len(ids) and report.dropped_tokens[part] == len(ids) % 16
    assert report.documents.total() == 200


@pytest.mark.integration
def test_the_number_of_processes_does_not_change_rows(made, letters, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize, "MAX_CHARACTERS", 300)  # many chunks
    for processes in (1, 2, 3):
        build(made(), letters, RowFormat(16, True), SPLIT, tmp_path / str(processes), processes)
    for part in FRACTION_SPLITS:
        one, two, three = ((tmp_path / name / f"{part}.arrow").read_bytes() for name in "123")
        assert one == two == three


@pytest.mark.parametrize("flush_ids", [1, 1 << 18])
def test_without_packing_a_row_is_a_document(made, letters, tmp_path, monkeypatch, flush_ids):
    monkeypatch.setattr(packing, "FLUSH_IDS", flush_ids)
    report = build(made(), letters, RowFormat(30, False), SplitRules(0.0, 0.0), tmp_path / "rows", 1)
    rows = RowFile(tmp_path / "rows" / "train.arrow")
    texts = [document.text for document in made().documents()]
    assert len(rows) == len(texts)
    for i, text in enumerate(texts):
        ids, length = rows[[i]].ids[0].tolist(), int(rows[[i]].lengths[0])
        want = [*letters.encode([text])[0], letters.eos][:30]
        assert ids == want + [letters.pad] * (30 - len(want)) and length == len(want)
    assert report.truncated == sum(len(text) > 30 for text in texts) > 0
    exact = build(made(1), letters, RowFormat(5, False), SplitRules(0.0, 0.0), tmp_path / "exact", 1)
    assert exact.truncated == 0 and exact.tokens["train"] == 6


def test_the_split_depends_on_the_index_alone():
    splits = [SPLIT.split_of_index(i) for i in range(20000)]
    shares = {name: splits.count(name) / 20000 for name in FRACTION_SPLITS}
    assert shares["validation"] == pytest.approx(0.2, abs=0.01)
    assert shares["scorer_holdout"] == pytest.approx(0.1, abs=0.01)
    other = [SplitRules(0.2, 0.3).split_of_index(i) for i in range(999)]
    assert [name == "validation" for name in other] == [name == "validation" for name in splits[:999]]
    for shares in ((-0.1, 0.0), (0.5, 0.5), (1.0, 0.0)):
        refused("must leave some to train", SplitRules, *shares)


def test_the_key_changes_with_every_input(made, letters):
    formats = [RowFormat(16, True), RowFormat(17, True), RowFormat(16, False)]
    keys = [rows_key(made(), letters, row_format, SPLIT) for row_format in formats]
    keys += [rows_key(made(201), letters, formats[0], SPLIT)]
    keys += [rows_key(made(), letters, formats[0], SplitRules(0.2, 0.0))]
    assert len(set(keys)) == 5


def test_a_cache_is_built_once_and_its_report_is_saved(made, letters, tmp_path):
    indices = []
    arguments = (made(before=indices.append), letters, RowFormat(16, True), SPLIT, tmp_path / "rows", 1)
    reports = [build(*arguments) for _ in "ab"]
    assert len(indices) == 200 and reports[0] == reports[1] == DataStats.read(tmp_path / "rows" / "stats.json")


@pytest.mark.integration
def test_a_killed_tokenising_process_is_an_error(made, letters, tmp_path, monkeypatch):
    monkeypatch.setattr(type(letters), "encode", lambda self, texts: os._exit(9))
    monkeypatch.setattr(tokenize, "MAX_CHARACTERS", 300)
    with pytest.raises(ValueError, match="processes was killed; if memory ran out: --data.num_proc 1"):
        build(made(), letters, RowFormat(16, True), SPLIT, tmp_path / "rows", 2)


def test_a_failed_build_leaves_nothing(made, letters, tmp_path):
    source = made(before=fail_at(50, ValueError("line 51")))
    refused("line 51", build, source, letters, RowFormat(16, True), SPLIT, tmp_path / "rows", 1)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_empty_documents_are_skipped_counted_and_named_and_none_at_all_refused(made, letters, tmp_path):
    report = build(made(empty=(3, 9)), letters, RowFormat(16, True), SPLIT, tmp_path / "rows", 1)
    assert report.skipped == {"empty": 2} and report.documents.total() == 198
    assert "skipped: 2 empty (first: made:3; made:9)" in str(report)
    assert json.loads((tmp_path / "rows" / "stats.json").read_text())["skipped"] == {"empty": 2}
    refused("gave no documents", build, made(0), letters, RowFormat(16, True), SPLIT, tmp_path / "none", 1)
