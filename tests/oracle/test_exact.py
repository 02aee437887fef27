"""Exact posterior in latents: against enumeration, and by identities of a posterior."""

from itertools import product

import pytest
import torch
from torch.testing import assert_close

from textflow.noise import Noise
from textflow.oracle import Chain, ExactPosterior, GaussianAtoms, OracleTask
from textflow.oracle.tasks import chain_task, text_task
from textflow.paths import LinearPath
from textflow.types import Conditioning, Latents

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-9)
V, L, D = 3, 3, 2


@pytest.fixture(scope="module")
def tiny() -> ExactPosterior:
    law = Noise([1]).uniform(V + 1, V)[0] ** 3
    law = law / law.sum(-1, keepdim=True)
    return ExactPosterior(Chain(law[0], law[1:]), GaussianAtoms(2 * Noise([2]).normal(V, D)[0].double(), tau=0.5), PATH)


@pytest.fixture(scope="module")
def task() -> OracleTask:
    return chain_task(0)


def noised(task: OracleTask, t: float, rows: int = 64) -> tuple[torch.Tensor, Latents]:
    ids = task.sample(Noise(range(rows)))
    x = task.codec.sample_latents(ids, Noise(range(1000, 1000 + rows))).double()
    return ids, task.path.mix(x, Noise(range(2000, 2000 + rows)).normal_like(x), t)


def enumerate_mean(exact: ExactPosterior, z: Latents, t: torch.Tensor) -> tuple[Latents, torch.Tensor]:
    """E[x | z] and gamma by weighing every text; x given z and a text is Gaussian."""
    texts = torch.tensor(list(product(range(V), repeat=L)))
    tau, x = exact.codec.tau, exact.codec.codes[texts]  # [texts, L, d]
    a, s = t[0, :, None], 2 * (1 - t[0, :, None])
    var = a**2 * tau**2 + s**2
    normal = torch.distributions.Normal(a * x, var.sqrt().expand_as(x))
    p = (normal.log_prob(z).sum((1, 2)) - exact.prior.nll(texts).sum(1)).softmax(0)
    given_text = x + a * tau**2 / var * (z - a * x)
    gamma = torch.einsum("p,plv->lv", p, torch.nn.functional.one_hot(texts, V).double())
    return torch.einsum("p,pld->ld", p, given_text), gamma


@pytest.mark.parametrize("times", [[0.5, 0.5, 0.5], [0.1, 0.9, 0.4], [0.0, 0.3, 0.999]], ids=str)
def test_mean_and_posterior_agree_with_enumeration(tiny: ExactPosterior, times: list[float]) -> None:
    z, t = 2 * Noise([3]).normal(L, D).double(), torch.tensor([times]).double()
    belief = tiny.posterior(z, t)
    mean, gamma = enumerate_mean(tiny, z, t)
    assert_close(belief.mean[0], mean, rtol=1e-10, atol=1e-12)
    assert_close(belief.logits[0].exp(), gamma, rtol=1e-10, atol=1e-12)


def test_one_time_per_row_is_the_time_of_all_positions(tiny: ExactPosterior) -> None:
    z, t = Noise([1, 2]).normal(L, D).double(), torch.tensor([0.3, 0.8]).double()
    assert torch.equal(tiny(z, t).mean, tiny.posterior(z, t[:, None].expand(-1, L)).mean)
    assert not torch.isclose(tiny(z, t).mean, tiny(z, t.flip(0)).mean).any()


def test_the_belief_has_the_type_of_z_and_is_computed_in_float64(task: OracleTask) -> None:
    ids, z = noised(task, 0.4)
    low, high = task.denoiser(z.float(), torch.full((64,), 0.4)), task.denoiser(z, torch.full((64,), 0.4).double())
    assert low.mean.dtype == low.logits.dtype == torch.float32 and high.mean.dtype == torch.float64
    assert_close(low.mean.double(), high.mean, rtol=0, atol=2e-5)


@pytest.mark.integration
@pytest.mark.parametrize("t", [0.3, 0.4, 0.5])
@pytest.mark.parametrize("make", [chain_task, text_task], ids=["chain", "text"])
def test_the_posterior_is_calibrated(make, t: float) -> None:
    """P(argmax gamma != y) = E[1 - max gamma], text by text."""
    ids, z = noised(make(1), t, 256)
    gamma = make(1).denoiser(z, torch.full((256,), t).double()).logits.softmax(-1)
    gap = ((gamma.argmax(-1) != ids).double() - (1 - gamma.amax(-1))).mean(1)
    assert abs(float(gap.mean() / gap.std() * 256**0.5)) < 4
    assert 0.02 < float(1 - gamma.amax(-1).mean()) < 0.9, "the posterior is nearly certain or uninformative"


def test_the_mean_is_calibrated(task: OracleTask) -> None:
    """E[(x - x_hat) . x_hat] = 0: no multiple of a conditional mean is nearer to the truth."""
    ids, z = noised(task, 0.4, 256)
    mean = task.denoiser(z, torch.full((256,), 0.4).double()).mean
    dot = ((task.codec.encode(ids) - mean) * mean).sum(-1).mean(1)
    assert abs(float(dot.mean() / dot.std() * 256**0.5)) < 4


def test_clean_latents_are_decoded_exactly() -> None:
    for task in (chain_task(0), text_task(0)):
        ids, z = noised(task, 1.0)
        belief = task.denoiser(z, torch.ones(64).double())
        assert belief.mean.isfinite().all() and torch.equal(task.codec.decode_logits(z).argmax(-1), ids)
        assert_close(belief.mean, z, rtol=0, atol=1e-9)


def test_a_prompt_is_fixed_and_informs_its_neighbours(task: OracleTask) -> None:
    ids, z = noised(task, 0.2)
    fixed = torch.arange(32).expand(64, -1) % 2 == 0
    clean, t = task.codec.encode(ids).double(), torch.full((64,), 0.2).double()
    prompted, alone = task.denoiser(z, t, Conditioning(prompt=clean, prompt_mask=fixed)), task.denoiser(z, t)
    assert torch.equal(prompted.mean[fixed], clean[fixed])
    assert torch.equal(prompted.logits.argmax(-1)[fixed], ids[fixed])
    hits = [float((b.logits.argmax(-1) == ids)[~fixed].double().mean()) for b in (prompted, alone)]
    assert hits[0] > hits[1] + 0.3
    empty_prompt = Conditioning(prompt=clean, prompt_mask=torch.zeros_like(fixed))
    assert torch.equal(task.denoiser(z, t, empty_prompt).mean, alone.mean)


def test_the_joint_readout_is_exact_even_in_pure_noise(task: OracleTask) -> None:
    """The NLL of joint samples is the entropy of the truth at any time; that of independent samples is higher."""
    n = 256
    entropy = task.prior.initial @ torch.special.entr(task.prior.transition).sum(-1)
    truth = (float(entropy) * 31 + float(torch.special.entr(task.prior.initial).sum())) / 32
    for t in (0.0, 0.4):
        _, z = noised(task, t, n)
        texts = task.exact_posterior.sample_joint(z, torch.full((n, 32), t).double(), Noise(range(n)))
        nll = task.prior.nll(texts).mean(1)
        assert abs(float(nll.mean()) - truth) < 4 * float(nll.std()) / n**0.5
        gamma = task.denoiser(z, torch.full((n,), t).double()).logits.softmax(-1)
        alone = torch.multinomial(gamma.flatten(0, 1), 1, generator=torch.Generator().manual_seed(0)).view(n, 32)
        assert float(task.prior.nll(alone).mean()) > truth + 1


def test_a_row_does_not_depend_on_its_batch(task: OracleTask) -> None:
    _, z = noised(task, 0.4, 5)
    t = torch.linspace(0.1, 0.9, 5).double()
    together = task.denoiser(z, t)
    for i in range(5):
        alone = task.denoiser(z[i : i + 1], t[i : i + 1])
        assert_close(together.mean[i : i + 1], alone.mean, rtol=1e-10, atol=1e-11)


def test_the_derivative_of_the_mean_agrees_with_differences(tiny: ExactPosterior) -> None:
    """d x_hat / d z, the derivative behind stiffness."""
    z, t = Noise([4]).normal(L, D).double(), torch.tensor([0.5]).double()
    push = Noise([5]).normal(L, D).double()
    _, slope = torch.autograd.functional.jvp(lambda z: tiny(z, t).mean, z, push)
    difference = (tiny(z + 1e-5 * push, t).mean - tiny(z - 1e-5 * push, t).mean) / 2e-5
    assert_close(slope, difference, rtol=1e-6, atol=1e-8)
    assert slope.abs().max() > 0.01
