"""Pairs of source and target: rows, parts, exact resume, and errors that name what there is."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, DatasetDict

from tests.data.conftest import read_all
from tests.helpers.user_errors import refused
from textflow.data import DataModule, Document, HubPairs, JsonlPairs, PairSource, SplitRules, Verses
from textflow.data.preview import FirstDocuments
from textflow.data.row_file import RowFile
from textflow.data.sources.pairs import pairs_from_files

Make = Callable[..., DataModule]
PAIRS = [(f"source {i} " + "s" * (i % 9), f"target {i} " + "t" * (i % 7)) for i in range(120)]
RECORDS = [{"source": source, "target": target} for source, target in PAIRS]
NESTED = [{"translation": record} for record in RECORDS]


class PairList(PairSource):
    """Pairs in memory."""

    def __init__(self, pairs: list[tuple[str, str]], test: list[tuple[str, str]] | None = None) -> None:
        self.parts = {"train": pairs, "test": test or []}

    def pairs(self, split_name):
        for i, (source, text) in enumerate(self.parts.get(split_name, [])):
            yield Document(text, f"{split_name} {i}", source)

    def key(self) -> str:
        return f"pairs {self.parts}"


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read_pairs(module: DataModule, split: str) -> list[tuple[str, str]]:
    """(source, target) of a split's rows, read back from the cache."""
    rows, pairs = RowFile(module.rows_folder / f"{split}.arrow"), []
    batch = module.on_after_batch_transfer(rows[range(len(rows))], 0)
    for ids, is_source in zip(batch.ids.tolist(), batch.prompt_mask.tolist(), strict=True):
        length = sum(is_source)
        assert is_source == [True] * length + [False] * (len(ids) - length)
        pairs.append((module.tokenizer.decode([ids[:length]])[0], module.tokenizer.decode([ids[length:]])[0]))
    return pairs


@pytest.fixture
def load(data: Make) -> Make:
    """A small data module of pairs."""
    return lambda source, **options: data(
        **{"source": source, "seq_length": 12, "max_source_length": 4, "val_fraction": 0.0} | options
    )


def test_a_row_is_the_source_the_target_an_end_and_padding(load: Make) -> None:
    module = load(PairList([("ab", "cde")] * 9))
    packed = next(iter(module.train_dataloader()))
    assert [part.dtype for part in packed] == [torch.uint16, torch.int32, torch.int32]
    assert sum(part.numel() * part.element_size() for part in packed) == 4 * (2 * 12 + 4 + 4)
    batch = module.on_after_batch_transfer(packed, 0)
    eos, pad = module.tokenizer.eos, module.tokenizer.pad
    assert batch.ids[0].tolist() == [*module.tokenizer.encode(["abcde"])[0], eos, *[pad] * 6]
    assert batch.prompt_mask[0].tolist() == [True] * 2 + [False] * 10
    assert batch.mask[0].tolist() == [True] * 6 + [False] * 6


def test_single_texts_have_no_prompt(data: Make) -> None:
    module = data()
    assert next(iter(module.train_dataloader())).source_lengths is None and module.first_rows(3).prompt_mask is None


def test_long_texts_are_truncated_and_pairs_with_an_empty_one_skipped(load: Make) -> None:
    module = load(PairList([("abcdefgh", "xyz"), ("ab", "0123456789")] * 5), seq_length=8)
    assert set(read_pairs(module, "train")) == {("abcd", "xyz"), ("ab", "012345")}
    assert module.stats.truncated == 10
    stats = load(PairList([("ab", "cd"), ("", "ef"), ("gh", " ")] * 5)).stats
    assert stats.skipped["empty"] == 10 and stats.rows["train"] == 5


def test_an_eos_that_is_also_the_padding_is_masked(load: Make, letters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(letters), "pad", 1)
    batch = load(PairList([("ab", "cde")] * 9), seq_length=8).first_rows(1)
    assert batch.ids[0, 5:].tolist() == [1, 1, 1] and batch.mask[0].tolist() == [True] * 5 + [False] * 3


def test_the_tokenizer_is_trained_on_sources_and_targets() -> None:
    source = PairList([("a", "b"), ("c", "d")], [("e", "f")])
    assert list(SplitRules(0.0, 0.0).texts(source)) == ["a", "b", "c", "d"]


def test_pairs_are_resumed_exactly_and_previewed(load: Make) -> None:
    source = PairList([(f"s{i}", f"t{i * i}") for i in range(50)])
    rows, resumed = list(islice(load(source).train_dataloader(), 20)), load(source)
    resumed.load_state_dict({"rows_consumed": 7 * 4})
    for ours, theirs in zip(islice(resumed.train_dataloader(), 13), rows[7:], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert load(FirstDocuments(source, 10)).stats.rows["train"] == 10


def test_splits_fixed_by_the_source_are_separate(load: Make) -> None:
    pairs = [(f"s{i}", f"t{i}") for i in range(60)]
    module = load(PairList(pairs, [("u", "v")]), val_fraction=0.1)
    assert read_pairs(module, "test") == [("u", "v")]
    train, validation = read_pairs(module, "train"), read_pairs(module, "validation")
    assert len(validation) > 0 and sorted(train + validation) == sorted(pairs)


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["jsonl", "parquet", "save_to_disk"])
def test_each_split_of_a_source_has_its_own_rows(load: Make, tmp_path: Path, kind: str) -> None:
    parts = {"train": NESTED[:80], "validation": NESTED[80:90], "test": NESTED[90:]}
    fields = ("translation.source", "translation.target")
    if kind == "jsonl":
        train, validation, test = (str(jsonl(tmp_path / f"{name}.jsonl", part)) for name, part in parts.items())
        source: PairSource = JsonlPairs(train, *fields, val_paths=validation, test_paths=test)
    else:
        sets = DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()})
        (tmp_path / "set").mkdir()
        if kind == "save_to_disk":
            sets.save_to_disk(str(tmp_path / "set"))
        else:
            for name, part in sets.items():
                part.to_parquet(str(tmp_path / "set" / f"{name}.parquet"))
        source = HubPairs(str(tmp_path / "set"), *fields)
    module = load(source, seq_length=40, max_source_length=20)
    assert [read_pairs(module, name) for name in parts] == [PAIRS[:80], PAIRS[80:90], PAIRS[90:]]


def test_a_missing_split_is_named_with_those_available(tmp_path: Path) -> None:
    DatasetDict({"train": Dataset.from_list(RECORDS)}).save_to_disk(str(tmp_path / "set"))
    source = HubPairs(str(tmp_path / "set"), "source", "target")
    with pytest.raises(ValueError, match="no split 'validation'; there are: train"):
        list(source.documents())
    assert len(list(replace(source, val_split=None, test_split=None).documents())) == 120


@pytest.mark.parametrize(
    ("source", "target", "missing"), [("sorce", "target", "sorce"), ("source", "translation.en", "")]
)
def test_a_missing_field_is_named_with_the_others(tmp_path: Path, source: str, target: str, missing: str) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"source": "a", "target": "b", "meta": {"id": 1}}])
    with pytest.raises(ValueError, match="no field") as error:
        read_all(JsonlPairs(str(file), source, target))
    message = str(error.value)
    assert missing in message and "--data.source.source_field" in message and f"{file}:1" in message
    assert all(name in message for name in ("source", "target", "meta.id"))


def test_a_field_or_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"source": "a", "target": 3}])
    refused("'target' holds 3 .int., text is needed", read_all, JsonlPairs(str(file)))
    (tmp_path / "a.txt").write_text("x")
    refused("a.txt: pairs are read from records", read_all, JsonlPairs(str(tmp_path / "a.txt")))
    (tmp_path / "b.jsonl").write_text('"torn"\n{"source": "a", "target": "b"}\n3\n')
    pairs = list(JsonlPairs(str(tmp_path / "b.jsonl")).documents())
    assert [pair.skip for pair in pairs] == ["bad", None, "bad"] and "b.jsonl:1: a text, an object" in pairs[0].origin


def test_files_replace_those_of_each_split_that_a_source_of_pairs_fixes() -> None:
    hub = pairs_from_files(HubPairs("wmt", "de", "en", val_split=None), "a.jsonl")
    assert hub == JsonlPairs("a.jsonl", "de", "en", None, "a.jsonl")
    files = pairs_from_files(JsonlPairs("old", val_paths="old", max_line_bytes=9), ["a.jsonl"])
    assert files == JsonlPairs(["a.jsonl"], val_paths=["a.jsonl"], max_line_bytes=9)
    refused("the source Verses makes its own pairs", pairs_from_files, Verses(), "a.jsonl")


@pytest.mark.integration
def test_verses_are_pairs_within_a_chapter_and_chapters_are_not_divided() -> None:
    pairs = list(Verses().documents())
    assert len(pairs) == 29_914 and pairs[0].source.startswith("In the beginning") and "without form" in pairs[0].text
    names = [pair.origin.split(":")[0] for pair in pairs]
    splits = (None, "validation", "test")
    chapters = [{name for name, pair in zip(names, pairs, strict=True) if pair.split == split} for split in splits]
    assert all(len(part) > 10 for part in chapters) and sum(map(len, chapters)) == len(set(names))
    following = zip(names, pairs, names[1:], pairs[1:], strict=False)
    assert all(pair.text == after.source for name, pair, next_name, after in following if name == next_name)


def test_pairs_need_the_length_of_a_source_and_single_texts_refuse_it(data: Make) -> None:
    refused("gives pairs: set data.max_source_length", data, source=PairList([("a", "b")]), val_fraction=0.0)
    refused("gives single texts", data, max_source_length=4)
    for length in (0, 16, 20):
        refused("leaves some to its target", data, max_source_length=length)
