"""The tangent path of Cosmos and DiLaDiff."""

import math

import pytest
import torch

from textflow.paths import ProbPath, TangentPath

PATHS = [TangentPath(1.0), TangentPath(3.0), TangentPath(10.0)]


@pytest.mark.parametrize("path", PATHS)
def test_the_scales_are_the_published_ones_with_time_turned_round(path: TangentPath) -> None:
    noisiness = torch.linspace(0, 0.999, 50, dtype=torch.float64)  # 0 is text, as the papers count
    alpha = 1 / (1 + path.d**2 * torch.tan(math.pi * noisiness / 2) ** 2).sqrt()
    torch.testing.assert_close(path.alpha(1 - noisiness), alpha)
    torch.testing.assert_close(path.alpha(1 - noisiness) ** 2 + path.sigma(1 - noisiness) ** 2, alpha * 0 + 1)


def test_more_d_is_more_noise_by_the_printed_log_snr() -> None:
    ratios = [2 * math.log(path.alpha_sigma(0.5)[0] / path.alpha_sigma(0.5)[1]) for path in PATHS]
    assert ratios == pytest.approx([0.0, -2 * math.log(3), -2 * math.log(10)])  # -4.6 at d = 10


def test_the_ends_are_pure_noise_and_pure_text() -> None:
    x, eps = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    for path in PATHS:
        assert torch.equal(path.mix(x, eps, 1.0), x)
        torch.testing.assert_close(path.mix(x, eps, 0.0), eps, rtol=0, atol=1e-6)
        assert torch.equal(path.step(path.mix(x, eps, 0.3), x, 0.3, 1.0), x)


@pytest.mark.parametrize("path", PATHS)
def test_a_step_is_exact_for_known_text_and_the_velocity_is_the_derivative(path: ProbPath) -> None:
    torch.manual_seed(0)
    x, eps = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    for t, u in ((0.0, 0.2), (0.2, 0.9), (0.9, 1.0)):
        torch.testing.assert_close(path.step(path.mix(x, eps, t), x, t, u), path.mix(x, eps, u))
    rows = torch.tensor([0.3, 0.6])
    torch.testing.assert_close(path.step(path.mix(x, eps, rows), x, rows, rows + 0.3), path.mix(x, eps, rows + 0.3))
    for t in (0.1, 0.5, 0.95):
        slope = (path.mix(x, eps, t + 1e-5) - path.mix(x, eps, t - 1e-5)) / 2e-5
        torch.testing.assert_close(path.velocity(path.mix(x, eps, t), x, t), slope, rtol=1e-6, atol=1e-8)


def test_a_path_without_noise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"d 0\.0 .* needs d above 0"):
        TangentPath(0.0)
