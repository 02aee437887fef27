"""Records: a number and the whole protocol that it was measured by, one for each (steps, sampler)."""

import dataclasses
import json
import platform
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textflow.metrics import Scorer, clean_share, distinct, mean_entropy, mean_repetition, ngram_diversity

Record = dict[str, Any]


def measure(texts: Sequence[str], scorer: Scorer) -> Record:
    """Everything that is printed beside a perplexity, and the protocol of the scorer; perplexity is None without tokens.

    Args:
        texts: decoded samples.
        scorer: the language model that judges; n-grams and entropy are over its ids.
    """
    scored = scorer.score(texts)
    return {
        "perplexity": scored.perplexity,
        "entropy": mean_entropy(scored.ids),
        "seq_rep_4": mean_repetition(scored.ids),
        "clean": clean_share(scored.ids),
        "distinct_1": distinct(scored.ids, 1),
        "distinct_2": distinct(scored.ids, 2),
        "distinct_3": distinct(scored.ids, 3),
        "diversity": ngram_diversity(scored.ids),
        "n": len(texts),
        "empty": scored.empty,
        "tokens": int(scored.tokens.sum()),
        **scorer.protocol(),
        "textflow": version("textflow"),
        "torch": torch.__version__,
    }


def shuffled(texts: Sequence[str], seed: int) -> list[str]:
    """Each text with its words in a random order: right words, no grammar.

    Args:
        texts: real ones.
        seed: of the order.
    """
    return [" ".join(random.Random(seed + i).sample(words, len(words))) for i, words in enumerate(map(str.split, texts))]


def references(texts: Sequence[str], scorer: Scorer, seed: int = 0, facts: Mapping[str, Any] | None = None) -> list[Record]:
    """Two records to read the others by: real text and real text with its words shuffled.

    Args:
        texts: real ones that neither generator nor scorer was trained on.
        scorer: the language model that judges.
        seed: of the shuffle.
        facts: entries that every record carries.
    """
    common = {**(facts or {}), "seed": seed}
    return [
        {"text": "real", **common, **measure(texts, scorer)},
        {"text": "real, words shuffled", **common, **measure(shuffled(texts, seed), scorer)},
    ]


@contextmanager
def counted(*nets: nn.Module) -> Iterator[list[int]]:
    """Collect how many rows went through the networks: their sum over the number of samples is the NFE.

    Args:
        nets: denoisers, called as net(z, t, given).
    """
    rows: list[int] = []

    def note(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], belief: Any) -> None:
        rows.append(len(args[0] if args else kwargs["z"]))

    hooks = [net.register_forward_hook(note, with_kwargs=True) for net in nets]
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()


def fields(part: Any) -> Record | None:
    """A frozen part as {"class": its name, field: value, ...}; None stays None."""
    return {"class": type(part).__name__, **dataclasses.asdict(part)} if dataclasses.is_dataclass(part) else part


def evaluate(
    generator: Any,
    scorer: Scorer,
    steps: Sequence[int],
    n: int = 256,
    seed: int = 0,
    samplers: Sequence[Any] = (None,),
    batch_size: int = 64,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Record]:
    """One record for each (sampler, steps), as soon as it is measured.

    Args:
        generator: has generate(n, steps, seed, sampler, batch_size) -> texts, and net.
        scorer: the language model that judges.
        steps: numbers of sampling steps.
        n: samples of each record.
        seed: of the first sample.
        samplers: parts; None is the generator's own.
        batch_size: samples at once; does not change the texts.
        facts: what the caller knows of the run: checkpoint, hash, tokenizer, length, grid.
    """
    nets = {id(net): net for net in (generator.net, getattr(generator, "twin", None)) if net is not None}
    for sampler in samplers:
        for count in steps:
            start = time.perf_counter()
            with counted(*nets.values()) as rows:
                texts = generator.generate(n=n, steps=count, seed=seed, sampler=sampler, batch_size=batch_size)
            seconds = time.perf_counter() - start
            used = fields(sampler or getattr(generator, "sampler", None))
            cell = {"text": "generated", "steps": count, "sampler": used, "seed": seed, "nfe": sum(rows) / n}
            grid = {"grid": grid_of(generator, count), "seconds": seconds, "machine": platform.processor() or "cpu"}
            yield {**(facts or {}), **cell, **grid, **measure(texts, scorer)}


def write(records: Sequence[Record], folder: Path) -> list[Path]:
    """One JSON file a record, named by text, sampler, steps and seed; the same cell is written over.

    Args:
        records: from `evaluate` or `references`.
        folder: made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return [write_one(record, folder) for record in records]


def write_one(record: Record, folder: Path) -> Path:
    """One JSON file; NaN and infinity are refused."""
    sampler = (record.get("sampler") or {}).get("class", "")
    words = [record["text"], sampler, record.get("steps", ""), f"seed{record['seed']}", record["scorer_hash"][:8]]
    path = folder / ("-".join(str(word) for word in words if word != "").replace(", ", "-").replace(" ", "-") + ".json")
    path.write_text(json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
