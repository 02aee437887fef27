"""Samples of a cell, saved batch by batch so that an interrupted run resumes from them."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

import textflow
from textflow.data import Tokenizer
from textflow.metrics import EOS_TEXT
from textflow.models.generation import AnySampler, TextGenerator
from textflow.noise import sample_seeds
from textflow.runtime.atomic import atomic_write_text

# Packages that samples depend on: a change in any of them invalidates saved samples.
HASHED_PACKAGES = (
    "codecs",
    "schedules",
    "layers",
    "nets",
    "paths",
    "readouts",
    "samplers",
    "escapes",
    "discrete",
    "models",
)


@dataclass(frozen=True)
class GeneratedSample:
    """Generated sample.

    Args:
        index: sample number, which determines its seed.
        ids: tokens of all positions.
        nfe: number of network evaluations, decode passes included.
        seconds: seconds of its batch divided by the batch size.
    """

    index: int
    ids: list[int]
    nfe: float
    seconds: float


def draw_samples(
    generator: TextGenerator,
    steps: int,
    num_samples: int,
    seed: int,
    sampler: AnySampler | None,
    batch_size: int,
    folder: Path | None = None,
    shard: tuple[int, int] = (0, 1),
    on_progress: Callable[[int], None] = lambda samples: None,
) -> list[GeneratedSample]:
    """Samples of a cell: read from a folder, with the missing ones generated and saved.

    Args:
        generator: model that is sampled.
        steps: number of sampling steps.
        num_samples: number of samples.
        seed: random seed for sampling.
        sampler: sampler; None: the generator's own.
        batch_size: samples per batch; does not change the texts.
        folder: folder for saving, one file per batch; default: not saved.
        shard: share of the batches, (rank of this process, number of processes).
        on_progress: callback for the number of finished samples.
    """
    samples = read_samples(folder, num_samples) if folder else {}
    on_progress(len(samples))
    for indices in contiguous_batches([i for i in range(num_samples) if i not in samples], batch_size):
        if indices[0] // batch_size % shard[1] != shard[0]:
            continue  # shares must not depend on when a process starts
        batch = sample_batch(generator, steps, seed, sampler, indices)
        if folder:
            write_samples(batch, folder, generator.tokenizer)
        samples |= {line.index: line for line in batch}
        on_progress(len(samples))
    return [samples[i] for i in sorted(samples)]


def contiguous_batches(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """Runs of consecutive indices, each at most `size` long."""
    run: list[int] = []
    for index in indices:
        if run and (index != run[-1] + 1 or len(run) == size):
            yield run
            run = []
        run.append(index)
    if run:
        yield run


def sample_batch(
    generator: TextGenerator, steps: int, seed: int, sampler: AnySampler | None, indices: Sequence[int]
) -> list[GeneratedSample]:
    """Samples of consecutive indices."""
    seeds = sample_seeds(seed, indices[0], len(indices))
    parts = (getattr(generator, name, None) for name in ("net", "ema_net", "sampling_net"))
    nets = {id(net): net for net in parts if net is not None}
    start = time.perf_counter()
    with count_network_rows(*nets.values()) as rows:
        ids = generator.sample_ids(seeds, steps, sampler=sampler).tolist()
    cost = sum(rows) / len(indices), (time.perf_counter() - start) / len(indices)
    return [GeneratedSample(index, row, *cost) for index, row in zip(indices, ids, strict=True)]


def write_samples(samples: Sequence[GeneratedSample], folder: Path, tokenizer: Tokenizer) -> None:
    """Write a batch atomically to one file; only the ids are read back, the texts are for inspection."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = tokenizer.decode([line.ids for line in samples])
    lines = [json.dumps(asdict(line) | {"text": text}) + "\n" for line, text in zip(samples, texts, strict=True)]
    path = folder / f"{samples[0].index:08d}-{samples[-1].index:08d}.jsonl"
    atomic_write_text(path, "".join(lines))


def read_samples(folder: Path, num_samples: int) -> dict[int, GeneratedSample]:
    """Samples of a folder with index below n; damaged lines are ignored, so their samples are regenerated."""
    samples = {}
    for path in sorted(folder.glob("*.jsonl")):
        for text in path.read_bytes().splitlines():
            try:
                data = json.loads(text)
                line = GeneratedSample(int(data["index"]), [int(i) for i in data["ids"]], data["nfe"], data["seconds"])
            except (ValueError, KeyError, TypeError):
                continue
            samples[line.index] = line
    return {index: line for index, line in samples.items() if index < num_samples}


def samples_folder(run: Path, point: dict[str, Any]) -> Path:
    """Sample folder RUN/eval/samples/<hash of all inputs>; point.json in it lists the inputs."""
    text = json.dumps({**point, "code": code_hash()}, sort_keys=True, indent=1)
    folder = run / "eval" / "samples" / hashlib.sha256(text.encode()).hexdigest()[:12]
    if not (folder / "point.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(folder / "point.json", text + "\n")
    return folder


def code_hash() -> str:
    """Hash (16 hex digits) of the source code that sampling depends on."""
    package = Path(textflow.__path__[0])
    files = [*package.glob("*.py"), *(file for name in HASHED_PACKAGES for file in (package / name).rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:16]


def decode_texts(tokenizer: Tokenizer, ids: Sequence[Sequence[int]], keep_special: bool = False) -> list[str]:
    """Texts of padded rows: cut at the first EOS, or complete with each EOS written as EOS_TEXT."""
    if not keep_special:
        return tokenizer.decode(ids)
    rows = [[int(i) for i in row if i == tokenizer.eos or i != tokenizer.pad] for row in ids]
    segments = [split_at_eos(row, tokenizer.eos) for row in rows]
    texts = iter(tokenizer.decode_ids(list(chain.from_iterable(segments))))
    return [EOS_TEXT.join(next(texts) for _ in row) for row in segments]


def split_at_eos(row: Sequence[int], eos: int) -> list[list[int]]:
    """Token segments between the EOS tokens of a row."""
    segments: list[list[int]] = [[]]
    for token in row:
        if token == eos:
            segments.append([])
        else:
            segments[-1].append(token)
    return segments


@contextmanager
def count_network_rows(*nets: nn.Module) -> Iterator[list[int]]:
    """Collect the number of rows per network call, decode passes included; their sum over the samples is the NFE."""
    rows: list[int] = []

    def note(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], belief: Any) -> None:
        rows.append(len(next(iter([*args, *kwargs.values()]))))

    def reading(own: Callable[..., Any]) -> Callable[..., Any]:
        def read(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            rows.append(len(z))
            return own(z, *args, **kwargs)

        return read

    hooks = [net.register_forward_hook(note, with_kwargs=True) for net in nets]
    decoders = ("decode_logits", "decode_ids")  # one pass each
    readers = [(net, name) for net in nets for name in decoders if hasattr(net, name)]
    for net, name in readers:
        setattr(net, name, reading(getattr(net, name)))
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
        for net, name in readers:
            delattr(net, name)
