"""Pairs of source and target: rows, parts, exact resume, and errors that name what there is."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from datasets import Dataset, DatasetDict

from textflow.data import DataModule, Document, HubPairs, JsonlPairs, PairSource, SplitFractions, Verses
from textflow.data.preview import FirstDocuments
from textflow.data.row_file import RowFile

Make = Callable[..., DataModule]
WORDS = [{"source": f"source {i} " + "s" * (i % 9), "target": f"target {i} " + "t" * (i % 7)} for i in range(120)]


class Made(PairSource):
    """Pairs in memory."""

    def __init__(self, pairs: list[tuple[str, str]], test: list[tuple[str, str]] | None = None) -> None:
        self.parts = {"train": pairs, "test": test or []}

    def pairs(self, split_name):
        for i, (source, text) in enumerate(self.parts.get(split_name, [])):
            yield Document(text, f"{split_name} {i}", source)

    def key(self) -> str:
        return f"made {self.parts}"


def jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def said(module: DataModule, part: str) -> list[tuple[str, str]]:
    """(source, target) of a part's rows, read back from the cache."""
    rows, found = RowFile(module.rows_folder / f"{part}.arrow"), []
    if not len(rows):
        return found
    batch = module.on_after_batch_transfer(rows[range(len(rows))], 0)
    for ids, fixed in zip(batch.ids.tolist(), batch.prompt_mask.tolist(), strict=True):
        given = sum(fixed)
        assert fixed == [True] * given + [False] * (len(ids) - given)
        found.append((module.tokenizer.decode([ids[:given]])[0], module.tokenizer.decode([ids[given:]])[0]))
    return found


# --- rows


def test_a_row_is_the_source_the_target_an_end_and_padding(data: Make) -> None:
    module = data(source=Made([("ab", "cde")] * 9), seq_length=12, max_source_length=4, val_fraction=0.0)
    packed = next(iter(module.train_dataloader()))
    batch = module.on_after_batch_transfer(packed, 0)
    eos, pad = module.tokenizer.eos, module.tokenizer.pad
    assert batch.ids[0].tolist() == [*module.tokenizer.encode(["abcde"])[0], eos, *[pad] * 6]
    assert batch.prompt_mask[0].tolist() == [True] * 2 + [False] * 10
    assert batch.mask[0].tolist() == [True] * 6 + [False] * 6


def test_a_row_travels_as_small_ids_and_two_lengths(data: Make) -> None:
    packed = next(
        iter(
            data(
                source=Made([("ab", "cde")] * 9), seq_length=12, max_source_length=4, val_fraction=0.0
            ).train_dataloader()
        )
    )
    assert [part.dtype for part in packed] == [torch.uint16, torch.int32, torch.int32]
    assert sum(part.numel() * part.element_size() for part in packed) == 4 * (2 * 12 + 4 + 4)


def test_single_texts_have_no_prompt(data: Make) -> None:
    module = data()
    assert next(iter(module.train_dataloader())).source_lengths is None and module.first_rows(3).prompt_mask is None


def test_a_long_source_loses_its_end_and_a_long_target_too(data: Make) -> None:
    module = data(
        source=Made([("abcdefgh", "xyz"), ("ab", "0123456789")] * 5),
        seq_length=8,
        max_source_length=4,
        val_fraction=0.0,
    )
    assert set(said(module, "train")) == {("abcd", "xyz"), ("ab", "012345")}
    assert module.stats.truncated == 10


def test_where_the_end_is_the_padding_it_is_no_text(data: Make, letters) -> None:
    class One(type(letters)):
        pad = 1

        def key(self) -> str:
            return "one"

    module = data(
        source=Made([("ab", "cde")] * 9), tokenizer=One(), seq_length=8, max_source_length=4, val_fraction=0.0
    )
    batch = module.first_rows(1)
    assert batch.ids[0, 5:].tolist() == [1, 1, 1] and batch.mask[0].tolist() == [True] * 5 + [False] * 3


def test_a_pair_without_one_of_its_texts_is_skipped_and_counted(data: Make) -> None:
    module = data(
        source=Made([("ab", "cd"), ("", "ef"), ("gh", " ")] * 5), seq_length=8, max_source_length=4, val_fraction=0.0
    )
    assert module.stats.skipped["empty"] == 10 and module.stats.rows["train"] == 5


def test_the_tokenizer_is_trained_on_sources_and_targets() -> None:
    assert list(SplitFractions(0.0, 0.0).texts(Made([("a", "b"), ("c", "d")], [("e", "f")]))) == ["a", "b", "c", "d"]


def test_pairs_are_resumed_exactly(data: Make) -> None:
    source = Made([(f"s{i}", f"t{i * i}") for i in range(50)])
    whole = data(source=source, seq_length=12, max_source_length=4, val_fraction=0.0)
    rows = [batch for batch, _ in zip(whole.train_dataloader(), range(20), strict=False)]
    later = data(source=source, seq_length=12, max_source_length=4, val_fraction=0.0)
    later.load_state_dict({"rows_consumed": 7 * 4})
    for ours, theirs in zip(later.train_dataloader(), rows[7:], strict=False):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- sources and parts


def test_parts_that_are_laid_down_are_kept_apart(data: Make) -> None:
    module = data(
        source=Made([(f"s{i}", f"t{i}") for i in range(60)], [("u", "v")]), seq_length=12, max_source_length=4
    )
    assert said(module, "test") == [("u", "v")]
    train, validation = said(module, "train"), said(module, "validation")
    assert len(validation) > 0 and not set(train) & {*validation, ("u", "v")}
    assert sorted(train + validation) == sorted((f"s{i}", f"t{i}") for i in range(60))


def test_json_lines_have_their_own_fields_and_files(data: Make, tmp_path: Path) -> None:
    rows = [{"row": {"de": one["source"], "en": one["target"]}} for one in WORDS]
    files = [str(jsonl(tmp_path / f"{i}.jsonl", part)) for i, part in enumerate((rows[:80], rows[80:90], rows[90:]))]
    source = JsonlPairs(files[0], "row.de", "row.en", val_paths=files[1], test_paths=files[2])
    module = data(source=source, seq_length=40, max_source_length=20, val_fraction=0.0)
    expected = [(one["source"], one["target"]) for one in WORDS]
    assert [said(module, part) for part in ("train", "validation", "test")] == [
        expected[:80], expected[80:90], expected[90:]
    ]  # fmt: skip


@pytest.mark.parametrize("how", ["load_dataset", "save_to_disk"])
def test_a_data_set_has_its_splits(data: Make, tmp_path: Path, how: str) -> None:
    rows = [{"translation": {"de": one["source"], "en": one["target"]}} for one in WORDS]
    parts = {"train": rows[:80], "validation": rows[80:90], "test": rows[90:]}
    folder = tmp_path / "set"
    if how == "save_to_disk":
        DatasetDict({name: Dataset.from_list(part) for name, part in parts.items()}).save_to_disk(str(folder))
    else:
        folder.mkdir()
        for name, part in parts.items():
            Dataset.from_list(part).to_parquet(str(folder / f"{name}.parquet"))
    source = HubPairs(str(folder), "translation.de", "translation.en")
    module = data(source=source, seq_length=40, max_source_length=20, val_fraction=0.0)
    assert said(module, "train") == [(one["source"], one["target"]) for one in WORDS[:80]]
    assert said(module, "test") == [(one["source"], one["target"]) for one in WORDS[90:]]
    assert len(module.validation_rows) == 10


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path: Path, letters) -> None:
    DatasetDict({"train": Dataset.from_list(WORDS)}).save_to_disk(str(tmp_path / "set"))
    source = HubPairs(str(tmp_path / "set"), "source", "target")
    with pytest.raises(ValueError, match="no split 'validation'; there are: train"):
        list(source.documents())
    assert (
        len(list(HubPairs(str(tmp_path / "set"), "source", "target", val_split=None, test_split=None).documents()))
        == 120
    )


@pytest.mark.parametrize(("given", "text", "missing"), [("sorce", "target", "sorce"), ("source", "translation.en", "")])
def test_a_missing_field_is_named_with_those_that_are_there(
    tmp_path: Path, given: str, text: str, missing: str
) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"source": "a", "target": "b", "meta": {"id": 1}}])
    with pytest.raises(ValueError, match="no field") as error:
        list(JsonlPairs(str(file), given, text).documents())
    message = str(error.value)
    assert missing in message and "--data.source.source_field" in message and f"{file}:1" in message
    assert all(name in message for name in ("source", "target", "meta.id"))


def test_a_field_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "a.jsonl", [{"source": "a", "target": 3}])
    with pytest.raises(ValueError, match="'target' holds 3 .int., text is needed"):
        list(JsonlPairs(str(file)).documents())


def test_pairs_are_read_from_json_lines_only(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="from .jsonl files"):
        list(JsonlPairs(str(tmp_path / "a.txt")).documents())


def test_the_beginning_of_pairs_can_be_tried(data: Make) -> None:
    module = data(
        source=FirstDocuments(Made([(f"s{i}", f"t{i}") for i in range(60)]), 10),
        seq_length=12,
        max_source_length=4,
        val_fraction=0.0,
    )
    assert module.stats.rows["train"] == 10


def test_verses_are_pairs_within_a_chapter_and_chapters_are_whole() -> None:
    pairs = list(Verses().documents())
    assert len(pairs) == 29_914 and pairs[0].source.startswith("In the beginning") and "without form" in pairs[0].text
    chapters = {part: {pair.origin.split(":")[0] for pair in pairs if pair.split == part} for part in (None, "test")}
    chapters["validation"] = {pair.origin.split(":")[0] for pair in pairs if pair.split == "validation"}
    assert all(len(found) > 10 for found in chapters.values())
    assert sum(map(len, chapters.values())) == len(set().union(*chapters.values()))
    assert all(one.text == other.source for one, other in zip(pairs, pairs[1:], strict=False) if
               one.origin.split(":")[0] == other.origin.split(":")[0])  # fmt: skip


# --- what is refused


def test_pairs_need_the_length_of_a_source(data: Make) -> None:
    with pytest.raises(ValueError, match="gives pairs: set data.max_source_length"):
        data(source=Made([("a", "b")]), val_fraction=0.0)


def test_single_texts_have_no_length_of_a_source(data: Make) -> None:
    with pytest.raises(ValueError, match="gives single texts"):
        data(max_source_length=4)


@pytest.mark.parametrize("given", [0, 16, 20])
def test_a_source_leaves_room_for_its_target(data: Make, given: int) -> None:
    with pytest.raises(ValueError, match="leaves some to its target"):
        data(max_source_length=given)
