"""Error of a distillation target: its distance from the teacher's full-precision rollout."""

import torch
from torch import Tensor

from textflow.distill.step import StepDistillation
from textflow.distill.targets.progressive import Progressive
from textflow.distill.targets.salimans_ho import SalimansHo
from textflow.layers.frozen import Frozen
from textflow.nets.base import Denoiser
from textflow.objectives.elf import ELFDraws
from textflow.objectives.row_indices import row_indices
from textflow.paths.base import ProbPath
from textflow.types import Conditioning, Latents, Mask, PositionMask


@torch.no_grad()
def target_error(
    objective: StepDistillation,
    path: ProbPath,
    x: Latents,
    mask: Mask,
    draws: ELFDraws,
    num_substeps: int,
    prompt_mask: PositionMask | None = None,
    reference_teacher: Denoiser | None = None,
) -> dict[str, Tensor]:
    """Root mean square of x~ - x~* over valid tokens, absolute and relative to that of x_1 - x~*; float64.

    x~* is the target of `num_substeps` Euler steps of the teacher at full precision, x~ that of the objective (on every
    k-th of the same times, if progressive), x_1 that of a single step.

    Args:
        objective: distillation objective with a teacher and a `Progressive` or `SalimansHo` target.
        path: probability path.
        x: clean latents of held-out rows; all rows are denoising rows.
        mask: True at tokens to measure.
        draws: random draws of `objective.teacher_objective`.
        num_substeps: Euler steps of x~*, a multiple of the target's substeps.
        prompt_mask: True on a prompt, which stays clean; default: no prompt.
        reference_teacher: teacher for x~*; default: the objective's.
    """
    cheap, teacher = objective.target, objective.teacher
    own = cheap.substeps if isinstance(cheap, Progressive) else 2
    if not isinstance(cheap, (Progressive, SalimansHo)) or num_substeps % own or teacher is None:
        raise ValueError(
            f"target_error compares {cheap} of {teacher} with {num_substeps} Euler steps: it needs a teacher and a "
            "target Progressive whose substeps divide them, or SalimansHo"
        )
    spread = cheap.substep_times if isinstance(cheap, Progressive) else "quantile"
    long = StepDistillation(Progressive(num_substeps, spread), objective.steps, objective.teacher_objective)
    long.teacher = teacher if reference_teacher is None else Frozen(reference_teacher)
    prompt, times = None if prompt_mask is None else x, long.step_times(draws.t)
    cond = Conditioning(guidance=draws.guidance, prompt=prompt, prompt_mask=prompt_mask)
    z = cond.restore_prompt(path.mix(x, draws.eps, times[:, 0]))
    valid = mask if prompt_mask is None else mask & ~prompt_mask
    short = times[:, :: num_substeps // own] if isinstance(cheap, Progressive) else objective.step_times(draws.t)

    def x0_target(of: StepDistillation, grid: Tensor) -> Tensor:
        return of.target_output(teacher, path, z, grid, cond, row_indices(draws.self_cond)).x0_target.double()[valid]

    reference = x0_target(long, times)
    off = (x0_target(objective, short) - reference).square().mean().sqrt()
    gain = (x0_target(long, times[:, ::num_substeps]) - reference).square().mean().sqrt()
    return {"error": off, "relative_error": off / gain.clamp_min(1e-12)}
