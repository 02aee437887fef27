"""textflow order RUN --groups 4"""

import sys
from pathlib import Path
from shlex import quote
from typing import Any

from textflow.config.shipped import find_run

from .options import require_positive


def order(
    run: Path,
    groups: int = 4,
    n: int = 96,
    restarts: int = 2,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Find groups of positions whose tokens a run can draw at once: K groups take K evaluations of the network.

    Minimises the mean -log p that the order Grouped, with one step per group, gives to validation text, and prints it
    for held-back text beside that of interleaved groups. Writes an overlay: textflow sample RUN OVERLAY --steps 1.

    Args:
        run: folder of a trained generator whose network takes a time for each position, best one that was trained with
            known_prob above 0; hf:OWNER/NAME for one on the Hub, or the name of one that ships.
        groups: number of groups.
        n: number of rows of validation text that the groups are fitted on, and of others that they are tested on.
        restarts: number of searches from random groups, of which the best counts.
        seed: random seed for the searches and the noise.
        out: overlay to write; default: RUN/order-GROUPS.yaml.
        device: device to run on: cpu, cuda, mps or auto.
    """
    require_positive(seed, groups=groups, n=n, restarts=restarts)
    from textflow.diagnostics.grouping import GroupCost, fit_groups

    from .diagnose import load_run

    run = find_run(run)
    model, batches, _ = load_run(run, [], 2 * n, 2 * n, device)
    readout = type(model.readout).__name__
    if not hasattr(model.readout, "temperature"):
        raise ValueError(
            f"groups are drawn, and the readout {readout} of {run} draws no tokens; train with FromPosterior"
        )
    ids = batches[0].ids
    half = len(ids) // 2
    cost, held_back = GroupCost(model, ids[:half], seed), GroupCost(model, ids[half:], seed + 1)
    best = fit_groups(cost, groups, seed, restarts, lambda nats: report(f"{nats:.2f} nats per text"))
    plain = held_back([i % groups for i in range(ids.shape[1])])
    print(f"-log p of {len(ids) - half} texts, nats per text: {held_back(best):.2f}; interleaved groups: {plain:.2f}")
    path = out or run / f"order-{groups}.yaml"
    write_overlay(path, best, readout)
    print(f"Written: {path}    Sample: textflow sample {quote(str(run))} {quote(str(path))} --steps 1")


def report(line: str) -> None:
    """Print progress on stderr."""
    print(line, file=sys.stderr, flush=True)


def write_overlay(path: Path, groups: list[int], readout: str) -> None:
    """Write the recipe of the order, of a readout that draws its tokens, and of the times of training."""
    import yaml

    from textflow.runtime.atomic import atomic_write_text

    model: dict[str, Any] = {"order": {"class_path": "Grouped", "init_args": {"groups": groups}}}
    model["readout"] = {"class_path": readout, "init_args": {"temperature": 1.0}}
    model["sampling_schedule"] = None
    text = yaml.safe_dump({"model": model}, sort_keys=False, default_flow_style=None, width=120)
    atomic_write_text(
        path,
        f"# groups of positions that are drawn at once, found by textflow order; add --steps 1\n"
        f"# sampling_schedule null takes the times of training: each group starts at pure noise\n{text}",
    )
