"""Fits of a league: their recipes, and what their logs say."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from textflow.training.nan_guard import NonFiniteError
from textflow.training.weights import read_weights

from ..report.folder import load_curves
from .adapt import Tree
from .plan import bound_callbacks

PROBE_STEPS = 100  # steps of the fits that measure the seconds of a step
CLOCK = {"class_path": "CpuClock"}  # before the other callbacks, whose time it leaves out
STEP_KEYS = {"lr_scheduler": ("warmup_steps", "total_steps"), "objective": ("ramp_steps",)}


def fit_tree(
    tree: Tree,
    run: Path,
    steps: int,
    learning_rate: float | None = None,
    codec: Path | None = None,
    end: int | None = None,
) -> Tree:
    """Recipe of one fit: all schedules are stretched or shortened to end with it; of the callbacks those stay that log
    the criterion.

    Args:
        tree: resolved recipe.
        run: run folder.
        steps: optimizer steps, at least 2.
        learning_rate: learning rate; default: the recipe's.
        codec: run folder of a trained codec.
        end: step at which the schedules end, for the first steps of a longer fit; default: steps.
    """
    bounds, tree = bound_callbacks(tree), deepcopy(tree)
    model, trainer = tree["model"]["init_args"], tree["trainer"]
    stretch_schedules(model, (end or steps) / trainer["max_steps"])
    if end is not None:
        model["lr_scheduler"]["init_args"]["total_steps"] = end
    if learning_rate is not None:
        model["optimizer"]["init_args"]["lr"] = learning_rate
    if codec is not None:
        tree["codec"] = str(codec)
    callbacks = [{**each, "init_args": {**each.get("init_args", {}), "every_n_steps": steps}} for each in bounds]
    trainer |= {"accelerator": "cpu", "devices": 1, "max_steps": steps, "val_check_interval": steps}
    trainer |= {"log_every_n_steps": log_interval(steps), "callbacks": [CLOCK, *callbacks]}
    run_keys = {"save_every": max(steps // 10, 1), "sample_every": steps, "num_samples": 4}
    tree["run"] |= {"folder": str(run), "wandb": False, **run_keys}
    return tree


def stretch_schedules(model: Tree, factor: float) -> None:
    """Multiply the numbers of steps in the arguments of a model by a factor; a ramp keeps a step."""
    for part, keys in STEP_KEYS.items():
        arguments = (model.get(part) or {}).get("init_args", {}) if isinstance(model.get(part), dict) else {}
        for key in keys:
            if arguments.get(key):
                count = arguments[key] * factor
                arguments[key] = int(count) if key == "warmup_steps" else max(round(count), 1)


def log_interval(steps: int) -> int:
    """Steps between two logs."""
    return max(steps // 100, 1)


def affordable_steps(minutes: float, seconds: float) -> int:
    """Steps of some seconds each in some minutes, at least 2, a multiple of their log interval."""
    steps = max(int(60 * minutes / seconds), 2)
    return steps - steps % log_interval(steps)


def best_rate(scores: Mapping[float, float | None]) -> float:
    """Learning rate of the lowest score.

    Args:
        scores: score of the fit of each learning rate; None for one that failed.
    """
    finite = {rate: score for rate, score in scores.items() if score is not None}
    return min(finite, key=lambda rate: finite[rate])


def is_finished(run: Path, steps: int) -> bool:
    """True if a fit has taken all of its steps."""
    path = run / "model.safetensors"
    return path.is_file() and read_weights(path)[1].get("step") == str(steps)


def last_value(run: Path, name: str) -> float:
    """Last logged value of a name; raise a NonFiniteError if none is finite."""
    if not (curve := load_curves(run / "metrics.csv", []).get(name)):
        raise NonFiniteError(f"{run / 'metrics.csv'} has no finite {name}; remove {run} to repeat the fit")
    return curve[-1][1]


def seconds_per_step(run: Path) -> float:
    """Processor seconds of a step after the first third, which is slower."""
    curve = load_curves(run / "metrics.csv", []).get("train/cpu_seconds") or []
    if len(curve) < 2:
        raise ValueError(f"{run / 'metrics.csv'} has no train/cpu_seconds of two steps; remove {run} to repeat the fit")
    first, last = curve[len(curve) // 3], curve[-1]
    return max((last[1] - first[1]) / (last[0] - first[0]), 1e-6)
