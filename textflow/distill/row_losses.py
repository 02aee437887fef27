"""Losses with equal weights for rows of any length (ELF, distillation, released code)."""

from collections.abc import Callable

from torch import Tensor

from textflow.objectives.row_indices import select_tokens
from textflow.types import Ids, Mask, RowMask


def row_mean(values: Tensor, valid: Mask) -> Tensor:
    """Each row's mean over its valid tokens, [B, S] -> [B]; 0 if a row has none."""
    return (values * valid).sum(1) / valid.sum(1).clamp_min(1)


def row_nll(
    nll: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    hidden: Tensor,
    ids: Ids,
    valid: Mask,
    fixed_shape: bool = False,
) -> Tensor:
    """Sum over rows of the mean -log p of their valid tokens.

    Args:
        nll: (hidden states, ids, weights) -> weighted sum of -log p.
        hidden: hidden states [n, S, width].
        ids: token ids [n, L].
        valid: True on tokens in the loss [n, L].
        fixed_shape: whether invalid tokens are included with weight 0, so that shapes are known beforehand.
    """
    weights = valid.to(hidden.dtype) / valid.sum(1, keepdim=True).clamp_min(1)
    return nll(*select_tokens(hidden, ids, weights, fixed_shape))


def combine_row_losses(squared: Tensor, weight: Tensor | None, nll: Tensor, decode: RowMask) -> dict[str, Tensor]:
    """The mean over all rows, and the mean of each kind, from denoising errors and the sum of decoding losses."""
    weighted = squared if weight is None else weight * squared
    decoded = decode.sum()
    return {
        "loss": (weighted.sum() + nll) / max(len(decode), 1),
        "mse": squared.detach().sum() / (len(decode) - decoded).clamp_min(1),
        "decode_ce": nll.detach() / decoded.clamp_min(1),
    }


def add_row_head_loss(losses: dict[str, Tensor], nll: Tensor, weight: float, rows: RowMask) -> dict[str, Tensor]:
    """The losses plus a commitment head's sum over denoising rows, with the same denominator."""
    loss = losses["loss"] + weight * nll / max(len(rows), 1)
    return losses | {"loss": loss, "commitment_head_ce": nll.detach() / rows.sum().clamp_min(1)}
