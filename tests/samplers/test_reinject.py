"""How much noise each form of re-injection leaves, against the closed forms."""

import math

import pytest
import torch

from tests.helpers.sampling import one_step
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Reinject
from textflow.types import Latents, Posterior

PATH = LinearPath(noise_scale=2.0)


def asked(form: str, t: float, keep: float) -> tuple[Latents, float]:
    """State and time at which a step of 0.25 asks the network, for the path's noise around the text 0."""
    met = []

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        met.append((z, t))
        return Posterior(torch.zeros_like(z))

    z = PATH.mix(torch.zeros(1, 400, 100, dtype=torch.float64), Noise([1]).normal(400, 100).double(), t)
    one_step(Reinject((1 - keep) / 0.25, form), denoise, PATH, z, t, t + 0.25, None, Noise([2]))
    return met[0]


@pytest.mark.parametrize(("t", "c"), [(0.2, 0.8), (0.5, 0.6), (0.7, 0.25), (0.5, 0.0)])
def test_the_noise_left_is_that_of_the_closed_forms(t: float, c: float) -> None:
    """Exact: the path's own, (1 - c t) scale. Released and printed: sqrt(c^2 (1 - t)^2 + (1 - c)^2) scale, less."""
    released = math.hypot(c * (1 - t), 1 - c)
    for form, expected in (("marginal_preserving", 1 - c * t), ("code", released), ("paper", released)):
        z, back = asked(form, t, c)
        assert back == pytest.approx(c * t, abs=1e-12)
        assert float(z.std()) / PATH.noise_scale == pytest.approx(expected, rel=5 / math.sqrt(2 * z.numel())), form
    assert c == 0 or released < 0.98 * (1 - c * t), "the two cannot be told apart here"
