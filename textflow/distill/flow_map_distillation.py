"""Distillation into a flow map: one student for steps of every length, conditioned on where each step ends."""

import torch
from torch import Tensor

from textflow.codecs.base import Codec, encode_batch, latent_batch
from textflow.distill.base import StudentObjective, mean_only
from textflow.distill.flow_map import TimePairs, sample_time_pairs
from textflow.distill.row_losses import combine_row_losses, row_mean, row_nll
from textflow.distill.targets.base import Target, TargetInput, TargetOutput
from textflow.distill.targets.flow_map import SemiGroup
from textflow.nets.base import DecodingDenoiser, Denoiser
from textflow.objectives.base import Draws, Objective
from textflow.objectives.elf import ELFDraws, decode_input
from textflow.objectives.row_indices import RowIndices, is_distributed, no_rows, row_indices
from textflow.paths.base import ProbPath
from textflow.types import Batch, Conditioning, Latents


class FlowMapDistillation(StudentObjective):
    """Diagonal rows (steps of length 0) regress the teacher's prediction, the others `target`, decoding rows the
    tokens [ours]. If the teacher's objective has no decoding rows, all rows denoise.

    The targets are those of flow maps and mean flows; rows, guidance and decoding are ELF's. The self-condition is the
    teacher's blind prediction at the start of the step, and is constant along it.

    Args:
        target: SemiGroup, Eulerian, Lagrangian (without projection) or MeanFlow.
        teacher_objective: objective that the teacher was trained for: its time schedule, guidance and rows.
        diagonal_prob: fraction of denoising rows of length 0, in [0, 1].
        full_interval_prob: fraction of the others that go from noise to text in one step, in [0, 1].
        adaptive_weight_power: power of the row's error that the error is divided by, in [0, 1] (MeanFlow, sec. 4); 0
            is the plain square.
        eps: constant that is added to the divisor, > 0.
    """

    target: Target

    def __init__(
        self,
        target: Target | None = None,
        teacher_objective: Objective | None = None,
        diagonal_prob: float = 0.5,
        full_interval_prob: float = 1 / 32,
        adaptive_weight_power: float = 0.0,
        eps: float = 1e-3,
    ) -> None:
        super().__init__(target or SemiGroup(), teacher_objective)
        self.diagonal_prob, self.full_interval_prob = diagonal_prob, full_interval_prob
        self.adaptive_weight_power, self.eps = adaptive_weight_power, eps

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if not net.two_time or getattr(net, "commitment_head", None) is not None:
            raise ValueError(
                "FlowMapDistillation trains a net that is conditioned on the end of a step, without a commitment head; "
                f"{type(net).__name__} as configured is not: use ELF, DiT or LangFlow with two_time: true"
            )
        self.require_teacher()
        x, batch = encode_batch(codec, batch), latent_batch(codec, batch)
        draws = self.teacher_objective.sample_draws(x)
        if isinstance(draws, ELFDraws) and not isinstance(net, DecodingDenoiser):
            raise ValueError(
                "FlowMapDistillation of this teacher trains a net with a decode mode (such as ELF); "
                f"{type(net).__name__} has none"
            )
        return self.loss(net, path, x, batch, draws, self.sample_pairs(x, draws))

    def sample_pairs(self, x: Latents, draws: Draws | ELFDraws) -> TimePairs:
        """Start, end and noise of each row. With stratified rows the number of diagonal rows is drawn on the host (its
        expectation, rounded up or down), so that no step waits for a GPU.

        Args:
            x: latents whose shape is used [B, S, d].
            draws: random numbers of the teacher's objective.
        """
        schedule, full = self.time_schedule, self.full_interval_prob
        counts = self.teacher_objective.row_counts(len(x))
        if counts is None or not isinstance(draws, ELFDraws):  # the number of diagonal rows is unknown, too
            return sample_time_pairs(x, schedule, self.diagonal_prob, full)._replace(num_diagonal=None)
        count = len(x) - counts.decode
        rows = row_indices(~draws.decode, count)
        num_diagonal = int(self.diagonal_prob * count + float(torch.rand((), device="cpu").numpy()))
        pairs = sample_time_pairs(x[:count], schedule, self.diagonal_prob, full, num_diagonal)
        parts = pairs.s, pairs.u, pairs.eps, pairs.diagonal
        s, u, eps, diagonal = (part.new_zeros(len(x), *part.shape[1:]).index_put((rows,), part) for part in parts)
        return TimePairs(s, u, eps, diagonal, pairs.num_diagonal)

    def loss(
        self,
        net: Denoiser,
        path: ProbPath,
        x: Latents,
        batch: Batch,
        draws: Draws | ELFDraws,
        pairs: TimePairs,
    ) -> dict[str, Tensor]:
        """The losses for given draws; rows have equal weights.

        Args:
            net: student, conditioned on the end of its step.
            path: probability path that the latents follow.
            x: clean latents [B, S, d].
            batch: token ids and masks.
            draws: random numbers of the teacher's objective; their t and eps are not used.
            pairs: start, end and noise of each row, as `sample_pairs` draws them.
        """
        counts, z = self.teacher_objective.row_counts(len(x)), path.mix(x, pairs.eps, pairs.s)
        no_row = x.new_zeros(len(x), dtype=torch.bool)
        decode = draws.decode if isinstance(draws, ELFDraws) else no_row
        rows = row_indices(~decode, counts and len(x) - counts.decode)
        self_cond_pos = row_indices(
            (no_row if draws.self_cond is None else draws.self_cond)[rows], counts and counts.self_cond
        )
        subset = TimePairs(pairs.s[rows], pairs.u[rows], pairs.eps[rows], pairs.diagonal[rows], pairs.num_diagonal)
        cond = Conditioning(guidance=draws.guidance).rows(rows)
        error = self.error(net, path, z[rows], subset, cond, self_cond_pos)
        squared = row_mean(error.square().mean(-1), batch.mask[rows])
        power = self.adaptive_weight_power
        weight = (squared.detach() + self.eps) ** -power if power else None

        if not isinstance(draws, ELFDraws) or not isinstance(net, DecodingDenoiser):
            return combine_row_losses(squared, weight, squared.new_zeros(()), decode)
        decode_idx = row_indices(decode, counts and counts.decode)
        noisy = decode_input(x, draws, self.teacher_objective.decode_noise_scale, decode_idx)
        ones, cond = torch.ones_like(pairs.s[decode_idx]), Conditioning(guidance=draws.guidance[decode_idx])
        hidden = net.forward_hidden(noisy, ones, cond, draws.decode[decode_idx])
        nll = row_nll(net.decode_nll, hidden, batch.ids[decode_idx], batch.mask[decode_idx], counts is not None)
        return combine_row_losses(squared, weight, nll, draws.decode)

    def error(
        self,
        net: Denoiser,
        path: ProbPath,
        z: Latents,
        pairs: TimePairs,
        cond: Conditioning,
        self_cond_rows: RowIndices,
    ) -> Latents:
        """The student's prediction less its target, of denoising rows; on rows of length 0 (the diagonal) the target is
        the teacher's prediction."""
        teacher, student, self_cond = mean_only(self.require_teacher()), mean_only(net), torch.zeros_like(z)
        with torch.no_grad():
            first = z[self_cond_rows], pairs.s[self_cond_rows], cond.rows(self_cond_rows)
            self_cond[self_cond_rows] = teacher(*first).mean
        errors = torch.zeros_like(z)
        diagonal = row_indices(pairs.diagonal, pairs.num_diagonal)
        others = row_indices(~pairs.diagonal, len(z) - len(diagonal))
        for rows, end in ((diagonal, pairs.s), (others, pairs.u)):
            if not len(rows) and not is_distributed():
                continue
            z_s, s, u, own = z[rows], pairs.s[rows], end[rows], cond._replace(self_cond=self_cond).rows(rows)
            if rows is diagonal:
                with torch.no_grad():
                    output = TargetOutput(teacher(z_s, s, own).mean)
            else:
                times = self.target.times(s, u, self.time_schedule)
                output = self.target(TargetInput(teacher, student, path, z_s, times, own, no_rows(z)))
            prediction = output.prediction or student(z_s, s, own._replace(end_time=u))
            errors = errors.index_put((rows,), prediction.mean - output.x0_target.detach())
        return errors
