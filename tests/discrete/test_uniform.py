"""The uniform process: its published bound, posterior and curriculum, and the laws that they have."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.helpers.recordings import constant, error, recorded
from textflow.discrete import DuoObjective, UniformProcess
from textflow.discrete.duo import diffuse
from textflow.discrete.uniform import gaussian_survival, nelbo, posterior
from textflow.samplers.categorical import sample_by_gumbel

V = 7


@cache
def data() -> dict[str, Tensor]:
    return recorded("duo")[0]


@pytest.mark.parity
def test_the_process_is_the_published_one() -> None:
    t = 1 - data()["t"].double()
    process = UniformProcess()
    assert error(process.survival(t).float(), data()["alpha"]) < 1e-6
    assert error(-(process.rate(t) * process.survival(t)).float(), data()["dalpha"].expand(len(t))) < 1e-6
    noisy = process.corrupt(data()["x0"], data()["draw.tokens"], data()["draw.uniform"], t)
    assert torch.equal(noisy, data()["xt"])


@pytest.mark.parity
def test_the_bound_and_its_gradient_are_the_published_ones() -> None:
    log_p = data()["log_p"].clone().requires_grad_()
    times = data()["alpha"], -data()["dalpha"].expand(len(data()["alpha"]))
    bound = nelbo(log_p, data()["x0"], data()["xt"], *times)
    bound.mean().backward()  # type: ignore[no-untyped-call]
    assert error(bound, data()["nll_per_token"]) < 1e-4
    assert log_p.grad is not None and error(log_p.grad, data()["grad_log_p"]) < 1e-4
    exact = nelbo(data()["log_p"].double(), data()["x0"], data()["xt"], *(each.double() for each in times))
    assert error(exact, data()["nll_per_token64"]) < 1e-10


@pytest.mark.parity
def test_the_posterior_and_its_samples_are_the_published_ones() -> None:
    for row, (alpha, alpha_s) in enumerate(zip(data()["alpha"].tolist(), data()["alpha_s"].tolist(), strict=True)):
        one = slice(row, row + 1)
        law = posterior(data()["log_p"][one].double().exp(), data()["xt"][one], alpha, alpha_s)
        assert error(law, data()["posterior"][one]) < 1e-6
        torch.testing.assert_close(law.sum(-1), torch.ones(law.shape[:-1]).double(), rtol=0, atol=1e-6)
        assert torch.equal(sample_by_gumbel(law, data()["draw.gumbel_uniform"][one]), data()["x_s"][one])


@pytest.mark.parity
def test_the_curriculum_is_the_published_one() -> None:
    for key, gamma in data().items():
        if key.startswith("transform.") and key.endswith(".gamma"):
            survival = gaussian_survival(gamma, int(key.split(".")[1]))
            assert error(survival, data()[key.replace("gamma", "alpha")]) < 1e-9
    eps = data()["curriculum.eps"]
    latents = diffuse(data()["x0"], data()["curriculum.gamma"], eps)
    assert error(latents, data()["curriculum.w"]) < 1e-5
    assert torch.equal(latents.argmax(-1), data()["curriculum.argmax"])


@pytest.mark.parity
def test_the_network_reads_the_published_softmax_in_the_curriculum() -> None:
    gamma, low = data()["curriculum.gamma"].double(), float(data()["curriculum.gamma"].min()) - 1
    temperature = constant(recorded("duo")[1]["config"], "curriculum_temperature")
    objective = DuoObjective(gamma_min=low, gamma_max=low + 5, temperature=temperature)
    noisy = objective.curriculum(data()["x0"], 1 - (gamma - low) / 5, data()["curriculum.eps"])
    assert error(noisy.tokens, data()["curriculum.soft"]) < 1e-4  # a temperature of 1/100 enlarges rounding
    assert torch.equal(noisy.ids, data()["curriculum.argmax"])


def test_argmax_of_gaussian_latents_is_a_token_of_the_uniform_process() -> None:
    ids, gamma = torch.zeros(1, 40_000, dtype=torch.long), torch.tensor([-0.5])
    eps = torch.randn(1, 40_000, V, generator=torch.Generator().manual_seed(0))
    drawn = diffuse(ids, gamma, eps).argmax(-1)
    alpha = float(gaussian_survival(gamma, V))
    share = torch.bincount(drawn[0], minlength=V) / drawn.numel()
    law = torch.full((V,), (1 - alpha) / V).index_add(0, torch.tensor([0]), torch.tensor([alpha]))
    assert bool(((share - law).abs() < 4 * (law * (1 - law) / drawn.numel()).sqrt()).all())


def test_the_bound_of_the_true_law_is_its_entropy() -> None:
    """Independent tokens: with p(x | the other tokens) the bound is tight."""
    law = torch.tensor([0.6, 0.3, 0.1]).double()
    torch.manual_seed(0)
    ids = torch.multinomial(law.float(), 400 * 400, replacement=True).view(400, 400)
    objective = DuoObjective(curriculum_steps=0)
    t = objective.sample_times(torch.rand(400, dtype=torch.float64))
    noisy = objective.corrupt(ids, t, torch.rand(ids.shape, dtype=torch.float64), torch.randint_like(ids, 3))
    log_p = law.log().expand(400, 400, 3)
    bound = nelbo(log_p, ids, noisy.ids, noisy.alpha, noisy.rate).mean()
    assert math.isclose(float(bound), float(torch.special.entr(law).sum()) * 0.999, rel_tol=0.02)
