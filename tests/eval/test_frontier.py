import pytest

from textflow.eval.frontier import draw_frontier, interval_widths
from textflow.eval.measure import reference_records


@pytest.fixture(scope="module")
def records(scorer):
    real, shuffled = reference_records(["in the beginning God created the heaven", "and the earth was"], scorer)
    swept = [shuffled | {"text": "generated", "steps": k, "sweep": {"gamma": g}} for k in (1, 4) for g in (0.0, 0.5)]
    return [real, shuffled, *swept]


@pytest.mark.integration
def test_a_frontier_shows_the_values_of_a_sweep_and_leaves_out_undefined_perplexities(records, tmp_path):
    path = draw_frontier(records, "gamma", tmp_path)
    assert path.name.startswith("frontier-gamma-") and path.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"
    text = path.read_text()
    assert "1 steps" in text and "4 steps" in text and "real text" in text
    undefined = [record | {"perplexity": None} for record in records]
    other = draw_frontier([*records[:4], undefined[4]], "gamma", tmp_path)
    assert other != path and "4 steps" not in other.read_text()
    stories = [record | {"stories/valid": 0.5} for record in undefined]
    assert "valid" in draw_frontier(stories, "gamma", tmp_path).read_text()
    with pytest.raises(ValueError, match="no frontier over gamma"):
        draw_frontier(undefined, "gamma", tmp_path)


def test_bars_reach_from_the_number_to_its_interval():
    bounded = {"entropy": 2.0, "intervals": {"entropy": [1.5, 2.25]}}
    unknown = {"entropy": 2.0, "intervals": {"entropy": [None, None]}}
    assert interval_widths([bounded, unknown], "entropy") == [[0.5, 0.0], [0.25, 0.0]]
