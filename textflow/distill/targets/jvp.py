"""Derivatives of a student along a direction, in forward mode, at about the cost of one more pass."""

from collections.abc import Callable

from torch import Tensor
from torch.func import jvp
from torch.nn.attention import SDPBackend, sdpa_kernel

from textflow.distill.targets.base import PredictFn
from textflow.types import Conditioning, Latents, Posterior, Times


def denoiser_jvp(
    student: PredictFn,
    z: Latents,
    s: Times,
    u: Times,
    cond: Conditioning,
    direction: tuple[Latents, Times, Times],
    transform: Callable[[Latents, Latents, Times], Latents] = lambda x, z, s: x,
) -> tuple[Posterior, Latents, Latents]:
    """The student's belief at (z; s, u), transform(its mean, z, s), and the derivative of the latter, detached.

    Args:
        student: denoiser that is conditioned on the end of its step.
        z: latents at s [B, S, d].
        s: start of each row's step [B].
        u: end of each row's step [B].
        cond: guidance and prompt.
        direction: direction (dz, ds, du) of the derivative.
        transform: (mean, z, s) -> quantity to differentiate; default: the mean.
    """

    def evaluate(z: Tensor, s: Tensor, u: Tensor) -> tuple[Tensor, list[Tensor]]:
        belief = student(z, s, cond._replace(end_time=u))
        return transform(belief.mean, z, s), [part for part in belief[:2] if part is not None]

    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward mode
        value, rate, *belief = jvp(evaluate, (z, s, u), direction, has_aux=True)
    return Posterior(*belief[0]), value, rate.detach()
