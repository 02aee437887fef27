"""Derivatives of a student along a direction, forward-mode, at about the price of one more pass."""

from collections.abc import Callable

from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from textflow.distill.targets.base import Guess
from textflow.types import Given, Latents, Posterior, Times


def along(
    student: Guess,
    z: Latents,
    s: Times,
    u: Times,
    given: Given,
    direction: tuple[Latents, Times, Times],
    form: Callable[[Latents, Latents, Times], Latents] = lambda x, z, s: x,
) -> tuple[Posterior, Latents, Latents]:
    """The student's belief at (z; s, u); form(its guess, z, s); and the rate of that along a direction, detached.

    Args:
        student: a denoiser that is told the end of its step.
        z: at s.
        s: start.
        u: end.
        given: guidance and prompt.
        direction: (dz, ds, du).
        form: default: the guess itself.
    """

    def ask(z: Tensor, s: Tensor, u: Tensor) -> tuple[Tensor, list[Tensor]]:
        belief = student(z, s, given._replace(until=u))
        return form(belief.mean, z, s), [part for part in belief[:2] if part is not None]

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward mode
        value, rate, *belief = jvp(ask, (z, s, u), direction, has_aux=True)
    return Posterior(*belief[0]), value, rate.detach()
