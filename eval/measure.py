"""Measurement of texts and samples into records."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from textflow.metrics import EOS_TEXT, Interval, TextScorer, bootstrap, summarize
from textflow.metrics.summary import mean_statistic
from textflow.models.generation import AnySampler, TextGenerator
from textflow.samplers import AllAtOnce

from .record import COUNT_KEYS, METRIC_KEYS, Record, part_fields
from .samples import GeneratedSample, code_hash, decode_texts, draw_samples, samples_folder
from .words import has_words, split_characters

Ids: TypeAlias = Sequence[Sequence[int]]
ExtraNumbers: TypeAlias = Callable[[Ids | None, Ids], Mapping[str, Interval]]  # generator's and scorer's ids -> numbers
NO_NUMBERS: Mapping[str, Interval] = {}


def measure(
    texts: Sequence[str],
    scorer: TextScorer,
    ids: Ids | None = None,
    entropy_ids: Literal["scorer", "generator"] = "scorer",
    extra_metrics: ExtraNumbers = lambda own, scored: NO_NUMBERS,
    on_progress: Callable[[int], None] = lambda texts: None,
) -> Record:
    """Metrics with 95% intervals over samples, and the scorer's protocol.

    Args:
        texts: decoded samples; a metric that is undefined for them is None.
        scorer: scorer of the texts.
        ids: generator token ids of the texts.
        entropy_ids: tokens for the entropy: scorer or generator.
        extra_metrics: metrics in addition to the scorer's.
        on_progress: callback for the number of texts in each scored batch.
    """
    scored = scorer.score(texts, on_progress)
    further = {**scorer.text_metrics(texts), **extra_metrics(ids, scored.ids)}
    metrics = {**summarize(scored, ids, entropy_ids), **further}
    return {
        **dict.fromkeys(METRIC_KEYS),
        **{name: one.value for name, one in metrics.items()},
        "intervals": {name: [one.low, one.high] for name, one in metrics.items()},
        "entropy_ids": entropy_ids,
        "n": len(texts),
        **{name: getattr(scored, name) for name in COUNT_KEYS if name != "tokens"},
        "tokens": int(scored.tokens.sum()),
        **scorer.protocol(),
        "textflow": version("textflow"),
        "code": code_hash(),
        "torch": torch.__version__,
    }


def shuffle_words(texts: Sequence[str], seed: int, by_characters: bool = False) -> list[str]:
    """Texts with their words, or their characters, in random order."""
    split, space = (split_characters, "") if by_characters else (str.split, " ")
    rows = enumerate(map(split, texts))
    return [space.join(random.Random(seed + i).sample(units, len(units))) for i, units in rows]


def reference_records(
    texts: Sequence[str],
    scorer: TextScorer,
    seed: int = 0,
    facts: Mapping[str, Any] | None = None,
    ids: Ids | None = None,
    encode: Callable[[list[str]], Ids] | None = None,
    **measure_options: Any,
) -> Iterator[Record]:
    """Reference records of real text and of real text with shuffled words, or characters where it has no words.

    Args:
        texts: real texts that neither generator nor scorer was trained on.
        scorer: scorer of the texts.
        seed: random seed of the shuffle.
        facts: entries on the run.
        ids: generator token ids of the texts.
        encode: generator tokenizer for the shuffled texts.
    """
    common = {**(facts or {}), "seed": seed}
    yield {"text": "real", **common, **measure(texts, scorer, ids, **measure_options)}
    by_characters = not has_words(texts)
    common |= {"shuffled_units": "characters"} if by_characters else {}
    shuffled = shuffle_words(texts, seed, by_characters)
    shuffled_ids = encode([text.replace(EOS_TEXT, " ") for text in shuffled]) if encode else None
    yield {"text": "shuffled", **common, **measure(shuffled, scorer, shuffled_ids, **measure_options)}


def eval_point(generator: TextGenerator, steps: int, seed: int, sampler: AnySampler | None = None) -> Record:
    """Sampling settings of a cell: all inputs of its samples besides the run; no time grid without a schedule."""
    schedule, readout = getattr(generator, "sampling_schedule", None), getattr(generator, "readout", None)
    path = getattr(generator, "path", None)  # tokens have none: from 0 to 1
    ends = {} if path is None else {"t_min": path.t_min, "t_max": path.t_max}
    grid = None if schedule is None else {"class": type(schedule).__name__, "times": schedule.grid(steps, **ends)}
    calls = 0 if readout is None else readout.num_calls(generator.text_format.seq_length)
    own = {"readout": part_fields(readout), "readout_calls": calls} if calls else {}
    if not isinstance(order := getattr(generator, "order", AllAtOnce()), AllAtOnce):
        own["order"] = part_fields(order)
    return own | {
        "text": "generated",
        "steps": steps,
        "sampler": part_fields(sampler or getattr(generator, "sampler", None)),
        "escape": part_fields(getattr(generator, "escape", None)),
        "time_grid": grid,
        "self_cond_guidance": getattr(generator, "self_cond_guidance", None),
        "seed": seed,
    }


def sampling_cost(samples: Sequence[GeneratedSample]) -> dict[str, Interval]:
    """Network passes per sample (NFE), and total seconds."""
    nfe, seconds = (torch.tensor([getattr(line, name) for line in samples]) for name in ("nfe", "seconds"))
    total = seconds.double()
    return {
        "nfe": bootstrap(mean_statistic(nfe), len(samples)),
        "seconds": bootstrap(lambda counts: counts @ total, len(samples)),
    }


def evaluate(
    generator: TextGenerator,
    scorer: TextScorer,
    steps: Sequence[int],
    num_samples: int = 256,
    seed: int = 0,
    samplers: Sequence[AnySampler | None] = (None,),
    batch_size: int = 64,
    facts: Mapping[str, Any] | None = None,
    entropy_ids: Literal["scorer", "generator"] = "scorer",
    run: Path | None = None,
    extra_metrics: ExtraNumbers = lambda own, scored: NO_NUMBERS,
    on_progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Iterator[Record]:
    """Records for each (sampler, steps), yielded as soon as they are measured.

    Args:
        generator: model that is sampled.
        scorer: scorer of the samples.
        steps: numbers of sampling steps; a model with one pass per token is scored once, at its `max_calls`.
        num_samples: number of samples per sampler and number of steps.
        seed: random seed for sampling.
        samplers: samplers; None: the generator's own.
        batch_size: samples per batch; does not change the texts.
        facts: entries on the run: checkpoint, its hash, tokenizer, seq_length.
        entropy_ids: tokens for the entropy: scorer or generator.
        run: run folder for saving the samples; default: not saved.
        extra_metrics: metrics in addition to the scorer's.
        on_progress: callback (stage, done, total).
    """
    common = dict(facts or {})

    def on_sampled(count: int) -> None:
        on_progress("sampling", count, num_samples)

    for sampler in samplers:
        for count in step_counts(generator, steps):
            cell = eval_point(generator, count, seed, sampler)
            out = None if run is None else sample_folder(run, common, generator, cell)
            lines = draw_samples(generator, count, num_samples, seed, sampler, batch_size, out, on_progress=on_sampled)
            ids, costs = [line.ids for line in lines], sampling_cost(lines)
            texts = decode_texts(generator.tokenizer, ids, scorer.weighting.keep_special_tokens)
            on_scored = cumulative_progress(on_progress, "scoring", num_samples)
            metrics = measure(texts, scorer, ids, entropy_ids, extra_metrics, on_scored)
            metrics["intervals"] |= {name: [one.low, one.high] for name, one in costs.items()}
            samples = {} if run is None or out is None else {"samples": str(out.relative_to(run))}
            yield {**common, **cell, **{name: one.value for name, one in costs.items()}, **samples, **metrics}


def step_counts(generator: TextGenerator, steps: Sequence[int]) -> Sequence[int]:
    """Numbers of steps of a generator: `max_calls` if it takes one pass per token."""
    own = getattr(generator, "max_calls", None)
    return [own] if own else steps


def sample_folder(run: Path, facts: Mapping[str, Any], generator: TextGenerator, point: Record) -> Path:
    """Sample folder of a cell."""
    device = str(getattr(generator, "device", "cpu")).split(":")[0]  # rounding differs between devices
    common = {key: facts.get(key) for key in ("checkpoint_hash", "recipe", "seq_length")}
    return samples_folder(run, {**common, **point, "device": device, "torch": torch.__version__})


def cumulative_progress(on_progress: Callable[[str, int, int], None], stage: str, total: int) -> Callable[[int], None]:
    """Callback that turns batch sizes into a cumulative count."""
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done += count
        on_progress(stage, done, total)

    return report
