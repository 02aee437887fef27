"""Recipe changes: the keys that a resumed run may change and those that a sampling overlay may set."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from textflow.config.model import dump_model, is_of_model, parse_models
from textflow.config.paths import is_same_place
from textflow.config.shipped import find_recipe
from textflow.config.strict_yaml import load_yaml, read_mapping, read_yaml_text

# Keys that a resumed run may change without invalidating completed steps; a teacher is identified by its weights.
RESUMABLE = re.compile(
    r"run\.|codec$|teacher$|rounds|eval_steps|trainer\.(max_steps|max_time|matmul_precision|accelerator|devices|num_nodes|strategy|logger|log_every|enable|callbacks|profiler|val_)"
    r"|trainer\.limit_val|data\.(num_workers|num_proc|cache)|model\.net\.(compile_blocks|activation_checkpointing|kernels)$"
    r"|model\.lr_scheduler\.total_steps$"
)
BATCH_KEYS = ("data.batch_size", "trainer.accumulate_grad_batches")  # may change if the rows per step stay equal
# Model arguments that do not affect the weights.
SAMPLING_KEYS: tuple[str, ...] = ("sampler", "escape", "token_readout", "readout", "sampling_schedule")
SAMPLING_KEYS += ("order", "self_cond_guidance", "cfg_scale", "early_exit")


def with_sampling_overlays(recipe_file: Path, overlays: Sequence[str]) -> str:
    """The resolved recipe of a run's recipe.yaml with overlays, which may set only SAMPLING_KEYS."""
    saved = read_mapping(read_yaml_text(recipe_file), str(recipe_file))
    trees = [load_yaml(find_recipe(file)) for file in overlays]
    before, after = (dump_model(parse_models([saved, *files], str(recipe_file))) for files in ([], trees))
    others = [{key: part for key, part in tree.items() if not is_of_model(key)} for tree in trees]
    old, new = (dict(flatten({**saved, "model": model})) for model in (before, after))
    new |= {key: value for tree in others if tree for key, value in flatten(tree)}
    keys = [change.split(": ")[0].split(".") for change in compare(old, new)]
    if any(key[0] != "model" or key[1] not in SAMPLING_KEYS for key in keys):
        raise ValueError(
            f"{', '.join(overlays)} changes {', '.join('.'.join(key) for key in keys)}, which is trained already; an "
            f"overlay of a finished run may set {', '.join(SAMPLING_KEYS)} below model.init_args"
        )
    return yaml.safe_dump({**saved, "model": after}, sort_keys=False)


def differences(old: str, new: str) -> list[str]:
    """Differences between two resolved recipes that a resumed run must not have, as "key: old -> new"."""
    return compare(dict(flatten(yaml.safe_load(old))), dict(flatten(yaml.safe_load(new))))


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """As `differences`, of values by dotted key."""
    changed = [key for key in sorted({*before, *after}) if before.get(key) != after.get(key)]
    changed = [key for key in changed if not RESUMABLE.match(key)]
    changed = [key for key in changed if not is_same_place(key, before.get(key), after.get(key))]
    rows = {rows_per_step(before), rows_per_step(after)}
    if (None in rows and {*changed} <= {*BATCH_KEYS}) or (None not in rows and len(rows) == 1):
        changed = [key for key in changed if key not in BATCH_KEYS]  # the training state checks the actual rows
    return [f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed]


def rows_per_step(values: Mapping[str, Any]) -> int | None:
    """Rows per optimizer step over all devices, from values by dotted key; None without the number of devices."""
    devices = str(values.get("trainer.devices"))
    if not devices.isdigit():
        return None
    factors = (values.get(key) or 1 for key in (*BATCH_KEYS, "trainer.num_nodes"))
    return math.prod(map(int, factors)) * int(devices)


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries by dotted key; class_path and init_args are omitted from the keys."""
    if not isinstance(tree, dict):
        yield prefix or ".", tree
        return
    for key, value in tree.items():
        name = prefix if key in ("init_args", "class_path") else f"{prefix}.{key}" if prefix else key
        yield from flatten(value, name)
