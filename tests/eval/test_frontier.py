import pytest

from tests.helpers.tiny_scorer import save_judge
from textflow.eval.frontier import draw_frontier, interval_widths
from textflow.eval.measure import reference_records
from textflow.metrics import Scorer


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    judge = Scorer(save_judge(tmp_path_factory.mktemp("judge")))
    real, mixed = reference_records(["in the beginning God created the heaven", "and the earth was"], judge)
    swept = [mixed | {"text": "generated", "steps": k, "sweep": {"gamma": g}} for k in (1, 4) for g in (0.0, 0.5)]
    return [real, mixed, *swept]


def test_a_frontier_is_drawn_with_the_values_of_what_was_swept(records, tmp_path):
    path = draw_frontier(records, "gamma", tmp_path)
    assert path.name.startswith("frontier-gamma-") and path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    text = path.read_text()
    assert "1 steps" in text and "4 steps" in text and "real text" in text
    assert draw_frontier(records, "gamma", tmp_path) == path != draw_frontier(records[:-1], "gamma", tmp_path)


def test_cells_without_a_perplexity_are_left_out_and_without_any_it_is_said(records, tmp_path):
    silent = [record | {"perplexity": None} for record in records]
    draw_frontier([*records[:4], *silent[4:]], "gamma", tmp_path)
    with pytest.raises(ValueError, match="no frontier over gamma"):
        draw_frontier(silent, "gamma", tmp_path)


def test_bars_reach_from_the_number_to_its_interval(records):
    one = {"entropy": 2.0, "intervals": {"entropy": [1.5, 2.25]}}
    none = {"entropy": 2.0, "intervals": {"entropy": [None, None]}}
    assert interval_widths([one, none], "entropy") == [[0.5, 0.0], [0.25, 0.0]]
