"""Duo's training step with logits of all positions: the oracle for tests and the baseline for benchmarks."""

from torch import Tensor

from textflow.discrete.denoiser import TokenDiT
from textflow.discrete.duo import Corrupted, DuoObjective
from textflow.discrete.uniform import nelbo
from textflow.types import Batch


def reference_duo_loss(objective: DuoObjective, net: TokenDiT, batch: Batch, noisy: Corrupted) -> dict[str, Tensor]:
    """`DuoObjective.loss` with the logits of padding and prompts too, whose weight is 0, and the bound of all tokens at
    once (Duo, released code).

    Args:
        objective: objective whose loss it is.
        net: network to train.
        batch: token ids and masks.
        noisy: the noised batch.
    """
    valid = batch.loss_mask(objective.loss_on_padding)
    logits = net.lm_logits(net(noisy.tokens, -noisy.alpha.log()))
    bound = nelbo(objective.log_probs(logits, noisy.ids), batch.ids, noisy.ids, noisy.alpha, noisy.rate)
    return {"loss": (bound * valid).sum() / valid.sum().clamp_min(1), "tokens": valid.sum()}
