import json

import pytest

from tests.helpers.tiny_scorer import save_judge
from textflow.cli.app import main
from textflow.eval.compare import collect_records, load_published
from textflow.eval.measure import reference_records
from textflow.eval.record import write_record
from textflow.eval.table import protocol_marks
from textflow.metrics import Scorer

TEXTS = ["in the beginning God created the heaven", "and the earth was without form"]


@pytest.fixture
def runs(tmp_path):
    """Two runs with records of the same real text and samples of their own."""
    judge = Scorer(save_judge(tmp_path / "judge"))
    for name, steps in (("one", 4), ("two", 2)):
        facts = {"checkpoint_hash": name * 4, "seq_length": 8}
        for record in reference_records(TEXTS, judge, 0, facts):
            write_record(record, tmp_path / name / "eval")
        made = record | {"text": "generated", "steps": steps, "sampler": {"class": "Euler"}, "nfe": 5.0}
        write_record(made, tmp_path / name / "eval")
    return [tmp_path / "one", tmp_path / "two"]


def test_runs_stand_in_one_table_and_their_common_real_text_once(runs):
    found = collect_records(runs)
    assert [(r["text"], r["label"]) for r in found] == [
        *(("real", ""), ("shuffled", "")), *(("generated", "one"), ("generated", "two")),
    ]  # fmt: skip


def test_records_of_other_weights_carry_them(runs):
    (path,) = (runs[0] / "eval").glob("generated*.json")
    write_record(json.loads(path.read_text()) | {"checkpoint_hash": "fedcba98"}, runs[0] / "eval")
    assert {r["label"] for r in collect_records(runs[:1]) if r["text"] == "generated"} == {"oneone", "fedcba"}


def test_a_place_without_records_and_a_file_that_is_none_are_named(runs, tmp_path):
    with pytest.raises(ValueError, match=r"no records in .*textflow eval"):
        collect_records([tmp_path / "nothing"])
    (runs[0] / "eval" / "torn.json").write_text('{"text": "re')
    with pytest.raises(ValueError, match=r"torn\.json is not a record"):
        collect_records(runs)
    (runs[0] / "eval" / "torn.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"torn\.json is not a record.*no text"):
        collect_records(runs)


def test_published_numbers_are_those_of_the_papers_and_never_without_a_mark(runs):
    rows = load_published("few_step")
    said = {(row["label"], row.get("nfe")): (row["perplexity"], row["entropy"]) for row in rows}
    assert said["Duo+DCD", 1] == (5743, 6.02) and said["FMLM+", 4] == (41, 4.77) and said["data", None] == (14.8, 5.44)
    assert said["DFM-ESD", 1] == (5.33, 0.26) and len(rows) == 22
    found = protocol_marks([*rows, *collect_records(runs)])
    assert set(found[:22]) == {"a"} and set(found[22:]) == {"b"}
    with pytest.raises(ValueError, match="known are few_step"):
        load_published("many_steps")


def test_the_verb_prints_the_table_and_exports_it(runs, capsys):
    assert main(["compare", *map(str, runs), "--published", "few_step"]) == 0
    said = capsys.readouterr().out
    assert "ELF+PD published (a)" in said and "two generated Euler 2 (b)" in said and "as published" in said
    assert main(["compare", *map(str, runs), "--format", "markdown"]) == 0
    assert "| one generated Euler 4 |" in capsys.readouterr().out
    assert main(["compare"]) == 2 and "no run" in capsys.readouterr().err
