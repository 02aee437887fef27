"""Fits of a system in `textflow league`: its codec, the search of its learning rate, and the final fit."""

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from .fit import fit

if TYPE_CHECKING:
    from textflow.eval.league.plan import Entrant, LeagueConfig


def train(entrant: "Entrant", config: "LeagueConfig") -> dict[str, Any]:
    """Fit the codec, search the learning rate and fit the system; return the facts of its fits."""
    from textflow.eval.league.fits import affordable_steps, best_rate, seconds_per_step
    from textflow.eval.league.plan import SEARCH_SHARE
    from textflow.runtime.atomic import atomic_write_json

    bind_recipe(entrant)
    path = entrant.folder / "fit.json"
    if path.is_file():
        done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return done
    codec = train_codec(entrant, config.minutes)
    minutes = config.minutes - (codec["cpu_seconds"] / 60 if codec else 0)
    own = {"codec": None if codec is None else Path(codec["run"])}
    probe = run_probe(entrant, entrant.tree, "probe", **own)
    seconds = seconds_per_step(probe)
    end = affordable_steps(minutes, seconds)
    search = search_rate(entrant, affordable_steps(SEARCH_SHARE * minutes, seconds), end, **own)
    rate = best_rate({each["learning_rate"]: each["score"] for each in search})
    best = entrant.folder / f"search-{rate:g}"
    steps = affordable_steps(minutes, seconds_per_step(best))
    run = run_fit(entrant, entrant.tree, "fit", steps, learning_rate=rate, **own)
    facts: dict[str, Any] = {"system": entrant.name, "recipe": entrant.recipe, "recipe_hash": entrant.recipe_hash}
    facts |= {"minutes": config.minutes, "learning_rate": rate, "search": search, "codec": codec}
    facts |= {"criterion": entrant.criterion} | fit_facts(run, steps) | {"score": score_of(entrant, run)}
    atomic_write_json(path, facts)
    return facts


def bind_recipe(entrant: "Entrant") -> None:
    """Write the hash of a system's recipes and text before its first fit; raise a ValueError where another stands."""
    from textflow.runtime.atomic import atomic_write_json

    path, own = entrant.folder / "plan.json", {"recipe": entrant.recipe, "recipe_hash": entrant.recipe_hash}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != own:
        raise ValueError(
            f"{entrant.recipe} or its text has changed since {entrant.folder} was trained; restore it, remove that "
            "folder to train again, or choose another with --out"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, own)


def train_codec(entrant: "Entrant", minutes: float) -> dict[str, Any] | None:
    """Fit the codec of a system in its share of the minutes, at its recipe's learning rate; None without one."""
    from textflow.eval.league.fits import affordable_steps, seconds_per_step
    from textflow.eval.league.plan import CODEC_SHARE

    if entrant.codec_tree is None:
        return None
    probe = run_probe(entrant, entrant.codec_tree, "codec-probe")
    steps = affordable_steps(CODEC_SHARE * minutes, seconds_per_step(probe))
    return fit_facts(run_fit(entrant, entrant.codec_tree, "codec", steps), steps)


def search_rate(entrant: "Entrant", steps: int, end: int, codec: Path | None) -> list[dict[str, Any]]:
    """Run the first steps of a fit at each learning rate; a fit that diverges has a reason in place of a score.

    A rate that is too high for the final fit fails in its first part already, whereas a short fit of its own, whose
    rate decays to the end, hides it.
    """
    from textflow.training.nan_guard import NonFiniteError

    found = []
    for rate in entrant.learning_rates:
        row: dict[str, Any] = {"learning_rate": rate, "steps": steps, "score": None}
        try:
            run = run_fit(entrant, entrant.tree, f"search-{rate:g}", steps, learning_rate=rate, codec=codec, end=end)
            row["score"] = score_of(entrant, run)
        except NonFiniteError as error:
            row["reason"] = str(error)
            print(f"{entrant.name}: learning rate {rate:g} diverges: {error}", file=sys.stderr)
        found.append(row)
    if all(row["score"] is None for row in found):
        raise ValueError(f"{entrant.name}: no learning rate of the search trains: {found[0]['reason']}")
    return found


def score_of(entrant: "Entrant", run: Path) -> float:
    """Final value of the search's criterion."""
    from textflow.eval.league.fits import last_value

    return last_value(run, entrant.criterion)


def fit_facts(run: Path, steps: int) -> dict[str, Any]:
    """Facts of a finished fit."""
    from textflow.eval.league.fits import last_value

    return {"run": str(run), "steps": steps, "cpu_seconds": last_value(run, "train/cpu_seconds")}


def run_probe(entrant: "Entrant", tree: dict[str, Any], name: str, codec: Path | None = None) -> Path:
    """Fit a few steps, to measure the seconds of a step."""
    from textflow.eval.league.fits import PROBE_STEPS

    return run_fit(entrant, tree, name, PROBE_STEPS, codec=codec)


def run_fit(entrant: "Entrant", tree: dict[str, Any], name: str, steps: int, **options: Any) -> Path:
    """Run `textflow fit` on OUT/SYSTEM/NAME.yaml unless it is finished; what it prints goes to OUT/SYSTEM/fit.log."""
    from textflow.eval.league.fits import fit_tree, is_finished
    from textflow.runtime.atomic import atomic_write_text

    run, path = entrant.folder / name, entrant.folder / f"{name}.yaml"
    if is_finished(run, steps):
        return run
    print(f"{entrant.name}: {name}, {steps} steps", flush=True)
    entrant.folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(fit_tree(tree, run, steps, **options), sort_keys=False)
    atomic_write_text(path, f"# {entrant.name}, {name}: a fit of textflow league\n{text}")
    with (entrant.folder / "fit.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
        code = fit([str(path)])
    if code:
        raise KeyboardInterrupt
    return run
