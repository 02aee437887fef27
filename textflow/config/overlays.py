"""What may change of a recipe after its run has begun, and what of it an overlay may say anew."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from textflow.config import recipe

# What may change when a run goes on: it moves no number of the steps that were done; a teacher is known by its weights.
FREE = re.compile(
    r"run\.|codec$|teacher$|rounds|passes|trainer\.(max_steps|max_time|matmul|accelerator|devices|num_nodes|strategy|logger|log_every|enable|callbacks|profiler|val_)"
    r"|trainer\.limit_val|data\.(workers|processes|cache)|model\.init_args\.net\.init_args\.(compiled|recompute|kernels)$"
)


BATCH = ("data.batch_size", "trainer.accumulate_grad_batches")  # may change if devices make up for it
SAMPLING = (
    "sampler",
    "escape",
    "tokens",
    "readout",
    "grid",
    "guidance",
    "prompt_guidance",
    "stop",
)  # parts of a model that no weight depends on


def sampling(file: Path, overlays: Sequence[str]) -> str:
    """The resolved recipe of a run, with overlays that say how to sample.

    Args:
        file: of the run.
        overlays: recipes; they may set what no weight depends on.
    """
    before, after = recipe.write(recipe.parsed([str(file)])), recipe.write(recipe.parsed([str(file), *overlays]))
    keys = [change.split(": ")[0].split(".") for change in differences(before, after)]
    if any(key[0] != "model" or key[1] not in SAMPLING for key in keys):
        raise ValueError(
            f"{', '.join(overlays)} changes {', '.join('.'.join(key) for key in keys)}, which is trained already; an "
            f"overlay of a finished run may set {', '.join(SAMPLING)} below model.init_args"
        )
    return after


def differences(old: str, new: str) -> list[str]:
    """The keys in which two resolved recipes differ and that a continued run must not change, as "key: old -> new"."""
    before, after = dict(flat(yaml.safe_load(old))), dict(flat(yaml.safe_load(new)))
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key) and not FREE.match(key)]
    was, now = rows_a_step(before), rows_a_step(after)
    if was == now is not None or (None in (was, now) and {*changed} <= {*BATCH}):  # the state knows the machine's rows
        changed = [key for key in changed if key not in BATCH]
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed]


def rows_a_step(leaves: Mapping[str, Any]) -> int | None:
    """Rows of an optimizer step over all devices, or None where their number is not written down.

    Args:
        leaves: of a recipe, by dotted keys.
    """
    devices = str(leaves.get("trainer.devices"))
    if not devices.isdigit():
        return None
    return math.prod(int(leaves.get(key) or 1) for key in BATCH) * int(devices) * int(leaves["trainer.num_nodes"])


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries, under dotted keys without class_path and init_args."""
    if not isinstance(tree, dict):
        yield prefix or ".", tree
        return
    for key, value in tree.items():
        name = prefix if key in ("init_args", "class_path") else f"{prefix}.{key}" if prefix else key
        yield from flat(value, name)
