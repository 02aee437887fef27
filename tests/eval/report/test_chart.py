"""Charts and axes."""

import pytest

from textflow.eval.report.axis import Axis, Scale
from textflow.eval.report.chart import Series, render_chart
from textflow.eval.report.training import downsample


def test_a_logarithmic_axis_omits_values_that_are_not_positive() -> None:
    points = [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0), (10.0, 100.0)]
    svg = render_chart("t", Axis("x", "log"), Axis("y", "log"), [Series("a", points)])
    assert svg.count('class="dot"') == 2
    scale = Axis("y", "log").fit([1.0, 100.0], 0.0, 1.0)
    assert scale.position(0.0) is None and scale.position(10.0) == pytest.approx(0.5)
    assert all(0 <= (scale.position(tick) or 0) <= 1 for tick in scale.ticks) and len(scale.ticks) >= 3


@pytest.mark.parametrize("points", [[], [(1.0, 1.0)], [(0.0, 0.0), (0.0, 0.0)], [(1e-9, 1e9), (1.0, -5.0)]])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_any_points_give_a_chart(points: list[tuple[float, float]], scale: Scale) -> None:
    svg = render_chart("t", Axis("x", scale), Axis("y", scale), [Series("a", points)])
    assert "nan" not in svg and "inf" not in svg and svg.endswith("</ul>")


def test_long_curves_are_downsampled_to_means() -> None:
    points = [(float(i), float(i % 2)) for i in range(3000)]
    means = downsample(points)
    assert len(means) == 300 and all(y == 0.5 for _, y in means) and means[0][0] == 4.5
    assert downsample(points[:10]) == points[:10]
