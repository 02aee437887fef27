"""ELF's distillation step as it is published: the oracle and the yardstick of the lean one."""

import torch
from torch import Tensor

from textflow.distill.step import Distill, means, row_mean
from textflow.distill.targets.base import Guess, Walk
from textflow.distill.targets.progressive import inversion
from textflow.nets.base import Speaker
from textflow.objectives.elf import Draws
from textflow.paths.base import Path
from textflow.reference.elf import surprise
from textflow.types import Batch, Choice, Given, Latents, keep


@torch.no_grad()
def plain_target(teacher: Guess, path: Path, z: Latents, prev: Latents, times: Walk, given: Given) -> Latents:
    """Euler's rule on all rows, then the step of the student inverted (ELF, released code)."""
    end = z
    for i in range(times.shape[1] - 1):
        t, u = times[:, i], times[:, i + 1]
        prev = keep(teacher(end, t, given._replace(prev=prev)).mean, given)
        end = path.step(end, prev, t, u)
    return inversion(path, z, end, times[:, 0], times[:, -1])


def plain_distill(
    objective: Distill,
    net: Speaker,
    teacher: Guess,
    path: Path,
    x: Latents,
    batch: Batch,
    draws: Draws,
    times: Walk,
    fixed: Choice | None = None,
) -> dict[str, Tensor]:
    """`Distill.loss` for `Progressive`: a blind guess and a walk of the teacher on all rows, logits of all tokens."""
    s, decode = times[:, 0], draws.decode
    given = Given(w=draws.w, clean=None if fixed is None else x, fixed=fixed)
    valid = batch.mask if fixed is None else batch.mask & ~fixed
    z, blank = keep(path.mix(x, draws.eps, s), given), keep(torch.zeros_like(x), given)
    with torch.no_grad():
        blind = keep(teacher(z, s, given._replace(prev=blank)).mean, given)
    prev = torch.where((draws.again & ~decode)[:, None, None], blind, blank)
    target = plain_target(teacher, path, z, prev, times, given)
    share = draws.share[..., None]
    noisy = share * x + (1 - share) * objective.like.decode_scale * draws.decode_eps
    hidden = net.trunk(
        torch.where(decode[:, None, None], noisy, z), torch.where(decode, 1.0, s), given._replace(prev=prev), decode
    )
    square = row_mean(((net.mean(hidden) - target) ** 2).mean(-1), valid)[~decode]
    nll = row_mean(surprise(net.logits(hidden), batch.ids), valid)[decode]
    return means(square, None, nll.sum(), decode)
