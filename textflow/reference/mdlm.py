"""MDLM's training step with logits of all positions: the oracle for tests and the baseline for benchmarks."""

import torch
from torch import Tensor

from textflow.discrete.denoiser import TokenDiT
from textflow.discrete.mdlm import MaskDraws, MDLMObjective
from textflow.reference.elf import token_nll_of
from textflow.types import Batch


def reference_mdlm_loss(objective: MDLMObjective, net: TokenDiT, batch: Batch, draws: MaskDraws) -> dict[str, Tensor]:
    """`MDLMObjective.loss` with logits of masked and unmasked tokens, whose weight is 0 (MDLM, released code).

    Args:
        objective: objective whose loss it is.
        net: network to train.
        batch: token ids and masks.
        draws: times and masked tokens.
    """
    t, masks = draws.t.double(), objective.process.stationary(batch.ids, net.vocab_size)
    ids = objective.process.corrupt(batch.ids, masks, draws.uniform, t)
    if batch.prompt_mask is not None:
        ids = torch.where(batch.prompt_mask, batch.ids, ids)
    valid = batch.loss_mask(objective.loss_on_padding)
    masked = (ids == masks) & valid
    logits = net.lm_logits(net(ids, objective.network_sigma(t)))[..., :-1].float()
    nll, weight = token_nll_of(logits, batch.ids) * masked, objective.process.elbo_weight(t)[:, None]
    return {
        "loss": (nll * weight.to(nll)).sum() / valid.sum().clamp_min(1),
        "tokens": valid.sum(),
        "masked_ce": nll.detach().sum() / masked.sum().clamp_min(1),
    }
