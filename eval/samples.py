"""Samples of a cell, kept as they are made: a run that is killed anywhere goes on with those that are there."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import textflow
from textflow.metrics import KEPT
from textflow.noise import sample_seeds
from textflow.runtime.atomic import replace_text

# What a sample depends on: another version of any of this draws anew.
ROOMS = ("codecs", "schedules", "nets", "paths", "readouts", "samplers", "escapes")


@dataclass(frozen=True)
class Line:
    """One sample.

    Args:
        index: its number; its seed follows from it.
        ids: tokens, all positions.
        passes: of the networks that it took, decode passes included.
        seconds: of its batch, over the samples of the batch.
    """

    index: int
    ids: list[int]
    passes: float
    seconds: float


def draw(
    generator: Any,
    steps: int,
    n: int,
    seed: int,
    sampler: Any,
    batch_size: int,
    folder: Path | None = None,
    share: tuple[int, int] = (0, 1),
    tick: Callable[[int], None] = lambda samples: None,
) -> list[Line]:
    """n samples: those of a folder, and the others made and put there.

    Args:
        generator: has sample(seeds, steps, sampler), or `passes` and sample(seeds, sampler).
        steps: of the grid.
        n: number of samples.
        seed: of the run.
        sampler: part; None is the generator's own.
        batch_size: samples at once.
        folder: where they are kept, a file a batch; default: nowhere.
        share: which batches are ours, (number of this process, number of processes).
        tick: is told how many samples are there, now and again.
    """
    held = kept(folder, n) if folder else {}
    tick(len(held))
    for places in batches([i for i in range(n) if i not in held], batch_size):
        if places[0] // batch_size % share[1] != share[0]:
            continue  # whoever comes late must find the same shares
        made = batch(generator, steps, seed, sampler, places)
        if folder:
            keep(made, folder, generator.tokenizer)
        held |= {line.index: line for line in made}
        tick(len(held))
    return [held[i] for i in sorted(held)]


def batches(places: Sequence[int], size: int) -> Iterator[list[int]]:
    """Runs of neighbours among increasing numbers, each at most so long."""
    run: list[int] = []
    for place in places:
        if run and (place != run[-1] + 1 or len(run) == size):
            yield run
            run = []
        run.append(place)
    if run:
        yield run


def batch(generator: Any, steps: int, seed: int, sampler: Any, places: Sequence[int]) -> list[Line]:
    """Samples of neighbouring numbers."""
    seeds = sample_seeds(seed, places[0], len(places))
    nets = {id(net): net for net in (generator.net, getattr(generator, "twin", None)) if net is not None}
    start = time.perf_counter()
    with counted(*nets.values()) as rows:
        made = generator.sample(seeds, *([] if hasattr(generator, "passes") else [steps]), sampler=sampler)
    ids = getattr(made, "ids", made).tolist()
    cost = sum(rows) / len(places), (time.perf_counter() - start) / len(places)
    return [Line(place, row, *cost) for place, row in zip(places, ids, strict=True)]


def keep(made: Sequence[Line], folder: Path, tokenizer: Any) -> None:
    """One file of a batch, whole or not at all; the texts are for people, the ids are what is read."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = tokenizer.decode([line.ids for line in made])
    lines = [json.dumps(asdict(line) | {"text": text}) + "\n" for line, text in zip(made, texts, strict=True)]
    path = folder / f"{made[0].index:08d}-{made[-1].index:08d}.jsonl"
    replace_text(path, "".join(lines))


def kept(folder: Path, n: int) -> dict[int, Line]:
    """The samples of a folder below number n; a line that is damaged is as if it were not there, and made anew."""
    found = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_bytes().splitlines():
            try:
                said = json.loads(text)
                line = Line(int(said["index"]), [int(i) for i in said["ids"]], said["passes"], said["seconds"])
            except (ValueError, KeyError, TypeError):
                continue
            found[line.index] = line
    return {index: line for index, line in found.items() if index < n}


def place_of(run: Path, cell: dict[str, Any]) -> Path:
    """RUN/eval/samples/<hash of all that the samples depend on>; cell.json there says what that is."""
    text = json.dumps({**cell, "code": code()}, sort_keys=True, indent=1)
    folder = run / "eval" / "samples" / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not (folder / "cell.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(folder / "cell.json", text + "\n")
    return folder


def code() -> str:
    """16 hex digits of the source that samples are made by."""
    package = Path(textflow.__path__[0])
    files = [*package.glob("*.py"), *(file for room in ROOMS for file in (package / room).rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:16]


def texts_of(tokenizer: Any, ids: Sequence[Sequence[int]], special: bool = False) -> list[str]:
    """Texts of rows: cut at the first EOS, or whole with each EOS written as KEPT.

    Args:
        tokenizer: of the generator.
        ids: rows of tokens, padded.
        special: whether special tokens are kept.
    """
    if not special:
        return tokenizer.decode(ids)
    marked = [[int(i) for i in row if i == tokenizer.eos or i != tokenizer.pad] for row in ids]
    parts = [segments(row, tokenizer.eos) for row in marked]
    words = iter(tokenizer.words([part for each in parts for part in each]))
    return [KEPT.join(next(words) for _ in each) for each in parts]


def segments(row: Sequence[int], eos: int) -> list[list[int]]:
    """What stands between the EOS of a row."""
    found: list[list[int]] = [[]]
    for token in row:
        if token == eos:
            found.append([])
        else:
            found[-1].append(token)
    return found


@contextmanager
def counted(*nets: nn.Module) -> Iterator[list[int]]:
    """Collect how many rows went through the networks, decode passes included; their sum over the samples is the NFE.

    Args:
        nets: denoisers, called as net(z, t, given).
    """
    rows: list[int] = []

    def note(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], belief: Any) -> None:
        rows.append(len(next(iter([*args, *kwargs.values()]))))

    def reading(own: Callable[..., Any]) -> Callable[..., Any]:
        def read(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            rows.append(len(z))
            return own(z, *args, **kwargs)

        return read

    hooks = [net.register_forward_hook(note, with_kwargs=True) for net in nets]
    readers = [(net, name) for net in nets for name in ("decode", "tokens") if hasattr(net, name)]  # a pass each
    for net, name in readers:
        setattr(net, name, reading(getattr(net, name)))
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
        for net, name in readers:
            delattr(net, name)
