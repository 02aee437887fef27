"""Measuring: texts and samples become records."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from textflow.metrics import KEPT, Interval, Scorer, bootstrap, numbers_of
from textflow.metrics.summary import mean

from .record import COUNTS, NUMBERS, Record
from .record import fields as fields
from .record import finite as finite
from .record import write as write
from .samples import Line, code, draw, place_of, texts_of

Ids: TypeAlias = Sequence[Sequence[int]]
More: TypeAlias = Callable[[Ids | None, Ids], Mapping[str, Interval]]  # generator's and scorer's ids -> further numbers
NOTHING: Mapping[str, Interval] = {}


def measure(
    texts: Sequence[str],
    scorer: Scorer,
    ids: Ids | None = None,
    over: Literal["scorer", "generator"] = "scorer",
    more: More = lambda own, scored: NOTHING,
    tick: Callable[[int], None] = lambda texts: None,
) -> Record:
    """All that is printed beside a perplexity, with 95% intervals over samples, and the scorer's protocol.

    Args:
        texts: decoded samples; what they cannot give, such as a perplexity of no tokens, is None.
        scorer: the language model that judges.
        ids: the generator's own tokens.
        over: whose tokens entropy is taken of.
        more: further numbers.
        tick: is told of every batch how many texts were scored.
    """
    scored = scorer.score(texts, tick)
    found = {**numbers_of(scored, ids, over), **more(ids, scored.ids)}
    return {
        **dict.fromkeys(NUMBERS),
        **{name: one.value for name, one in found.items()},
        "intervals": {name: [one.low, one.high] for name, one in found.items()},
        "entropy_ids": over,
        "n": len(texts),
        **{name: getattr(scored, name) for name in COUNTS if name != "tokens"},
        "tokens": int(scored.tokens.sum()),
        **scorer.protocol(),
        "textflow": version("textflow"),
        "code": code(),
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
    texts: Sequence[str],
    scorer: Scorer,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    ids: Ids | None = None,
    encode: Callable[[list[str]], Ids] | None = None,
    **how: Any,
) -> Iterator[Record]:
    """Two records to read the others by: real text and real text with its words shuffled.

    Args:
        texts: real ones that neither generator nor scorer was trained on.
        scorer: the language model that judges.
        seed: of the shuffle.
        facts: entries that every record carries.
        ids: the generator's tokens of the texts.
        encode: the generator's tokenizer, for the shuffled ones.
        how: options of `measure`.
    """
    known = {**(facts or {}), "seed": seed}
    yield {"text": "real", **known, **measure(texts, scorer, ids, **how)}
    mixed = shuffled(texts, seed)
    other = encode([text.replace(KEPT, " ") for text in mixed]) if encode else None
    yield {"text": "shuffled", **known, **measure(mixed, scorer, other, **how)}


def times(generator: Any, steps: int) -> Record | None:
    """The generator's clock and the times that it gives; None without a clock."""
    clock = getattr(generator, "grid", None)
    return None if clock is None else {"class": type(clock).__name__, "times": clock.grid(steps)}


def cell_of(generator: Any, steps: int, seed: int, sampler: Any = None) -> Record:
    """How a cell is sampled: all that its samples depend on besides the run."""
    return {
        "text": "generated",
        "steps": steps,
        "sampler": fields(sampler or getattr(generator, "sampler", None)),
        "escape": fields(getattr(generator, "escape", None)),
        "grid": times(generator, steps),
        "guidance": getattr(generator, "guidance", None),
        "seed": seed,
    }


def cost(lines: Sequence[Line]) -> dict[str, Interval]:
    """Network passes a sample (NFE), and seconds of all."""
    passes, seconds = (torch.tensor([getattr(line, name) for line in lines]) for name in ("passes", "seconds"))
    total = seconds.double()
    return {"nfe": bootstrap(mean(passes), len(lines)), "seconds": bootstrap(lambda counts: counts @ total, len(lines))}


def evaluate(
    generator: Any,
    scorer: Scorer,
    steps: Sequence[int],
    n: int = 256,
    seed: int = 0,
    samplers: Sequence[Any] = (None,),
    batch_size: int = 64,
    facts: Mapping[str, Any] | None = None,
    over: Literal["scorer", "generator"] = "scorer",
    run: Path | None = None,
    more: More = lambda own, scored: NOTHING,
    tick: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Iterator[Record]:
    """One record for each (sampler, steps), as soon as it is measured.

    Args:
        generator: has net, tokenizer and sample(seeds, steps, sampler); twin, sampler, grid, guidance are used.
        scorer: the language model that judges.
        steps: numbers of sampling steps; one that takes a pass a token is judged once, at its own `passes`.
        n: samples of each record.
        seed: of the samples.
        samplers: parts; None is the generator's own.
        batch_size: samples at once; does not change the texts.
        facts: what the caller knows of the run: checkpoint, its hash, tokenizer, length.
        over: whose tokens entropy is taken of.
        run: folder that keeps the samples; default: they are not kept.
        more: further numbers.
        tick: is told what is done, how much of it, and of how much.
    """
    known = dict(facts or {})
    for sampler in samplers:
        for count in counts_of(generator, steps):
            cell = cell_of(generator, count, seed, sampler)
            place = None if run is None else sample_place(run, known, generator, cell)
            ready: Callable[[int], None] = lambda done: tick("sampling", done, n)  # noqa: E731
            lines = draw(generator, count, n, seed, sampler, batch_size, place, tick=ready)
            ids, costs = [line.ids for line in lines], cost(lines)
            texts = texts_of(generator.tokenizer, ids, scorer.counts.special)
            measured = measure(texts, scorer, ids, over, more, told(tick, "scoring", n))
            measured["intervals"] |= {name: [one.low, one.high] for name, one in costs.items()}
            where = {} if run is None or place is None else {"samples": str(place.relative_to(run))}
            yield {**known, **cell, **{name: one.value for name, one in costs.items()}, **where, **measured}


def counts_of(generator: Any, steps: Sequence[int]) -> Sequence[int]:
    """The numbers of steps of a generator: its own where it takes a pass a token."""
    own = getattr(generator, "passes", None)
    return [own] if own else steps


def sample_place(run: Path, facts: Mapping[str, Any], generator: Any, cell: Record) -> Path:
    """Where the samples of a cell are kept."""
    kind = str(getattr(generator, "device", "cpu")).split(":")[0]  # other devices round otherwise
    known = {key: facts.get(key) for key in ("checkpoint_hash", "recipe", "length")}
    return place_of(run, {**known, **cell, "device": kind, "torch": torch.__version__})


def told(tick: Callable[[str, int, int], None], what: str, of: int) -> Callable[[int], None]:
    """A tick of how many are done, from how many each batch had."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        tick(what, done, of)

    return tell
