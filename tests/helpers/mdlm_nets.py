"""MDLM's net and objective from tensors and constants of the published code."""

from typing import Any

import torch

from tests.helpers.recordings import constant, part, recorded
from textflow.convert.dit_layout import map_name
from textflow.discrete import Absorbing, MDLMObjective, TokenDiT


def published() -> tuple[TokenDiT, dict[str, torch.Tensor], dict[str, Any]]:
    """The recorded net, in eval mode, with the tensors and the configuration of the recording."""
    data, meta = recorded("mdlm")
    size = meta["config"]["model"]
    net = TokenDiT(meta["config"]["V"] + 1, size["hidden_size"], size["n_blocks"], size["n_heads"], size["cond_dim"])
    weights = {f"backbone.{map_name(k)}": v for k, v in part(data, "weights.").items() if "inv_freq" not in k}
    net.load_state_dict(weights)
    return net.eval(), data, meta["config"]


def published_objective(config: dict[str, Any]) -> MDLMObjective:
    """The recorded noise and training times."""
    process = Absorbing(constant(config, "noise_eps"))
    return MDLMObjective(process, constant(config, "sampling_eps"), config["time_conditioning"])
