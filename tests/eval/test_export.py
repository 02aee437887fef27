import csv
import io

import pytest

from textflow.eval.compare import load_published
from textflow.eval.export import FORMATS, escape_latex, to_csv, to_latex, to_markdown
from textflow.eval.measure import reference_records


@pytest.fixture(scope="module")
def records(scorer):
    texts = ["in the beginning God created the heaven", "and the earth was without form", ""]
    real, shuffled = reference_records(texts, scorer)
    return [real | {"deviations": ["n 3 for 1000"]}, shuffled | {"label": "a_b|c & 50%", "perplexity": None}]


def test_csv_has_exact_numbers_and_the_ends_of_their_intervals(records):
    real, shuffled = csv.DictReader(io.StringIO(to_csv(records)))
    assert float(real["perplexity"]) == records[0]["perplexity"] and shuffled["perplexity"] == ""
    assert [float(real["entropy_low"]), float(real["entropy_high"])] == records[0]["intervals"]["entropy"]
    assert real["mark"] == "†" and real["deviations"] == "n 3 for 1000" and shuffled["mark"] == ""
    assert (real["n"], real["empty"], shuffled["label"]) == ("3", "1", "a_b|c & 50%")
    assert real["scorer_hash"] == records[0]["scorer_hash"] and real["aggregation"].startswith("corpus")


def test_csv_names_the_units_that_were_shuffled_where_they_are_no_words(records):
    real, shuffled = csv.DictReader(io.StringIO(to_csv([records[0], records[1] | {"shuffled_units": "characters"}])))
    assert (real["shuffled_units"], shuffled["shuffled_units"]) == ("", "characters")
    assert "shuffled_units" not in to_csv(records)


def test_markdown_has_equal_cells_in_each_line_and_notes_below(records):
    table, _, notes = to_markdown(records).partition("\n\n")
    lines = [line.replace(r"\|", "").count("|") for line in table.splitlines()]
    assert len(lines) == 4 and len(set(lines)) == 1
    value, (low, high) = records[0]["entropy"], records[0]["intervals"]["entropy"]
    assert f"| {value:.2f} ({low:.2f}-{high:.2f}) |" in table and "| real (†) |" in table and "| - |" in table
    assert "- † real: n 3 for 1000" in notes and records[0]["scorer_hash"] in notes


def test_latex_has_a_cell_for_each_column_and_balanced_braces(records):
    text = to_latex(records)
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {text.splitlines()[0].split("{l")[1].count("r")}
    assert r"a\_b|c \& 50\%" in text and text.count("{") == text.count("}")
    assert escape_latex(r"\a_b^c~{d}") == r"\textbackslash{}a\_b\textasciicircum{}c\textasciitilde{}\{d\}"


def test_each_format_takes_published_rows_and_prints_no_nan(records):
    for write in FORMATS.values():
        text = write([*load_published("few_step"), *records])
        assert "nan" not in text.lower() and "Duo+DCD" in text and "as each paper reports it" in text
