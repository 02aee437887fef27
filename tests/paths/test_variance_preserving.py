"""The variance-preserving path against LangFlow's tensors and its own differential equation."""

import math

import pytest
import torch

from tests.helpers.recordings import error, recorded
from textflow.paths import VariancePreserving

PATH = VariancePreserving()


@pytest.mark.parity
def test_scales_and_step_are_langflows() -> None:
    data, _ = recorded("langflow")
    t = -data["pre.gamma"]
    assert error(PATH.alpha(t), data["pre.alpha"]) < 1e-5
    assert error(PATH.sigma(t), data["pre.sigma"]) < 1e-5
    times = (-float(data[f"step.gamma_{end}"]) for end in ("from", "to"))
    assert error(PATH.step(data["fwd.z"], data["step.x_pred"], *times), data["step.z_next"]) < 1e-5


def test_a_step_is_exact_for_known_text() -> None:
    torch.manual_seed(0)
    x, eps = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    for t, u in ((-14.0, -2.0), (-2.0, 3.0), (-700.0, 700.0)):
        torch.testing.assert_close(PATH.step(PATH.mix(x, eps, t), x, t, u), PATH.mix(x, eps, u))
    rows = torch.tensor([-3.0, 1.0])
    torch.testing.assert_close(PATH.step(PATH.mix(x, eps, rows), x, rows, rows + 1), PATH.mix(x, eps, rows + 1))


def test_the_velocity_is_the_paths_derivative() -> None:
    torch.manual_seed(0)
    x, eps = torch.randn(2, 3, 4).double(), torch.randn(2, 3, 4).double()
    for t in (-9.0, -1.0, 0.0, 4.0):
        slope = (PATH.mix(x, eps, t + 1e-5) - PATH.mix(x, eps, t - 1e-5)) / 2e-5
        torch.testing.assert_close(PATH.velocity(PATH.mix(x, eps, t), x, t), slope, rtol=1e-7, atol=1e-9)


def test_a_rewound_state_has_the_marginal_of_its_time() -> None:
    torch.manual_seed(0)
    x, eps, fresh = torch.full((1, 1, 1), 3.0), torch.randn(1, 20000, 1), torch.randn(1, 20000, 1)
    z = PATH.rewind(PATH.mix(x.expand_as(eps), eps, 0.5), fresh, 0.5, -1.0)
    time = torch.tensor(-1.0)
    assert float(z.mean()) == pytest.approx(3 * float(PATH.alpha(time)), abs=0.03)
    assert float(z.std()) == pytest.approx(float(PATH.sigma(time)), abs=0.03)


def test_noise_before_the_noisy_end_counts_as_pure() -> None:
    assert PATH.fraction(PATH.t_min) == 0 == PATH.fraction(-math.inf)
    assert PATH.fraction(PATH.t_max) == 1 and 0 < PATH.fraction(0.0) < 1
    with pytest.raises(ValueError, match="needs t_min < t_max"):
        VariancePreserving(1.0, 1.0)
