"""Step distillation: one step of a student is trained towards many steps of its teacher."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.distill.base import StudentObjective, mean_only
from textflow.distill.committing_teacher import CommittingTeacher
from textflow.distill.row_losses import add_row_head_loss, combine_row_losses, row_mean, row_nll
from textflow.distill.targets.base import PredictFn, Target, TargetInput, TargetOutput, TimeGrid
from textflow.escapes.base import Gate
from textflow.layers.frozen import Frozen
from textflow.nets.base import DecodingDenoiser, Denoiser
from textflow.objectives.base import Draws, Objective
from textflow.objectives.elf import ELFDraws, decode_input
from textflow.objectives.row_indices import RowIndices, row_indices
from textflow.paths import ProbPath
from textflow.types import Batch, Conditioning, Ids, Latents, Times


class StepDistillation(StudentObjective):
    """Denoising rows regress a target, decoding rows the tokens, with equal weights of rows (ELF, released code). If
    the teacher's objective has no decoding rows, all rows denoise.

    Args:
        target: target of the student's clean prediction.
        steps: sampling steps of the student; a step is 1 / steps long.
        teacher_objective: objective that the teacher was trained for: its time schedule, guidance and rows.
        teacher_precision: precision of the teacher's passes: `same` as the student's, or `bf16`, which changes the
            target [ours].
        update_teacher: whether the student of one round is the teacher of the next (2202.00512), which changes the
            target; otherwise all rounds use the first teacher (ELF).
        commit_gate: positions where the teacher's predictions become their likeliest tokens, which changes the target
            to one that has committed [ours]; default: none.
        logit_adjustment: tau of the logit adjustment of a teacher that commits, in [0, 1), as in the escape
            LogitAdjustment [ours].
    """

    target: Target
    ema_net: Frozen | None
    embed: Callable[[Ids], Latents] | None

    def __init__(
        self,
        target: Target,
        steps: int = 16,
        teacher_objective: Objective | None = None,
        teacher_precision: Literal["same", "bf16"] = "same",
        update_teacher: bool = False,
        commit_gate: Gate | None = None,
        logit_adjustment: float = 0.0,
    ) -> None:
        super().__init__(target, teacher_objective)
        if steps < 1:
            raise ValueError(f"a student of {steps} steps: it needs at least 1")
        if not 0 <= logit_adjustment < 1 or (logit_adjustment and commit_gate is None):
            raise ValueError(
                f"logit_adjustment is {logit_adjustment}: it needs to be in [0, 1), and above 0 a commit_gate such as "
                "Everywhere"
            )
        self.steps, self.teacher_precision, self.update_teacher = steps, teacher_precision, update_teacher
        self.commit_gate, self.logit_adjustment = commit_gate, logit_adjustment
        self.ema_net = None  # moving average of the student, for targets that evaluate it
        self.embed = None  # token ids -> clean latents, for a teacher that commits

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        self.require_teacher()
        if (path.t_min, path.t_max) != (0, 1):
            raise ValueError(
                f"StepDistillation takes equal steps of a time from 0 to 1, and {type(path).__name__} runs from "
                f"{path.t_min:g} to {path.t_max:g}; use FlowMapDistillation, whose steps have any ends"
            )
        x, batch = encode_batch(codec, batch), latent_batch(codec, batch)
        draws = self.teacher_objective.sample_draws(x)
        if isinstance(draws, ELFDraws) and not isinstance(net, DecodingDenoiser):
            raise ValueError(
                "StepDistillation of this teacher trains a net with a decode mode (such as ELF); "
                f"{type(net).__name__} has none"
            )
        t = draws.t if draws.t.ndim == 1 else self.time_schedule.sample(len(x), device=x.device)  # one time per row
        return self.loss(net, path, x, batch, draws, self.step_times(t))

    def step_times(self, t: Times) -> TimeGrid:
        """The times of a step that starts at t (1 - 1 / steps), and of the teacher's substeps within it."""
        s = t * max(1 - 1 / self.steps, 1e-6)
        return self.target.times(s, s + 1 / self.steps, self.time_schedule)

    def loss(
        self,
        net: Denoiser,
        path: ProbPath,
        x: Latents,
        batch: Batch,
        draws: Draws | ELFDraws,
        times: TimeGrid,
    ) -> dict[str, Tensor]:
        """The losses for given draws. The teacher evaluates denoising rows alone, and its blind prediction is the first
        one of rows without self-conditioning; the student makes one pass, with logits for valid decoding tokens.

        Args:
            net: student.
            path: probability path that the latents follow.
            x: clean latents [B, S, d].
            batch: token ids and masks; a prompt is clean in z and in the self-condition, and not in the loss.
            draws: random numbers of the teacher's objective; their t is not used.
            times: times of each row's step.
        """
        no_row = x.new_zeros(len(x), dtype=torch.bool)
        decode = draws.decode if isinstance(draws, ELFDraws) else no_row
        use_self_cond = no_row if draws.self_cond is None else draws.self_cond
        s, denoise, counts = times[:, 0], ~decode, self.teacher_objective.row_counts(len(x))
        decode_idx = row_indices(decode, counts and counts.decode)
        denoise_idx = row_indices(denoise, counts and len(x) - counts.decode)
        self_cond_pos = row_indices(use_self_cond[denoise_idx], counts and counts.self_cond)
        prompt = None if batch.prompt_mask is None else x
        cond = Conditioning(guidance=draws.guidance, prompt=prompt, prompt_mask=batch.prompt_mask)
        valid = batch.loss_mask()
        z = cond.restore_prompt(path.mix(x, draws.eps, s))
        rows = denoise_idx
        output = self.target_output(net, path, z[rows], times[rows], cond.rows(rows), self_cond_pos)
        self_cond = cond.restore_prompt(torch.zeros_like(x))
        if output.self_cond is not None:
            self_cond[denoise_idx] = output.self_cond
        cond = cond._replace(self_cond=self_cond)
        if not isinstance(draws, ELFDraws) or not isinstance(net, DecodingDenoiser):
            squared = row_mean(((net(z, s, cond).mean - output.x0_target) ** 2).mean(-1), valid)
            return combine_row_losses(squared, output.weight, squared.new_zeros(()), decode)
        noisy = decode_input(x, draws, self.teacher_objective.decode_noise_scale)
        z_in, t_in = torch.where(denoise[:, None, None], z, noisy), torch.where(denoise, s, 1.0)
        hidden = net.forward_hidden(z_in, t_in, cond, decode)
        error = net.predict_x0(hidden[denoise_idx]) - output.x0_target
        squared = row_mean((error**2).mean(-1), valid[denoise_idx])
        fixed_shape = counts is not None
        nll = row_nll(net.decode_nll, hidden[decode_idx], batch.ids[decode_idx], valid[decode_idx], fixed_shape)
        losses = combine_row_losses(squared, output.weight, nll, decode)
        if net.commitment_head is None:
            return losses
        nll = row_nll(net.commitment_nll, hidden[denoise_idx], batch.ids[denoise_idx], valid[denoise_idx], fixed_shape)
        return add_row_head_loss(losses, nll, self.teacher_objective.head_loss_weight, denoise)

    def target_output(
        self,
        net: PredictFn,
        path: ProbPath,
        z: Latents,
        times: TimeGrid,
        cond: Conditioning,
        self_cond_rows: RowIndices,
    ) -> TargetOutput:
        """Target of the student at z."""
        precision = torch.autocast(z.device.type, torch.bfloat16) if self.teacher_precision == "bf16" else nullcontext()
        student = mean_only(net if self.ema_net is None else self.ema_net.module)
        with torch.no_grad(), precision:
            teacher = self.teacher_denoiser(path)
            return self.target(TargetInput(teacher, student, path, z, times, cond, self_cond_rows))

    def teacher_denoiser(self, path: ProbPath) -> PredictFn:
        """The teacher as the target evaluates it."""
        net = self.require_teacher()
        if self.commit_gate is None:
            return mean_only(net)
        if not isinstance(net, DecodingDenoiser) or self.embed is None:
            raise ValueError("commit_gate needs a teacher that decodes tokens (ELF) and a codec that embeds them")
        scale = self.teacher_objective.decode_noise_scale
        return CommittingTeacher(net, self.commit_gate, self.embed, path, scale, self.logit_adjustment)
