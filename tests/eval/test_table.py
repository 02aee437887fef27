import io

import pytest
from rich.console import Console

from textflow.eval.measure import reference_records
from textflow.eval.table import make_table, protocol_marks, table_notes


@pytest.fixture(scope="module")
def records(scorer):
    texts = ["in the beginning God created the heaven", "and the earth was without form"]
    return list(reference_records(texts, scorer))


def printed(records, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(make_table(records))
    return console.file.getvalue()


def test_the_table_prints_the_protocol_with_each_perplexity(records):
    text = " ".join(printed(records).split())  # a long folder's name wraps
    columns = (
        "perplexity",
        "bits/char",
        "entropy",
        "nll - H",
        "seq-rep-4",
        "human_repetition_share",
        "empty",
        "float32",
        "seed 0",
    )
    assert [w for w in (*columns, records[0]["scorer_hash"], "entropy over the scorer's ids") if w not in text] == []
    assert f"{records[0]['perplexity']:.1f}" in text and "shuffled" in text and "not comparable" not in text
    assert "MAUVE" not in text and "MAUVE" in printed([records[0] | {"mauve": 0.5}])


def test_each_number_has_its_interval_below_and_is_complete_at_the_smallest_width(records):
    record = records[0] | {"perplexity": 40.0, "intervals": {"perplexity": [38.5, 42.25]}}
    lines = printed([record, record | {"perplexity": None}]).splitlines()
    row, undefined = (i for i, line in enumerate(lines) if " real " in line)
    assert "40.0" in lines[row] and lines[row + 1].split() == ["±2.2"]
    assert lines[undefined].split()[:2] == ["real", "-"]
    sampled = {"sampler": {"class": "Reinject"}, "steps": 32, "text": "generated", "nfe": 33.0, "seconds": 123.4}
    large = records[0] | sampled | {"perplexity": 12345.6, "tokens": 1024000, "seq_rep_4": 1.0, "n": 1000}
    text = printed([records[1], large], width=150)
    numbers = ("generated Reinject 32", "12345.6", "1024000", "100.00%", "1000", "33", "123.4")
    assert [number for number in numbers if number not in text] == []


def test_rows_are_labelled_by_their_settings_and_grid_without_markup(records):
    commit = {"class": "Commit", "choice": "mode", "gate": {"class": "Everywhere"}}
    escape = {"class": "LogitAdjustment", "escape": commit, "tau": 0.3}
    row = records[0] | {"text": "generated", "steps": 8, "escape": escape, "sampler": {"class": "Ancestral"}}
    recipe = {"model": {"init_args": {"sampling_schedule": {"class_path": "FlipRate"}}}}
    scheduled = row | {"time_grid": {"class": "FlipRate", "times": [0, 1]}, "recipe": recipe}
    text = printed([records[0] | {"recipe": recipe}, row, scheduled], width=300)
    assert " real " in text
    assert "generated LogitAdjustment(tau 0.3, Commit) Ancestral 8" in text
    assert "generated LogitAdjustment(tau 0.3, Commit) Ancestral on FlipRate 8" in text
    order = {"class": "Grouped", "groups": [3, 1, 0, 2]}
    grouped = row | {"escape": None, "order": order, "sampler": {"class": "Euler"}}
    assert "generated Grouped(4 groups) Euler 8" in printed([grouped], width=300)
    assert "[bold]x[/bold] real" in printed([records[0] | {"label": "[bold]x[/bold]"}])


def test_mixed_protocols_are_listed_and_each_difference_has_its_letter(records):
    mixed = [records[0], records[1] | {"scorer_dtype": "float16"}, records[1]]
    text = printed(mixed)
    assert "not comparable: scorer_dtype differ" in text
    assert protocol_marks(mixed) == ["a", "b", "a"] and "real (a)" in text and "shuffled (b)" in text
    assert "(a) protocol" in text and "(b) protocol" in text and protocol_marks(records) == ["", ""]
    keys = ("scorer_hash", "truncation", "aggregation", "entropy_ids", "special_tokens", "seq_length")
    marks = {key: protocol_marks([records[0], records[1] | {key: "another"}]) for key in keys}
    assert [key for key, mark in marks.items() if mark != ["a", "b"]] == []
    assert protocol_marks([records[0], records[1] | {"scorer": "elsewhere"}]) == ["", ""]


def test_deviations_unequal_n_and_a_scorer_that_is_not_disjoint_are_noted(records):
    few = [record | {"deviations": ["n 2 for 1000"]} for record in records]
    assert protocol_marks(few) == ["†", "†"] and "real (†)" in printed(few)
    assert [note for note in table_notes(few) if "n 2" in note] == ["† all rows: n 2 for 1000"]
    assert "† real: n 2 for 1000" in table_notes([few[0], records[1]])
    assert any("n differs" in note for note in table_notes([records[0], records[1] | {"n": 9}]))
    assert not any("n differs" in note for note in table_notes(records))
    assert "are not disjoint" in printed([record | {"scorer_is_disjoint": False} for record in records])
    assert "are not disjoint" not in printed([record | {"scorer_is_disjoint": None} for record in records])


def test_a_table_without_seeds_names_none(records):
    seedless = [{key: value for key, value in record.items() if key != "seed"} for record in records]
    assert "seed ;" not in printed(seedless) and "below each number the farther side" in printed(seedless)


def test_lost_samples_are_counted_with_the_reason(records):
    lost = records[0] | {"empty": 3, "unscored": 1, "nonfinite": 2, "truncated": 5, "dropped": 4, "n": 90}
    lost |= {"unreadable": 2, "unreadable_lines": ["a.jsonl:7 is not JSON"]}
    notes = "\n".join(table_notes([lost, records[1]]))
    for note in ("3 of 90 empty", "1 of 90 without a token", "2 of 90 of a perplexity", "5 of 90 cut"):
        assert f"! real: {note}" in notes
    assert "4 of 90 in an incomplete last batch" in notes and "2 unreadable lines: a.jsonl:7 is not JSON" in notes
