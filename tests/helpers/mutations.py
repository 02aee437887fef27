"""Mutations of bytes and of recipes, drawn by hypothesis."""

from collections.abc import Callable
from copy import deepcopy
from functools import reduce
from operator import getitem
from typing import Any

import yaml
from hypothesis import strategies as st

Change = Callable[[bytes], bytes]
WILD: list[Any] = [
    None, True, -1, 0, 1, 3, 0.5, -2.5, 1e30, float("nan"), float("inf"), 10**12, "", "x", "../../x", "nan", "\0", "é",
    [], [1], {}, {"x": 1}, {"class_path": "x"}, {"class_path": "Generator"}, {"init_args": {}}, "ELF", "Euler", "Bible",
    "os.system", "textflow.data.TextFiles", [None, {}],
]  # fmt: skip
WORK = {
    "depth", "num_samples", "max_steps", "steps", "num_steps", "ns_steps", "warmup_steps", "num_sanity_val_steps",
    "accumulate_grad_batches", "rounds", "vocab_size",
}  # fmt: skip


@st.composite
def bytes_changes(draw: st.DrawFn) -> list[tuple[str, float, bytes]]:
    """One to three changes of a file: kind, position (share of its length) and new bytes."""
    kinds = st.sampled_from(["flip", "cut", "insert", "remove", "repeat", "zero", "empty"])
    positions = st.floats(0, 1, exclude_max=True)
    return draw(st.lists(st.tuples(kinds, positions, st.binary(min_size=1, max_size=8)), min_size=1, max_size=3))


def changed(data: bytes, changes: list[tuple[str, float, bytes]]) -> bytes:
    """A file's bytes after the changes."""
    for kind, position, new in changes:
        start = int(position * len(data))
        head, tail = data[:start], data[start:]
        data = {
            "flip": head + bytes(a ^ b for a, b in zip(tail[:1], new, strict=False)) + tail[1:],
            "cut": head,
            "insert": head + new + tail,
            "remove": head + tail[len(new) :],
            "repeat": head + tail[:64] + tail,
            "zero": head + bytes(min(64, len(tail))) + tail[64:],
            "empty": b"",
        }[kind]
    return data


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to everything in a tree but its root."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [leaf for key, value in inner for leaf in [(*path, key), *leaves(value, (*path, key))]]


@st.composite
def trees(draw: st.DrawFn, text: str) -> str:
    """A recipe with one to three of its keys removed, renamed, moved or given another value."""
    tree = yaml.safe_load(text)
    for _ in range(draw(st.integers(1, 3))):
        paths = leaves(tree)
        if not paths:
            break
        *outer, key = draw(st.sampled_from(paths))
        parent = reduce(getitem, outer, tree)
        kind = draw(st.sampled_from(["set", "set", "set", "remove", "rename", "swap"]))
        if kind == "set":
            new = draw(st.sampled_from(WILD))
            parent[key] = 3 if new == 10**12 and key in WORK else deepcopy(new)
        elif kind == "remove":
            del parent[key]
        elif kind == "rename" and isinstance(parent, dict):
            parent[draw(st.sampled_from([f"{key}s", str(key)[:-1], "", "x", "model", 3]))] = parent.pop(key)
        elif kind == "swap":
            *others, other = draw(st.sampled_from(paths))
            other_parent = reduce(getitem, others, tree)
            path, other_path = [*outer, key], [*others, other]
            if other_path[: len(path)] != path and path[: len(other_path)] != other_path:
                parent[key], other_parent[other] = other_parent[other], parent[key]
    return yaml.safe_dump(tree, allow_unicode=True)
