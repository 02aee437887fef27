"""LangFlow's noise levels against its tensors, and the rule by which they are learned."""

import pytest
import torch

from tests.helpers.langflow_nets import langflow
from tests.helpers.recordings import error, recorded
from textflow.noise import Noise
from textflow.schedules import Gumbel


@pytest.mark.parity
def test_quantiles_ends_and_density_are_langflows() -> None:
    data, _ = recorded("langflow")
    _, law = langflow(data)
    assert law.gamma_min == pytest.approx(float(data["gamma.min"]), rel=1e-5)
    assert law.gamma_max == pytest.approx(float(data["gamma.max"]), rel=1e-5)
    assert error(law.log_pdf(-data["pre.gamma"]), data["pre.log_pdf"]) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("k", recorded("langflow")[1]["config"]["Ks"])
def test_grids_are_langflows(k: int) -> None:
    data, _ = recorded("langflow")
    _, law = langflow(data)
    grid = law.grid(k)
    assert len(grid) == k + 1
    assert error(-torch.tensor(grid[:-1], dtype=torch.float64), data[f"grid.{k}.gamma"].double()) < 1e-5
    assert error(-law.icdf(1 - data[f"grid.{k}.q"].double()), data[f"grid.{k}.gamma64"]) < 1e-7


def test_a_grid_has_as_many_calls_as_steps_and_keeps_to_the_path() -> None:
    law = Gumbel(1.0, 0.5)
    grid = law.grid(5, t_min=-4.0, t_max=9.0)
    assert len(grid) == 6 and grid[0] == -4.0 and grid[-1] == 9.0 and grid == sorted(grid)
    assert grid[-2] == pytest.approx(-law.gamma_min, abs=1e-3)
    drawn = law.grid(5, Noise([3]), -4.0, 9.0)
    assert len(drawn) == 6 and drawn == sorted(drawn) and drawn != grid
    with pytest.raises(ValueError, match="at least 1"):
        law.grid(0)


def test_the_law_is_as_dense_as_the_curve_is_steep() -> None:
    law = Gumbel(1.3, 0.7, 4.0).double()
    t = torch.linspace(-6, 1, 9, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(law.expected_nll(t).sum(), t)  # H falls as t rises
    torch.testing.assert_close(-slope, 4.0 * law.log_pdf(t).exp().detach())
    q = torch.linspace(0.01, 0.99, 7, dtype=torch.float64)
    torch.testing.assert_close(law.expected_nll(law.icdf(q)).detach(), 4.0 * (1 - q))


def test_a_fit_of_the_curve_finds_the_law_that_made_it() -> None:
    torch.manual_seed(0)
    truth, law = Gumbel(4.723, 0.852, 7.02), Gumbel(3.0, 1.2, 5.0, trainable=True)
    optimizer = torch.optim.Adam(law.parameters(), 0.04)
    for _ in range(250):
        t = law.sample(64)
        optimizer.zero_grad()
        (truth.expected_nll(t).detach() - law.expected_nll(t)).square().mean().backward()
        optimizer.step()
    for found, expected in zip(law.parameters(), truth.parameters(), strict=True):
        assert float(found.detach()) == pytest.approx(float(expected), rel=0.02)


def test_times_have_no_gradient_and_a_fixed_law_no_parameters_to_train() -> None:
    law = Gumbel(trainable=True)
    assert not law.sample(3).requires_grad and all(p.requires_grad for p in law.parameters())
    assert not any(p.requires_grad for p in Gumbel().parameters())
    with pytest.raises(ValueError, match=r"needs a scale > 0, a cutoff in \(0, \.5\)"):
        Gumbel(scale=0.0)
