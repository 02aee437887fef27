"""The objective of FLM (2602.16813): cross-entropy of one-hot latents without a tensor as wide as the vocabulary."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.codecs import Codec, OneHot
from textflow.nets.base import Denoiser
from textflow.nets.dit import DiT
from textflow.objectives.base import Draws, Objective
from textflow.paths.base import ProbPath
from textflow.schedules.base import TimeSchedule
from textflow.schedules.uniform import Uniform
from textflow.types import Batch, Latents


class FLMObjective(Objective):
    """-log p(token | z_t), a mean over valid tokens, z_t = alpha onehot + sigma eps (FLM, sec. 3).

    The net sees z_t only through its table E: z_t E = alpha E[token] + sigma eps E, and eps E has the law of w C with
    C^T C = E^T E and w as narrow as E [ours]. The cross-entropy is computed in chunks of tokens.

    Args:
        time_schedule: law of training times, one in each of as many equal parts as there are rows (FLM: of the global
            batch; here of each process's); default: uniform.
        loss_on_padding: whether padding counts in the loss.
    """

    def __init__(self, time_schedule: TimeSchedule | None = None, loss_on_padding: bool = False) -> None:
        super().__init__()
        self.time_schedule, self.loss_on_padding = time_schedule or Uniform(), loss_on_padding

    def sample_draws(self, x: Latents) -> Draws:
        return Draws(self.time_schedule.sample_stratified(len(x), x.device), torch.randn_like(x))

    def forward(self, net: Denoiser, codec: Codec, path: ProbPath, batch: Batch, step: int) -> dict[str, Tensor]:
        if not isinstance(net, DiT) or not isinstance(codec, OneHot):
            raise ValueError(
                f"FLMObjective trains the net DiT on the codec OneHot, not {type(net).__name__} on "
                f"{type(codec).__name__}: use the objective CrossEntropy"
            )
        t = self.time_schedule.sample_stratified(len(batch.ids), batch.ids.device)
        return self.loss(net, path, batch, Draws(t, net.of_table(lambda table: table_noise(table, *batch.ids.shape))))

    def loss(self, net: DiT, path: ProbPath, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """The losses for given draws; a prompt is clean in z and has no loss.

        Args:
            net: denoiser to train.
            path: how latents are noised.
            batch: token ids and masks.
            draws: times, and noise in the space of the table, eps E [B, L, width].
        """
        x = net.of_table(lambda table: F.embedding(batch.ids, table))
        z = path.mix(x, draws.eps, draws.t)
        if batch.prompt_mask is not None:
            z = torch.where(batch.prompt_mask[..., None], x, z)
        valid = batch.loss_mask(self.loss_on_padding)
        nll = net.decode_nll(net.forward_hidden(z, draws.t)[valid], batch.ids[valid])
        total = valid.sum()
        return {"loss": nll / total.clamp_min(1), "tokens": total}


def table_noise(table: Tensor, rows: int, length: int) -> Float[Tensor, "rows length width"]:
    """Standard normal one-hot noise times the table, drawn in the table's width; its gradient reaches the table.

    Args:
        table: E [V, width].
        rows: number of rows.
        length: number of positions.
    """
    factor = table if len(table) <= table.shape[1] else covariance_factor(table)
    return torch.randn(rows, length, len(factor), device=table.device, dtype=table.dtype) @ factor


def covariance_factor(table: Tensor, jitter: float = 1e-6) -> Float[Tensor, "width width"]:
    """C with C^T C = E^T E, by Cholesky in float64.

    Args:
        table: E [V, width].
        jitter: part of the mean variance that is added to each, so that a table of less rank has a factor.
    """
    with torch.autocast(table.device.type, enabled=False):
        half = table.detach().T @ table  # Cholesky's gradient is symmetric: one product, counted twice
        gram = (2 * half - half.detach()).double()
        least = jitter * gram.detach().diagonal().mean()
        return torch.linalg.cholesky(gram + least * torch.eye(len(gram)).to(gram)).T.to(table.dtype)
