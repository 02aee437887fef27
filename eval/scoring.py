"""Evaluation of a run or a text file: parallel sampling, scoring, and reference records of real text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from textflow.metrics import Interval, Scorer, TextScorer
from textflow.models.causal_lm import load_scorer
from textflow.runtime.atomic import sha256

from .extra_metrics import ExtraMetrics, codec_token_recovery
from .grammar_scorer import GrammarScorer
from .measure import cumulative_progress, evaluate, measure, reference_records
from .parallel import OnProgress, SamplingJob, sample_on_devices
from .protocol import Protocol, is_disjoint, run_facts, run_recipe, validation_text
from .record import Record, replace_nonfinite, write_record
from .samples import decode_texts
from .text_file import read_texts


@dataclass(frozen=True)
class ScorerConfig:
    """Scorer and further metrics of an evaluation.

    Args:
        protocol: measurement protocol.
        model: name or folder of the scorer, or name of the grammar.
        scorer_name: name of the scorer for the protocol: `local`, `grammar`, a Hub name, or a folder given instead.
        dtype: scorer dtype; default: the protocol's.
        memorization: search the training text for 4-grams; default: the protocol's setting.
        mauve: measure MAUVE too.
        device: torch device.
    """

    protocol: Protocol
    model: str
    scorer_name: str
    dtype: str | None = None
    memorization: bool | None = None
    mauve: bool = False
    device: str = "cpu"

    def load(self) -> TextScorer:
        """Load the scorer with the protocol's truncation."""
        protocol = self.protocol
        if protocol.scorer == "grammar":
            return GrammarScorer(self.model, protocol)
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

    def annotate(self, record: Record, scorer: TextScorer) -> Record:
        """Record with its protocol and deviations."""
        deviations = self.protocol.deviations(scorer, self.scorer_name, record["n"])
        return replace_nonfinite({"protocol": self.protocol.name, "deviations": deviations, **record})


def evaluate_run(
    job: SamplingJob, config: ScorerConfig, devices: Sequence[str] = (), on_progress: OnProgress = lambda *done: None
) -> Iterator[Record]:
    """Records of real text, shuffled real text and each cell; each is written to RUN/eval when complete.

    Args:
        job: run and sampling settings.
        config: scorer and further metrics.
        devices: devices for parallel sampling, if more than one.
        on_progress: callback (stage, done, total).
    """
    from textflow.run_folder import load

    if config.mauve and job.num_samples < config.protocol.mauve_samples:
        name, least = config.protocol.name, config.protocol.mauve_samples
        raise ValueError(f"MAUVE by protocol {name} needs {least} samples and got {job.num_samples}: -n {least}")
    common = run_facts(job.run, job.overlays)
    scorer, generator = config.load(), load(job.run, config.device, job.overlays)
    if len(devices) > 1:
        sample_on_devices(job, generator, common, devices, on_progress)
    scorer_recipe = run_recipe(Path(config.model)) if isinstance(scorer, Scorer) else {}
    common |= {"scorer_is_disjoint": is_disjoint(common["recipe"], scorer_recipe)}
    token_ids, data = validation_text(common["recipe"]["data"], job.num_samples)
    texts = decode_texts(data.tokenizer, token_ids, scorer.weighting.keep_special_tokens)
    extra_metrics = make_extra_metrics(config, scorer, data, texts)
    options: dict[str, Any] = {"entropy_ids": config.protocol.entropy_ids, "extra_metrics": extra_metrics}
    recovery = dict[str, Interval]()
    if hasattr(generator, "codec"):
        recovery["recovery"] = codec_token_recovery(generator, data.first_rows(64, held_out=True))
    references = reference_records(texts, scorer, job.seed, common, token_ids, data.tokenizer.encode, **options)
    for record in chain(references, evaluate_points(job, generator, scorer, common, on_progress, **options)):
        full_record = config.annotate(add_metrics(record, recovery), scorer)
        write_record(full_record, job.run / "eval")
        yield full_record


def evaluate_file(
    path: Path, config: ScorerConfig, num_texts: int | None = None, on_progress: OnProgress = lambda *done: None
) -> Record:
    """Record of a text file, written to a folder next to the file.

    Args:
        path: file of texts.
        config: scorer and further metrics.
        num_texts: number of texts to score; default: the protocol's n.
        on_progress: callback (stage, done, total).
    """
    parsed, count = read_texts(path), num_texts or config.protocol.n
    if len(parsed.texts) < count:
        available, needed = len(parsed.texts), "-n asks for" if num_texts else f"protocol {config.protocol.name} needs"
        raise ValueError(
            f"{path} holds {available} readable texts, {needed} {count}: make more, or score these with "
            f"-n {available}, which the record says"
        )
    selected, scorer = parsed.take(count), config.load()
    facts = {"text": "file", "file": str(path), "file_hash": sha256(path)[:16]}
    on_scored = cumulative_progress(on_progress, "scoring", count)
    metrics = measure(selected.texts, scorer, selected.ids, config.protocol.entropy_ids, on_progress=on_scored)
    unreadable = {"unreadable": len(parsed.errors), "unreadable_lines": parsed.listed_errors}
    record = config.annotate({**facts, **metrics, **unreadable}, scorer)
    write_record(record, path.with_suffix(".eval"))
    return record


def evaluate_points(
    job: SamplingJob, generator: Any, scorer: TextScorer, common: Record, on_progress: OnProgress, **options: Any
) -> Iterator[Record]:
    """Records of every sampling config at every number of steps."""
    options |= {"batch_size": job.batch_size, "run": job.run, "on_progress": on_progress}
    for sampling in job.sampling_configs:
        sampling.configure(generator)
        facts = common | ({"sweep": dict(sampling.sweep)} if sampling.sweep else {})
        yield from evaluate(generator, scorer, job.steps, job.num_samples, job.seed, facts=facts, **options)


def make_extra_metrics(config: ScorerConfig, scorer: TextScorer, data: Any, real_texts: Sequence[str]) -> ExtraMetrics:
    """Further metrics of the config: memorisation, MAUVE."""
    memorize = config.protocol.memorization if config.memorization is None else config.memorization
    texts = real_texts if config.mauve else None
    features = scorer if isinstance(scorer, Scorer) else None
    return ExtraMetrics(data if memorize else None, features, texts, config.protocol.mauve_samples)


def add_metrics(record: Record, metrics: Mapping[str, Interval]) -> Record:
    """Record with further metrics."""
    intervals = record["intervals"] | {name: [one.low, one.high] for name, one in metrics.items()}
    return {**record, **{name: one.value for name, one in metrics.items()}, "intervals": intervals}
