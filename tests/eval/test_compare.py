import json

import pytest

from tests.helpers.user_errors import refused
from textflow.cli.app import main
from textflow.eval.compare import collect_records, load_published
from textflow.eval.measure import reference_records
from textflow.eval.record import write_record
from textflow.eval.table import protocol_marks

TEXTS = ["in the beginning God created the heaven", "and the earth was without form"]


@pytest.fixture
def runs(tmp_path, scorer):
    """Two runs with records of the same real text and different samples."""
    for name, steps in (("one", 4), ("two", 2)):
        facts = {"checkpoint_hash": name * 4, "seq_length": 8}
        for record in reference_records(TEXTS, scorer, 0, facts):
            write_record(record, tmp_path / name / "eval")
        generated = {"text": "generated", "steps": steps, "sampler": {"class": "Euler"}, "nfe": 5.0}
        write_record(record | generated, tmp_path / name / "eval")
    return [tmp_path / "one", tmp_path / "two"]


@pytest.mark.integration
def test_real_text_of_several_runs_is_listed_once_and_other_weights_by_their_hash(runs):
    labels = [(r["text"], r["label"]) for r in collect_records(runs)]
    assert labels == [("real", ""), ("shuffled", ""), ("generated", "one"), ("generated", "two")]
    (path,) = (runs[0] / "eval").glob("generated*.json")
    write_record(json.loads(path.read_text()) | {"checkpoint_hash": "fedcba98"}, runs[0] / "eval")
    assert {r["label"] for r in collect_records(runs[:1]) if r["text"] == "generated"} == {"oneone", "fedcba"}


def test_a_folder_without_records_and_a_damaged_record_are_refused(runs, tmp_path):
    refused(r"no records in .*textflow eval", collect_records, [tmp_path / "nothing"])
    for content, message in (('{"text": "re', "is not a record"), ("[1]", "is not a record.*no text")):
        (runs[0] / "eval" / "torn.json").write_text(content)
        refused(rf"torn\.json {message}", collect_records, runs)


def test_published_numbers_equal_the_papers_and_are_marked(runs):
    rows = load_published("few_step")
    cells = {(row["label"], row.get("nfe")): (row["perplexity"], row["entropy"]) for row in rows}
    assert cells["Duo+DCD", 1] == (5743, 6.02) and cells["FMLM+", 4] == (41, 4.77)
    assert cells["DFM-ESD", 1] == (5.33, 0.26) and cells["data", None] == (14.8, 5.44) and len(rows) == 22
    marks = protocol_marks([*rows, *collect_records(runs)])
    assert set(marks[:22]) == {"a"} and set(marks[22:]) == {"b"}
    with pytest.raises(ValueError, match="known are few_step"):
        load_published("many_steps")


def test_a_file_of_published_numbers_is_checked(tmp_path):
    file, protocol = tmp_path / "mine.yaml", "protocol: {scorer: gpt2}\n"
    file.write_text(protocol + "rows: {mine: {4: [20.0, 5.1]}}\n")
    assert [(row["label"], row["nfe"], row["perplexity"]) for row in load_published(str(file))] == [("mine", 4, 20.0)]
    for text, message in (
        (protocol + "rows:\n  mine: {4: [20.0, 5.1]}\n  mine: {4: [10.0, 5.1]}\n", "gives mine in lines 3 and 4"),
        (protocol, "holds no published numbers .KeyError: 'rows'.; needed are protocol"),
        (protocol + "rows: [1]", "holds no published numbers"),
        ("[", "holds no published numbers .ParserError"),
    ):
        file.write_text(text)
        refused(f"mine.yaml {message}", load_published, str(file))


def test_the_command_prints_and_exports_the_table(runs, capsys):
    assert main(["compare", *map(str, runs), "--published", "few_step"]) == 0
    output = capsys.readouterr().out
    assert "ELF+PD published (a)" in output and "two generated Euler 2 (b)" in output and "as published" in output
    assert main(["compare", *map(str, runs), "--format", "markdown"]) == 0
    assert "| one generated Euler 4 |" in capsys.readouterr().out
    assert main(["compare"]) == 2 and "no run" in capsys.readouterr().err
