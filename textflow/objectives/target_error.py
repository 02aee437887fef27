"""What a cheaper target costs: its distance from the walk that it stands for."""

from dataclasses import replace

import torch
from torch import Tensor

from textflow.objectives.distill import Distill
from textflow.objectives.elf import Draws
from textflow.paths.base import Path
from textflow.targets.base import keep
from textflow.targets.progressive import Progressive
from textflow.types import Choice, Given, Latents, Mask


@torch.no_grad()
def target_error(
    objective: Distill, path: Path, x: Latents, mask: Mask, draws: Draws, substeps: int, fixed: Choice | None = None
) -> dict[str, Tensor]:
    """Root mean square of x~ - x~* over valid tokens, and its share of that of x_1 - x~*; float64.

    x~* is the target of `substeps` Euler steps of the teacher at full precision, x~ that of the objective on every k-th
    of the same times, x_1 that of a single step.

    Args:
        objective: with a teacher, a target `Progressive` and a precision.
        path: how x is noised.
        x: clean latents of held-out rows; all of them denoise.
        mask: which of their tokens count.
        draws: of `objective.like`.
        substeps: a multiple of the target's.
        fixed: True where a prompt stands.
    """
    cheap, teacher = objective.target, objective.teacher
    if not isinstance(cheap, Progressive) or substeps % cheap.substeps or teacher is None:
        raise ValueError(
            f"target_error compares {cheap} of {teacher} with {substeps} Euler steps: it needs a teacher and a target "
            "Progressive whose substeps divide them"
        )
    long = Distill(replace(cheap, substeps=substeps, order=1), objective.steps, objective.like)
    long.teacher = teacher
    times, given = long.walk(draws.t), Given(w=draws.w, clean=None if fixed is None else x, fixed=fixed)
    z = keep(path.mix(x, draws.eps, times[:, 0]), given)

    valid = mask if fixed is None else mask & ~fixed

    def goal(of: Distill, every: int) -> Tensor:
        return of.lesson(teacher, path, z, times[:, ::every], given, draws.again).goal.double()[valid]

    exact = goal(long, 1)
    off = (goal(objective, substeps // cheap.substeps) - exact).square().mean().sqrt()
    gain = (goal(long, substeps) - exact).square().mean().sqrt()
    return {"error": off, "share": off / gain.clamp_min(1e-12)}
