"""The exact posterior over a bank of latents, and the covariance control, against closed forms."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from tests.helpers.independent_tokens import fresh_noise, pair, posterior_at
from textflow.diagnostics.dabi import continuous_dabi
from textflow.diagnostics.empirical_posterior import EmpiricalPosterior
from textflow.diagnostics.perturbation import covariance_root, random_directions
from textflow.noise import Noise
from textflow.paths import LinearPath


def test_a_bank_of_all_codes_gives_the_exact_posterior() -> None:
    task = pair(2.0, 8, scale=3.0)
    terminal = posterior_at(task, 0.5, 20, 40)
    bank = torch.cat([task.codes, task.codes])  # a code that occurs as often as the other
    belief = EmpiricalPosterior(bank, task.path)(terminal.z, 0.5)
    assert_close(belief.mean, terminal.x0_pred)


def test_without_noise_the_posterior_is_the_nearest_latent_and_without_signal_the_mean() -> None:
    bank = Noise([0]).normal(50, 6)[0]
    denoise = EmpiricalPosterior(bank, LinearPath(noise_scale=1.0))
    z = bank[:4][None] + 1e-3
    assert_close(denoise(z, 1.0).mean, bank[:4][None])
    assert_close(denoise(z, 0.0).mean, bank.mean(0).expand(1, 4, 6))
    with pytest.raises(ValueError, match="bank of latents is empty"):
        EmpiricalPosterior(bank[:0], LinearPath())


def test_directions_of_the_covariance_have_the_covariance_and_the_length() -> None:
    scale = torch.tensor([3.0, 1.0, 0.0], dtype=torch.float64)
    turn = torch.linalg.qr(Noise([1]).normal(3, 3)[0].double())[0]
    latents = 5 + (Noise([2]).normal(4000, 3)[0].double() * scale) @ turn
    root = covariance_root(latents)
    assert_close(root.T @ root, latents.T.cov(correction=0))
    r, mask = torch.ones(4, 500, 3, dtype=torch.float64), torch.ones(4, 500, dtype=torch.bool)
    delta = random_directions(r, mask, fresh_noise(4), "covariance", root)
    assert_close(delta.norm(dim=-1), r.norm(dim=-1))
    share = ((delta @ turn.T) ** 2).mean((0, 1))
    assert share[0] == pytest.approx(3 * 0.75, rel=0.05)  # in a plane s / (s + 1), s the ratio of the axes
    assert share[2] < 1e-6
    with pytest.raises(ValueError, match="covariance_root"):
        random_directions(r, mask, fresh_noise(4), "covariance", None)


def test_an_anisotropic_smooth_decoder_is_special_to_isotropic_directions_alone() -> None:
    """Residuals of one length with the latents' directions, and a decoder that enlarges their main axis."""
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    x, r = (Noise(range(i, i + 64)).normal(32, 6).double() * scale for i in (0, 100))
    inputs = (lambda z: z * scale, x, x + F.normalize(r, dim=-1), torch.ones(64, 32, dtype=torch.bool))
    isotropic = continuous_dabi(*inputs, fresh_noise(64))
    covariance = continuous_dabi(*inputs, fresh_noise(64), control="covariance", basis=covariance_root(x.flatten(0, 1)))
    assert isotropic.value > 2 and isotropic.low > 1.5
    assert covariance.value == pytest.approx(1, abs=0.1)
