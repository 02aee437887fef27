import io

import pytest
from rich.console import Console

from tests.judge import save_judge
from textflow.eval.run import references
from textflow.eval.table import table
from textflow.metrics import Scorer


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    texts = ["in the beginning God created the heaven", "and the earth was without form"]
    return references(texts, Scorer(save_judge(tmp_path_factory.mktemp("judge"))))


def printed(records, width: int = 200) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(records))
    return console.file.getvalue()


def test_the_table_prints_all_that_a_perplexity_stands_beside(records):
    text = printed(records)
    for word in (
        "perplexity",
        "entropy",
        "seq-rep-4",
        "clean",
        "empty",
        records[0]["scorer_hash"],
        "float32",
        "seed 0",
    ):
        assert word in text
    assert f"{records[0]['perplexity']:.1f}" in text and "shuffled" in text and "not comparable" not in text


def test_a_missing_perplexity_is_a_dash(records):
    line = next(line for line in printed([records[0] | {"perplexity": None}]).splitlines() if "real" in line)
    assert line.split()[:2] == ["real", "-"]


def test_no_number_is_cut_away_at_the_least_width(records):
    sampled = {"sampler": {"class": "Reinject"}, "steps": 32, "text": "generated", "nfe": 33.0, "seconds": 123.4}
    large = records[0] | sampled | {"perplexity": 12345.6, "tokens": 1024000, "seq_rep_4": 1.0, "n": 1000}
    text = printed([records[1], large], width=125)
    for word in ("generated Reinject 32", "12345.6", "1024000", "100.00%", "1000", "33", "123.4"):
        assert word in text


def test_mixed_protocols_are_named(records):
    text = printed([records[0], records[1] | {"scorer_dtype": "float16"}])
    assert "not comparable: scorer_dtype differ" in text


def test_a_scorer_that_was_not_trained_apart_is_named(records):
    assert "not trained apart" in printed([record | {"apart": False} for record in records])
    assert "not trained apart" not in printed([record | {"apart": None} for record in records])
