"""Equal documents share a split, and bad records can be left out; both are counted and named."""

from collections import Counter
from pathlib import Path

import pytest

from tests.data.conftest import Broken, Letters, Made, assert_equal_rows, fail_at
from tests.helpers.user_errors import refused
from textflow.data import DataModule, Document, PairSource, Source, SplitRules, Stories, TextFiles
from textflow.data.build import build, too_few_rows_error
from textflow.data.packing import RowFormat
from textflow.data.splits import SPLITS, FirstSplits, Splitter
from textflow.data.stats import DataStats
from textflow.eval import conditional

RULES, PACKED = SplitRules(0.3, 0.1), RowFormat(16, True)


class Listed(Source):
    """These texts; the second half of the copies has white space around it."""

    def __init__(self, texts: list[str], copies: int = 1) -> None:
        self.texts = texts * copies

    def documents(self):  # noqa: ANN201
        for i, text in enumerate(self.texts):
            yield Document(text if 2 * i < len(self.texts) else f" {text}\n", f"listed:{i}")

    def key(self) -> str:
        return f"listed {self.texts}"


def assigned(source: Source, rules: SplitRules = RULES, stats: DataStats | None = None) -> list[tuple[str, Document]]:
    splitter = Splitter(rules, source, stats or DataStats())
    return [(assignment.split, document) for assignment, document in splitter.assign(source.documents())]


def test_duplicate_documents_fall_on_the_side_of_the_first_and_are_counted() -> None:
    stats, texts = DataStats("Listed"), [f"text {i}" for i in range(100)]
    once, twice = assigned(Listed(texts)), assigned(Listed(texts, 2), stats=stats)
    assert [split for split, _ in once] == [RULES.split_of_index(i) for i in range(100)], "the split of clean text"
    assert [split for split, _ in twice] == 2 * [split for split, _ in once]
    assert stats.repeated == {"copies": 100} and stats.first["copies"] == ["listed:100", "listed:101", "listed:102"]
    assert "; repeated: 100 equal to an earlier document, in its split (first: listed:100;" in str(stats)
    assert str(stats).endswith("to leave them out: --data.skip duplicates")


def test_a_file_named_twice_leaks_nothing_into_validation(tmp_path: Path, letters: Letters) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(f"text {i}" for i in range(64)))
    files = [str(tmp_path / "a.txt"), str(tmp_path / "." / "a.txt")]
    documents = assigned(TextFiles(files))
    held_out = {document.text for split, document in documents if split == "validation"}
    assert held_out and not held_out & {document.text for split, document in documents if split == "train"}
    module = DataModule(files=files, tokenizer=letters, seq_length=8, cache=str(tmp_path / "c"), val_fraction=0.3)
    module.prepare_data()
    assert module.describe()["repeated"] == {"copies": 64} and module.describe()["documents"] == 128


def test_duplicate_documents_are_left_out_where_asked(letters: Letters, tmp_path: Path) -> None:
    source, rules = Listed([f"text {i}" for i in range(20)], 3), SplitRules(0.3, 0.1, "duplicates")
    stats = build(source, letters, PACKED, rules, tmp_path / "rows", 1)
    assert stats.documents.total() == 20 and stats.skipped == {"duplicate": 40} and not stats.repeated
    assert len(list(rules.texts(source))) + len(list(rules.texts(source, "validation"))) < 20


class FixedPairs(PairSource):
    """Pairs, of which one is held out and trained on too."""

    def pairs(self, split_name: str):  # noqa: ANN201
        pairs = {"train": [("a", "b"), ("c", "d"), ("a", "x"), ("c", "d")], "validation": [("c", "d"), ("e", "f")]}
        for i, (source, target) in enumerate(pairs.get(split_name, [])):
            yield Document(target, f"{split_name}:{i}", source)

    def key(self) -> str:
        return "fixed pairs"


def test_a_pair_that_the_source_holds_out_and_trains_on_keeps_its_split_and_is_named() -> None:
    stats = DataStats()
    splits = [split for split, _ in assigned(FixedPairs(), SplitRules(0.0, 0.0), stats)]
    assert splits == 4 * ["train"] + 2 * ["validation"] and stats.repeated == {"copies": 1, "leaks": 1}
    assert "1 held out by the source and equal to a document of another split (first: validation:0)" in str(stats)
    left = assigned(FixedPairs(), SplitRules(0.0, 0.0, "duplicates"))
    assert Counter(split for split, _ in left) == {"train": 3, "validation": 1}


def test_pairs_are_scored_without_the_copies_left_out(letters: Letters, tmp_path: Path) -> None:
    def scored(skip: str | None) -> list[str]:
        data = DataModule(
            FixedPairs(), letters, 8, max_source_length=4, cache=str(tmp_path), val_fraction=0.0, skip=skip
        )
        data.prepare_data()
        data.setup()
        part, pairs = conditional.test_pairs(data, None)
        rows = data.on_after_batch_transfer(data.validation_rows[range(len(data.validation_rows))], 0)
        assert part == "validation" and len(rows.ids) == len(pairs)
        return [pair.text for pair in pairs]

    assert scored(None) == ["d", "f"] and scored("duplicates") == ["f"]


def test_equal_draws_of_a_known_law_are_no_copies() -> None:
    stats, source = DataStats(), Stories("sentences", 3000)
    splits = assigned(source, stats=stats)
    assert [split for split, _ in splits] == [RULES.split_of_index(i) for i in range(3000)] and not stats.repeated
    assert len({document.text for _, document in splits}) < 3000


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_build_remembers_the_documents_before_it(tmp_path: Path) -> None:
    texts = [document.text for document in Made(100).documents()]

    class Twice(Made):
        def documents(self):  # noqa: ANN202
            for i, document in enumerate(super().documents()):
                yield document._replace(text=texts[i % 100])

    def make(folder: str, **options: object) -> None:
        build(Twice(**options), Letters(), PACKED, RULES, tmp_path / folder, 1)  # type: ignore[arg-type]

    with pytest.raises(Broken):
        make("rows", before=fail_at(150, Broken()))
    make("rows")
    make("uninterrupted")
    assert DataStats.read(tmp_path / "rows" / "stats.json").repeated["copies"] >= 100
    assert_equal_rows(tmp_path / "rows", tmp_path / "uninterrupted")


def test_the_table_of_first_splits_holds_every_digest() -> None:
    table, numbers = FirstSplits(), [4 * (i * 2654435761 % 2**40 + 1) for i in range(5000)]
    assert all(table.setdefault(number, SPLITS[i % 4]) is None for i, number in enumerate(numbers))
    assert [table.setdefault(number, "train") for number in numbers] == [SPLITS[i % 4] for i in range(5000)]


BAD_LINES = [b'{"text": "lone \\ud800"}', b'{"text": "nul \\u0000"}', b'{"text": "to', b'{"id": 1}']
BAD_LINES += [b'{"text": "\xff"}', b'{"text": 3}']


def test_bad_records_end_a_fit_unless_they_are_left_out_counted_and_named(tmp_path: Path, letters: Letters) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n".join([b'{"text": "good"}', *BAD_LINES, b'{"text": "better"}']))
    for line in BAD_LINES:
        (tmp_path / "b.jsonl").write_bytes(b'{"text": "good"}\n' + line)
        refused(
            "b.jsonl:2: .*; to leave such records out: --data.skip bad$", assigned, TextFiles(f"{tmp_path}/b.jsonl")
        )
    module = DataModule(files=str(file), tokenizer=letters, seq_length=4, val_fraction=0.0, skip="bad",
                        cache=str(tmp_path / "c"))  # fmt: skip
    module.prepare_data()
    assert module.stats is not None and module.stats.documents["train"] == 2 and module.stats.skipped == {"bad": 6}
    named = [f"a.jsonl:{line}: " for line in (2, 3, 4)]
    assert all(name in str(module.stats) for name in named) and "a.jsonl:5" not in str(module.stats)


def test_a_bad_line_or_a_long_one_spoils_its_document_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\nmore\n\ntwo\nna\xefve\nrest\n\n" + b"x" * 300 + b"\n\nthree\n")
    stats = DataStats()
    source, rules = TextFiles(str(tmp_path / "a.txt"), max_document_bytes=200), SplitRules(0.0, 0.0, "bad")
    assert [document.text for _, document in assigned(source, rules, stats)] == ["one\nmore", "three"]
    assert stats.skipped == {"bad": 2} and "a.txt:5: not UTF-8" in str(stats) and "a.txt:8: the line is" in str(stats)


def test_the_advice_for_a_tiny_corpus_does_not_go_in_a_circle() -> None:
    assert "--data.batch_size 3 or" in too_few_rows_error(7, 4, 2, "train", 16)
    few, none = too_few_rows_error(1, 4, 2, "train", 16), too_few_rows_error(0, 1, 1, "train", 16)
    assert "at most 1 devices or" in few and "batch_size" not in few + none
    assert none.endswith("give more text, or a smaller --data.seq_length")
