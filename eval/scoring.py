"""Evaluation of a run or a text file: parallel sampling, scoring, and reference records of real text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from textflow.metrics import Interval, Scorer
from textflow.models.causal_lm import load_scorer
from textflow.runtime.atomic import sha256

from .extra_metrics import ExtraMetrics, codec_token_recovery
from .measure import cumulative_progress, evaluate, measure, reference_records
from .parallel import OnProgress, SamplingJob, sample_on_devices
from .protocol import Protocol, ValidationText, is_disjoint, run_facts, run_recipe, validation_batch, validation_text
from .record import Record, replace_nonfinite, write_record
from .samples import decode_texts
from .text_file import read_texts


@dataclass(frozen=True)
class ScorerConfig:
    """Scorer and further metrics of an evaluation.

    Args:
        protocol: measurement protocol.
        model: Hub name or folder of the scorer.
        scorer_name: name of the scorer for the protocol: `local`, a Hub name, or a folder given instead.
        dtype: scorer dtype; default: the protocol's.
        memorization: search the training text for 4-grams; default: the protocol's setting.
        mauve: measure MAUVE.
        device: cpu, cuda, ...
    """

    protocol: Protocol
    model: str
    scorer_name: str
    dtype: str | None = None
    memorization: bool | None = None
    mauve: bool = False
    device: str = "cpu"

    def load(self) -> Scorer:
        """Load the scorer with the protocol's truncation."""
        protocol = self.protocol
        return load_scorer(
            self.model,
            max_length=protocol.truncation,
            allow_shorter_context=True,
            dtype=self.dtype or protocol.dtype,
            token_weighting=protocol.token_weighting,
            batch_size=protocol.batch_size,
            device=self.device,
            revision=protocol.revision if self.scorer_name == protocol.scorer else None,
        )

    def annotate(self, record: Record, scorer: Scorer) -> Record:
        """Record with its protocol and deviations."""
        deviations = self.protocol.deviations(scorer, self.scorer_name, record["n"])
        return replace_nonfinite({"protocol": self.protocol.name, "deviations": deviations, **record})


def evaluate_run(
    job: SamplingJob, config: ScorerConfig, devices: Sequence[str] = (), on_progress: OnProgress = lambda *done: None
) -> Iterator[Record]:
    """Records of real text, shuffled real text and each cell; each is written to RUN/eval when complete.

    Args:
        job: sampling job.
        config: scorer and metrics.
        devices: devices for parallel sampling, if more than one.
        on_progress: callback (stage, done, total).
    """
    from textflow.run_folder import load

    if config.mauve and job.num_samples < config.protocol.mauve_samples:
        least = config.protocol.mauve_samples
        raise ValueError(
            f"MAUVE by protocol {config.protocol.name} needs {least} samples and got {job.num_samples}: -n {least}"
        )
    common = run_facts(job.run, job.overlays)
    words, generator = config.load(), load(job.run, config.device, job.overlays)
    if len(devices) > 1:
        sample_on_devices(job, generator, common, devices, on_progress)
    common |= {"scorer_is_disjoint": is_disjoint(common["recipe"], run_recipe(Path(config.model)))}
    text, special = validation_text(common["recipe"]["data"], job.num_samples), words.weighting.keep_special_tokens
    texts = decode_texts(text.data_module.tokenizer, text.token_ids, special)
    how: dict[str, Any] = {
        "entropy_ids": config.protocol.entropy_ids,
        "extra_metrics": make_extra_metrics(config, words, text, texts),
    }
    own = measure_recovery(generator, common["recipe"]["data"])
    first = reference_records(texts, words, job.seed, common, text.token_ids, text.data_module.tokenizer.encode, **how)
    for record in chain(first, evaluate_points(job, generator, words, common, on_progress, **how)):
        full_record = config.annotate(add_metrics(record, own), words)
        write_record(full_record, job.run / "eval")
        yield full_record


def evaluate_file(
    path: Path, config: ScorerConfig, num_texts: int | None = None, on_progress: OnProgress = lambda *done: None
) -> Record:
    """Record of a text file, written to a folder next to the file.

    Args:
        path: text file.
        config: scorer and metrics.
        num_texts: number of texts to score; default: the protocol's n.
        on_progress: callback (stage, done, total).
    """
    parsed, count = read_texts(path), num_texts or config.protocol.n
    if len(parsed.texts) < count:
        held = len(parsed.texts)
        raise ValueError(
            f"{path} holds {held} readable texts, "
            f"{'-n asks for' if num_texts else f'protocol {config.protocol.name} needs'} {count}: make more, or score "
            f"these with -n {held}, which the record says"
        )
    selected, words = parsed.take(count), config.load()
    facts = {"text": "file", "file": str(path), "file_hash": sha256(path)[:16]}
    measured = measure(
        selected.texts,
        words,
        selected.ids,
        config.protocol.entropy_ids,
        on_progress=cumulative_progress(on_progress, "scoring", count),
    )
    lost = {"unreadable": len(parsed.errors), "unreadable_lines": parsed.listed_errors}
    record = config.annotate({**facts, **measured, **lost}, words)
    write_record(record, path.with_suffix(".eval"))
    return record


def evaluate_points(
    job: SamplingJob, generator: Any, scorer: Scorer, common: Record, on_progress: OnProgress, **how: Any
) -> Iterator[Record]:
    """Records of every sampling config at every number of steps."""
    for way in job.sampling_configs:
        way.configure(generator)
        sweep = {"sweep": dict(way.sweep)} if way.sweep else {}
        options: dict[str, Any] = {"facts": common | sweep, "run": job.run, "on_progress": on_progress, **how}
        yield from evaluate(
            generator, scorer, job.steps, job.num_samples, job.seed, batch_size=job.batch_size, **options
        )


def make_extra_metrics(
    config: ScorerConfig, scorer: Scorer, text: ValidationText, real_texts: Sequence[str]
) -> ExtraMetrics:
    """Further metrics of the config: memorisation, MAUVE."""
    memorize = config.protocol.memorization if config.memorization is None else config.memorization
    return ExtraMetrics(
        text.data_module if memorize else None,
        scorer,
        real_texts if config.mauve else None,
        config.protocol.mauve_samples,
    )


def measure_recovery(generator: Any, data: Record) -> dict[str, Interval]:
    """Token recovery of a codec on the first 64 validation rows; empty without a codec."""
    return (
        {"recovery": codec_token_recovery(generator, validation_batch(data, 64))} if hasattr(generator, "codec") else {}
    )


def add_metrics(record: Record, found: Mapping[str, Interval]) -> Record:
    """Record with further metrics."""
    intervals = record["intervals"] | {name: [one.low, one.high] for name, one in found.items()}
    return {**record, **{name: one.value for name, one in found.items()}, "intervals": intervals}
