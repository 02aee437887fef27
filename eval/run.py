"""Records: a number and the whole protocol that it was measured by, one for each (steps, sampler)."""

import hashlib
import inspect
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from textflow.metrics import Scorer, numbers_of

Record = dict[str, Any]
NUMBERS = (
    *("perplexity", "nll", "entropy", "seq_rep_4", "clean"),
    *("distinct_1", "distinct_2", "distinct_3", "diversity"),
)
MEASURED = (*NUMBERS, "intervals", "empty", "tokens", "nfe", "seconds")


def measure(texts: Sequence[str], scorer: Scorer, ids: Sequence[Sequence[int]] | None = None) -> Record:
    """All that is printed beside a perplexity, with 95% intervals over samples, and the scorer's protocol.

    Args:
        texts: decoded samples; what they cannot give, such as a perplexity of no tokens, is None.
        scorer: the language model that judges.
        ids: tokens that entropy and n-grams are over; default: the scorer's.
    """
    scored = scorer.score(texts)
    found = numbers_of(scored, ids)
    return {
        **{name: found[name].value if name in found else None for name in NUMBERS},
        "intervals": {name: [one.low, one.high] for name, one in found.items()},
        "entropy_ids": "scorer" if ids is None else "generator",
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
    return [
        " ".join(random.Random(seed + i).sample(words, len(words))) for i, words in enumerate(map(str.split, texts))
    ]


def references(
    texts: Sequence[str], scorer: Scorer, seed: int = 0, facts: Mapping[str, Any] | None = None
) -> list[Record]:
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
        {"text": "shuffled", **common, **measure(shuffled(texts, seed), scorer)},
    ]


@contextmanager
def counted(*nets: nn.Module) -> Iterator[list[int]]:
    """Collect how many rows went through the networks, decode passes included; their sum over the samples is the NFE.

    Args:
        nets: denoisers, called as net(z, t, given).
    """
    rows: list[int] = []

    def note(net: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], belief: Any) -> None:
        rows.append(len(args[0] if args else kwargs["z"]))

    def reading(net: Any) -> Any:
        decode = net.decode

        def read(z: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            rows.append(len(z))
            return decode(z, *args, **kwargs)

        return read

    hooks = [net.register_forward_hook(note, with_kwargs=True) for net in nets]
    readers: list[Any] = [net for net in nets if hasattr(net, "decode")]
    for net in readers:
        net.decode = reading(net)
    try:
        yield rows
    finally:
        for hook in hooks:
            hook.remove()
        for net in readers:
            del net.decode


def fields(part: Any) -> Record | None:
    """A part as {"class": its name, argument: value, ...} with the arguments that it keeps; None stays None."""
    if part is None:
        return None
    named = {name: getattr(part, name) for name in inspect.signature(type(part)).parameters if hasattr(part, name)}
    return {"class": type(part).__name__, **{name: plain(value) for name, value in named.items()}}


def times(generator: Any, steps: int) -> Record | None:
    """The generator's clock and the times that it gives; None without a clock."""
    clock = getattr(generator, "grid", None)
    return None if clock is None else {"class": type(clock).__name__, "times": clock.grid(steps)}


def plain(value: Any) -> Any:
    """What JSON can hold: numbers, words and lists as they are, parts by their fields."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [plain(each) for each in value] if isinstance(value, list | tuple) else fields(value)


def sampled(generator: Any, steps: int, n: int, seed: int, sampler: Any, batch_size: int) -> tuple[list[str], Record]:
    """Texts, and how they were made: sampler, grid, guidance, network passes a sample (NFE), seconds."""
    nets = {id(net): net for net in (generator.net, getattr(generator, "twin", None)) if net is not None}
    start = time.perf_counter()
    with counted(*nets.values()) as rows:
        texts = generator.generate(n=n, steps=steps, seed=seed, sampler=sampler, batch_size=batch_size)
    return texts, {
        "text": "generated",
        "steps": steps,
        "sampler": fields(sampler or getattr(generator, "sampler", None)),
        "escape": fields(getattr(generator, "escape", None)),
        "grid": times(generator, steps),
        "guidance": getattr(generator, "guidance", None),
        "seed": seed,
        "nfe": sum(rows) / n,
        "seconds": time.perf_counter() - start,
    }


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
        generator: has net and generate(n, steps, seed, sampler, batch_size); twin, sampler, grid, guidance are used.
        scorer: the language model that judges.
        steps: numbers of sampling steps; one that takes a pass a token is judged once, at its own `passes`.
        n: samples of each record.
        seed: of the samples.
        samplers: parts; None is the generator's own.
        batch_size: samples at once; does not change the texts.
        facts: what the caller knows of the run: checkpoint, its hash, tokenizer, length.
    """
    for sampler in samplers:
        for count in [own] if (own := getattr(generator, "passes", None)) else steps:
            texts, cell = sampled(generator, count, n, seed, sampler, batch_size)
            yield {**(facts or {}), **cell, **measure(texts, scorer)}


def finite(value: Any) -> Any:
    """The same with None for numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write(record: Record, folder: Path) -> Path:
    """One JSON file, named by its cell and a hash of its protocol: another protocol never overwrites it.

    Args:
        record: from `evaluate` or `references`; NaN and infinity are refused.
        folder: made if it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sampler = (record.get("sampler") or {}).get("class", "")
    words = [record["text"], sampler, record.get("steps", ""), protocol_hash(record)]
    path = folder / ("-".join(str(word).replace(" ", "-") for word in words if word != "") + ".json")
    path.write_text(json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def protocol_hash(record: Record) -> str:
    """8 hex digits of all that a record says but what was measured."""
    said = {key: value for key, value in record.items() if key not in MEASURED}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
