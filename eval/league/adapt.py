"""Changes that a league makes to a recipe, so that it learns texts of another length and their ends."""

import inspect
import math
from typing import Any

from textflow.config.validation import import_class

Tree = dict[str, Any]


def count_padding(model: Tree) -> None:
    """Let padding count in the loss of an objective that can: a row holds one story, and its end has to be learned."""
    arguments = model.setdefault("init_args", {})
    if not (objective := arguments.get("objective")):
        parameter = inspect.signature(import_class(model["class_path"])).parameters.get("objective")
        if parameter is None:
            return
        default = type(parameter.default)
        objective = {"class_path": f"{default.__module__}.{default.__qualname__}"}
    if "loss_on_padding" in inspect.signature(import_class(objective["class_path"])).parameters:
        arguments["objective"] = objective | {"init_args": {**objective.get("init_args", {}), "loss_on_padding": True}}


def drop_curriculum(model: Tree) -> None:
    """Leave out a curriculum: the range of noise of Duo's is that of a vocabulary of tens of thousands."""
    objective = model["init_args"].get("objective")
    if isinstance(objective, dict) and objective.get("init_args", {}).get("curriculum_steps"):
        objective["init_args"]["curriculum_steps"] = 0


def fit_row_length(tree: Tree, before: int) -> None:
    """Give a codec that encodes rows of one length that of the text, with as many latents per token as its recipe, and
    a net of blocks as many blocks.

    Args:
        tree: resolved recipe.
        before: row length of the recipe.
    """
    parts, length = tree["model"]["init_args"], tree["data"]["seq_length"]
    net = (parts.get("net") or {}).get("init_args", {})
    if net.get("block_size"):
        net["block_size"] = max(math.ceil(net["block_size"] * length / before), 1)
    arguments = (parts.get("codec") or {}).get("init_args", {})
    if "length" in arguments and "latents" in arguments:
        arguments["latents"] = max(round(arguments["latents"] * length / arguments["length"]), 1)
        arguments["length"] = length
