"""Losses of rows that weigh alike, whatever their length (ELF, distillation, released code)."""

from collections.abc import Callable

from torch import Tensor

from textflow.objectives.elf import ELFObjective
from textflow.objectives.row_indices import asked
from textflow.types import Ids, Mask, Rows


def row_mean(values: Tensor, valid: Mask) -> Tensor:
    """Each row's mean over its valid tokens, [B, S] -> [B]; 0 where there is none."""
    return (values * valid).sum(1) / valid.sum(1).clamp_min(1)


def row_nll(
    nll: Callable[[Tensor, Tensor, Tensor | None], Tensor], hidden: Tensor, ids: Ids, valid: Mask, whole: bool = False
) -> Tensor:
    """Sum over rows of the mean -log p of their valid tokens.

    Args:
        nll: states and ids of tokens, and how much each counts -> the sum over them.
        hidden: of some rows.
        ids: of the same.
        valid: which of them count.
        whole: ask the others, too, for nothing: the shapes are known beforehand then.
    """
    each = valid.to(hidden.dtype) / valid.sum(1, keepdim=True).clamp_min(1)
    return nll(*asked(hidden, ids, each, whole))


def means(square: Tensor, weight: Tensor | None, nll: Tensor, decode: Rows) -> dict[str, Tensor]:
    """Errors of the denoising rows and the sum of the decoding rows' -> the mean over all rows, and each part's own."""
    weighted = square if weight is None else weight * square
    said = decode.sum()
    return {
        "loss": (weighted.sum() + nll) / max(len(decode), 1),
        "l2": square.detach().sum() / (len(decode) - said).clamp_min(1),
        "ce": nll.detach() / said.clamp_min(1),
    }


def with_head(losses: dict[str, Tensor], nll: Tensor, like: ELFObjective, rows: Rows) -> dict[str, Tensor]:
    """The losses with a commitment head's sum over denoising rows, under the same denominator."""
    loss = losses["loss"] + like.head_weight * nll / max(len(rows), 1)
    return losses | {"loss": loss, "head": nll.detach() / rows.sum().clamp_min(1)}
