import io

import pytest
from rich.console import Console

from tests.helpers.tiny_scorer import save_judge
from textflow.eval.measure import reference_records
from textflow.eval.table import make_table, protocol_marks, table_notes
from textflow.metrics import Scorer


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    texts = ["in the beginning God created the heaven", "and the earth was without form"]
    return list(reference_records(texts, Scorer(save_judge(tmp_path_factory.mktemp("judge")))))


def printed(records, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(make_table(records))
    return console.file.getvalue()


def test_the_table_prints_all_that_a_perplexity_stands_beside(records):
    text = " ".join(printed(records).split())  # a long folder's name wraps
    for word in (
        *("perplexity", "entropy", "nll - H", "seq-rep-4", "human_repetition_share", "empty", "float32", "seed 0"),
        *(records[0]["scorer_hash"], "entropy over the scorer's ids"),
    ):
        assert word in text
    assert f"{records[0]['perplexity']:.1f}" in text and "shuffled" in text and "not comparable" not in text
    assert "MAUVE" not in text and "MAUVE" in printed([records[0] | {"mauve": 0.5}])


def test_each_number_stands_above_the_farther_side_of_its_interval(records):
    record = records[0] | {"perplexity": 40.0, "intervals": {"perplexity": [38.5, 42.25]}}
    lines = printed([record]).splitlines()
    row = next(i for i, line in enumerate(lines) if "real" in line)
    assert "40.0" in lines[row] and lines[row + 1].split() == ["±2.2"]


def test_a_missing_number_is_a_dash(records):
    line = next(line for line in printed([records[0] | {"perplexity": None}]).splitlines() if "real" in line)
    assert line.split()[:2] == ["real", "-"]


def test_no_number_is_cut_away_at_the_least_width(records):
    sampled = {"sampler": {"class": "Reinject"}, "steps": 32, "text": "generated", "nfe": 33.0, "seconds": 123.4}
    large = records[0] | sampled | {"perplexity": 12345.6, "tokens": 1024000, "seq_rep_4": 1.0, "n": 1000}
    text = printed([records[1], large], width=150)
    for word in ("generated Reinject 32", "12345.6", "1024000", "100.00%", "1000", "33", "123.4"):
        assert word in text


def test_rows_that_differ_in_a_setting_or_a_grid_are_told_apart(records):
    fair = {
        "class": "LogitAdjustment",
        "escape": {"class": "Commit", "choice": "mode", "gate": {"class": "Everywhere"}},
    }
    fair |= {"tau": 0.3}
    row = records[0] | {"text": "generated", "steps": 8, "escape": fair, "sampler": {"class": "Ancestral"}}
    chosen = {"model": {"init_args": {"sampling_schedule": {"class_path": "FlipRate"}}}}
    real = records[0] | {"recipe": chosen}
    text = printed(
        [real, row, row | {"time_grid": {"class": "FlipRate", "times": [0, 1]}, "recipe": chosen}], width=300
    )
    assert " real " in text
    assert "generated LogitAdjustment(tau 0.3, Commit) Ancestral 8" in text
    assert "generated LogitAdjustment(tau 0.3, Commit) Ancestral on FlipRate 8" in text


def test_mixed_protocols_are_named_and_each_row_has_the_letter_of_its_own(records):
    mixed = [records[0], records[1] | {"scorer_dtype": "float16"}, records[1]]
    text = printed(mixed)
    assert "not comparable: scorer_dtype differ" in text
    assert protocol_marks(mixed) == ["a", "b", "a"] and "real (a)" in text and "shuffled (b)" in text
    assert "(a) protocol" in text and "(b) protocol" in text and protocol_marks(records) == ["", ""]


@pytest.mark.parametrize(
    "key", ["scorer_hash", "truncation", "aggregation", "entropy_ids", "special_tokens", "seq_length"]
)
def test_no_part_of_a_protocol_may_differ_without_a_mark(records, key):
    assert protocol_marks([records[0], records[1] | {key: "another"}]) == ["a", "b"]


def test_a_judge_in_another_folder_is_the_same_judge(records):
    assert protocol_marks([records[0], records[1] | {"scorer": "elsewhere"}]) == ["", ""]


def test_a_deviation_is_marked_and_named_once(records):
    few = [record | {"deviations": ["n 2 for 1000"]} for record in records]
    assert protocol_marks(few) == ["†", "†"] and "real (†)" in printed(few)
    assert [note for note in table_notes(few) if "n 2" in note] == ["† all rows: n 2 for 1000"]
    assert "† real: n 2 for 1000" in table_notes([few[0], records[1]])


def test_samples_that_are_lost_are_counted_and_named(records):
    lost = records[0] | {"empty": 3, "unscored": 1, "nonfinite": 2, "truncated": 5, "dropped": 4, "n": 90}
    lost |= {"unreadable": 2, "unreadable_lines": ["a.jsonl:7 is not JSON"]}
    said = "\n".join(table_notes([lost, records[1]]))
    for words in ("3 of 90 empty", "1 of 90 without a token", "2 of 90 of a perplexity", "5 of 90 cut"):
        assert f"! real: {words}" in said
    assert "4 of 90 in an incomplete last batch" in said and "2 unreadable lines: a.jsonl:7 is not JSON" in said


def test_unequal_n_is_named(records):
    assert any("n differs" in note for note in table_notes([records[0], records[1] | {"n": 9}]))
    assert not any("n differs" in note for note in table_notes(records))


def test_a_scorer_that_was_not_trained_apart_is_named(records):
    assert "are not disjoint" in printed([record | {"scorer_is_disjoint": False} for record in records])
    assert "are not disjoint" not in printed([record | {"scorer_is_disjoint": None} for record in records])


def test_what_looks_like_markup_is_text(records):
    assert "[bold]x[/bold] real" in printed([records[0] | {"label": "[bold]x[/bold]"}])
