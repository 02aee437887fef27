"""What another target costs: its distance from the walk that it stands for."""

import torch
from torch import Tensor

from textflow.distill.step import Distill
from textflow.distill.targets.progressive import Progressive
from textflow.distill.targets.salimans_ho import SalimansHo
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser
from textflow.objectives.elf import Draws
from textflow.objectives.row_indices import places
from textflow.paths.base import Path
from textflow.types import Choice, Given, Latents, Mask, keep


@torch.no_grad()
def target_error(
    objective: Distill,
    path: Path,
    x: Latents,
    mask: Mask,
    draws: Draws,
    substeps: int,
    fixed: Choice | None = None,
    exact: Denoiser | None = None,
) -> dict[str, Tensor]:
    """Root mean square of x~ - x~* over valid tokens, and its share of that of x_1 - x~*; float64.

    x~* is the target of `substeps` Euler steps of the teacher at full precision, x~ that of the objective (on every
    k-th of the same times, where it walks as many), x_1 that of a single step.

    Args:
        objective: with a teacher, and a target `Progressive` or `SalimansHo`.
        path: how x is noised.
        x: clean latents of held-out rows; all of them denoise.
        mask: which of their tokens count.
        draws: of `objective.like`.
        substeps: a multiple of the target's.
        fixed: True where a prompt stands.
        exact: the teacher of x~*; default: the objective's.
    """
    cheap, teacher = objective.target, objective.teacher
    own = cheap.substeps if isinstance(cheap, Progressive) else 2
    if not isinstance(cheap, (Progressive, SalimansHo)) or substeps % own or teacher is None:
        raise ValueError(
            f"target_error compares {cheap} of {teacher} with {substeps} Euler steps: it needs a teacher and a target "
            "Progressive whose substeps divide them, or SalimansHo"
        )
    spread = cheap.spread if isinstance(cheap, Progressive) else "even"
    long = Distill(Progressive(substeps, spread), objective.steps, objective.like)
    long.teacher = teacher if exact is None else Frozen(exact)
    times, given = long.walk(draws.t), Given(w=draws.w, clean=None if fixed is None else x, fixed=fixed)
    z = keep(path.mix(x, draws.eps, times[:, 0]), given)
    valid = mask if fixed is None else mask & ~fixed
    short = times[:, :: substeps // own] if isinstance(cheap, Progressive) else objective.walk(draws.t)

    def goal(of: Distill, walk: Tensor) -> Tensor:
        return of.lesson(teacher, path, z, walk, given, places(draws.again)).goal.double()[valid]

    star = goal(long, times)
    off = (goal(objective, short) - star).square().mean().sqrt()
    gain = (goal(long, times[:, ::substeps]) - star).square().mean().sqrt()
    return {"error": off, "share": off / gain.clamp_min(1e-12)}
