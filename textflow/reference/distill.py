"""ELF's distillation step as published: the oracle for tests and the baseline for benchmarks."""

import torch
from torch import Tensor

from textflow.distill.row_losses import combine_row_losses, row_mean
from textflow.distill.step import StepDistillation
from textflow.distill.targets.base import PredictFn, TimeGrid
from textflow.distill.targets.progressive import invert_step
from textflow.nets.base import DecodingDenoiser
from textflow.objectives.elf import ELFDraws
from textflow.paths.base import ProbPath
from textflow.reference.elf import token_nll_of
from textflow.types import Batch, Conditioning, Latents


@torch.no_grad()
def reference_rollout_target(
    teacher: PredictFn, path: ProbPath, z: Latents, self_cond: Latents, times: TimeGrid, cond: Conditioning
) -> Latents:
    """Euler steps of the teacher on all rows, then the student's step inverted (ELF, released code)."""
    end = z
    for i in range(times.shape[1] - 1):
        t, u = times[:, i], times[:, i + 1]
        self_cond = cond.restore_prompt(teacher(end, t, cond._replace(self_cond=self_cond)).mean)
        end = path.step(end, self_cond, t, u)
    return invert_step(path, z, end, times[:, 0], times[:, -1])


def reference_distill_loss(
    objective: StepDistillation,
    net: DecodingDenoiser,
    teacher: PredictFn,
    path: ProbPath,
    x: Latents,
    batch: Batch,
    draws: ELFDraws,
    times: TimeGrid,
) -> dict[str, Tensor]:
    """`StepDistillation.loss` for `Progressive`, with a blind prediction and a teacher rollout on all rows and logits
    of all tokens."""
    s, decode = times[:, 0], draws.decode
    prompt = None if batch.prompt_mask is None else x
    cond = Conditioning(guidance=draws.guidance, prompt=prompt, prompt_mask=batch.prompt_mask)
    valid = batch.loss_mask()
    z, blank = cond.restore_prompt(path.mix(x, draws.eps, s)), cond.restore_prompt(torch.zeros_like(x))
    with torch.no_grad():
        blind = cond.restore_prompt(teacher(z, s, cond._replace(self_cond=blank)).mean)
    prev = torch.where((draws.self_cond & ~decode)[:, None, None], blind, blank)
    target = reference_rollout_target(teacher, path, z, prev, times, cond)
    clean = draws.clean_fraction[..., None]
    noisy = clean * x + (1 - clean) * objective.teacher_objective.decode_noise_scale * draws.decode_eps
    hidden = net.forward_hidden(
        torch.where(decode[:, None, None], noisy, z),
        torch.where(decode, 1.0, s),
        cond._replace(self_cond=prev),
        decode,
    )
    square = row_mean(((net.predict_x0(hidden) - target) ** 2).mean(-1), valid)[~decode]
    nll = row_mean(token_nll_of(net.lm_logits(hidden), batch.ids), valid)[decode]
    return combine_row_losses(square, None, nll.sum(), decode)
