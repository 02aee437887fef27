"""Recording trajectories: RUN/trajectories/*.json hold all that is needed to walk the same way again."""

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from textflow.config.recipe import opened
from textflow.models.generator import Generator
from textflow.models.infilling import exchanges
from textflow.noise import sample_seeds
from textflow.run_folder import load
from textflow.runtime.atomic import replace_text
from textflow.types import Ids

from ..distillation.measure import SAMPLERS
from ..protocol import recipe
from ..report.trajectory_files import FORMAT, complete, of_weights
from .trace import Way, walk

Record = dict[str, Any]
# How it sampled, in the words of a recipe.
PARTS = ("sampler", "escape", "tokens", "readout", "guidance", "prompt_guidance", "stop")
PLACE = ("device", "dtype", "threads", "torch", "textflow")  # what may move the last bits of a number


def spelled(part: Any) -> Any:
    """A part as a recipe spells it: {class_path, init_args}; numbers and words as they are."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, list | tuple):
        return [spelled(each) for each in part]
    kind = type(part)
    named = {name: getattr(part, name) for name in inspect.signature(kind).parameters if hasattr(part, name)}
    arguments = {name: spelled(value) for name, value in named.items()}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def records(run: Path, n: int, steps: int, seed: int = 0, device: Any = "cpu") -> Iterator[Path]:
    """Walk n samples of a run, each as the ODE, by re-injection, by mode commit and in the run's own way, from the same
    noise; a masked or autoregressive run in its own way. A run of pairs answers its first held-out sources. Nothing is
    made twice of the same weights.

    Args:
        run: folder of a fitted model.
        n: samples.
        steps: of the grid.
        seed: of the samples.
        device: cpu, cuda or mps.
    """
    if complete(run, n, steps, seed):
        return
    held, model = str(of_weights(run)), load(run, device)
    found, own, given = ways(model), parts_of(model), sources(run, model, n)
    for way, parts in found.items():
        for name, part in parts.items():
            setattr(model, name, part)
        facts = {"way": way, "ways": list(found), "own": parts_of(model) == own}
        facts |= {"checkpoint": str(run), "checkpoint_hash": held}
        for index in range(n):
            yield write(facts | record(model, seed, index, steps, given[index]), run / "trajectories")


def sources(run: Path, model: Any, n: int) -> list[list[int] | None]:
    """The first sources of a run of pairs, each as a row with -1 after it, from the first again after the last."""
    if model.given is None:
        return [None] * n
    data = opened(recipe(run)["data"])
    batch = data.first(n, held_out=bool(len(data.validation_rows)))
    assert batch.fixed is not None, "pairs have sources"
    rows = batch.ids.masked_fill(~batch.fixed, -1).tolist()
    return [rows[i % len(rows)] for i in range(n)]


def ways(model: Any) -> dict[str, dict[str, Any]]:
    """Ways to sample: what is set on the model for each; its own comes last, if it is not one of the others."""
    if not isinstance(model, Generator):
        return {"own": {}}
    usual = {name: {"escape": escape, "sampler": sampler} for name, (escape, sampler) in SAMPLERS.items()}
    own = {"escape": model.escape, "sampler": model.sampler}
    return usual if same(own, usual.values()) else usual | {"own": own}


def same(own: dict[str, Any], others: Iterable[dict[str, Any]]) -> bool:
    """Whether parts are spelled as some others are."""
    words = {name: spelled(part) for name, part in own.items()}
    return any(words == {name: spelled(part) for name, part in other.items()} for other in others)


def parts_of(model: Any) -> Record:
    """How a model samples, in the words of a recipe."""
    return {name: spelled(getattr(model, name)) for name in PARTS if hasattr(model, name)}


def record(model: Any, seed: int, index: int, steps: int, given: list[int] | None = None) -> Record:
    """A sample and its way, with the protocol.

    Args:
        model: set to the way.
        seed: of the samples.
        index: of the sample.
        steps: of the grid.
        given: tokens of the row, -1 where none is given.
    """
    stream, grid = sample_seeds(seed, index, 1)[0], getattr(model, "grid", None)
    return {
        "format": FORMAT,
        "kind": type(model).__name__,
        "parts": parts_of(model),
        "clock": None if grid is None else type(grid).__name__,
        "times": None if grid is None else grid.grid(steps),
        "asked": steps,
        "seed": seed,
        "index": index,
        "stream": stream,
        "given": given,
        **place(model),
        **told(model, walk(model, stream, steps, given=row_of(given)), given),
    }


def place(model: Any) -> Record:
    """What may move the last bits of a number."""
    kind = str(next(model.parameters()).dtype).removeprefix("torch.")
    found = (str(model.device), kind, torch.get_num_threads(), torch.__version__, version("textflow"))
    return dict(zip(PLACE, found, strict=True))


def row_of(given: list[int] | None) -> Ids | None:
    """Given tokens as a batch of one."""
    return None if given is None else torch.tensor([given])


def told(model: Any, made: Way, given: list[int] | None) -> Record:
    """Text, tokens and calls, and how each token is written; of pairs the text is source and answer."""
    row = row_of(given)
    text = model.tokenizer.decode([made.ids]) if row is None else exchanges(model, torch.tensor([made.ids]), row >= 0)
    seen = sorted({token for call in made.calls for token in (*call.ids, *call.chosen) if token >= 0})
    return {
        "text": text[0],
        "ids": made.ids,
        "length": len(made.ids),
        "cci": made.cci,
        "calls": [call._asdict() for call in made.calls],
        "pieces": pieces(model.tokenizer, seen),
    }


def pieces(tokenizer: Any, ids: Sequence[int]) -> dict[str, str]:
    """What each token adds to a text that has begun; what ends or fills a row says so."""
    begun = tokenizer.encode(["a"])[0][-1:]
    bare, marks = len(tokenizer.words([begun])[0]), {tokenizer.pad: "<pad>", tokenizer.eos: "<eos>"}
    rows = [[*begun, token] for token in ids if token not in marks]
    texts = dict(zip((row[-1] for row in rows), tokenizer.words(rows), strict=True))
    return {str(token): marks[token] if token in marks else texts[token][bare:] for token in ids}


def write(said: Record, folder: Path) -> Path:
    """One JSON file, named by way, steps, seed, sample and weights."""
    name = f"{said['way']}-{said['asked']}-seed{said['seed']}-{said['index']}-{said['checkpoint_hash'][:8]}.json"
    path = folder / name.replace(" ", "-")
    text = json.dumps(said, allow_nan=False, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(path, text)
    return path
