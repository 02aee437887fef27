"""Conditional tasks: answers to the sources of a run on pairs, scored against the targets by SacreBLEU and ROUGE."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from textflow.config.recipe import open_data
from textflow.data import Document, PairSource
from textflow.data.module import DataModule
from textflow.data.row_file import RowFile
from textflow.data.sources.pairs import with_split
from textflow.data.splits import Splitter
from textflow.data.stats import DataStats
from textflow.models import infilling
from textflow.noise import sample_seeds
from textflow.runtime.atomic import atomic_write_text
from textflow.types import Batch

from .bleu_rouge import random_targets, score_answers
from .measure import step_counts
from .protocol import require_text_model, run_facts, run_recipe
from .record import Record, part_fields, write_record
from .samples import count_network_rows


@dataclass(frozen=True)
class ConditionalJob:
    """Run, pairs and sampling settings of a conditional evaluation.

    Args:
        run: folder of a run fitted on pairs.
        steps: numbers of sampling steps.
        n: number of pairs; None: all of the split.
        seed: random seed for sampling and for the random-target baseline.
        batch_size: sources answered at a time.
        configure: applies sampling settings to the loaded model.
        cfg_scale: scale of classifier-free guidance on the source; None: the recipe's.
        overlays: overlays laid over the run's recipe.
        device: torch device.
    """

    run: Path
    steps: Sequence[int]
    n: int | None = None
    seed: int = 0
    batch_size: int = 64
    configure: Callable[[Any], None] = lambda model: None
    cfg_scale: float | None = None
    overlays: Sequence[str] = ()
    device: str = "cpu"


def is_conditional(run: Path) -> bool:
    """True if a run was trained on pairs."""
    return run.is_dir() and run_recipe(run).get("data", {}).get("max_source_length") is not None


def evaluate_conditional(
    job: ConditionalJob, on_progress: Callable[[str, int, int], None] = lambda what, done, of: None
) -> Iterator[Record]:
    """Records of the copied source, a random target, and the answers for each number of steps; each is written to
    RUN/eval/pairs as soon as it is complete, together with its texts."""
    from textflow.run_folder import load

    require_text_model(job.run)
    model: Any = load(job.run, job.device, job.overlays)
    data = open_data(run_recipe(job.run)["data"], "test")
    part, pairs = test_pairs(data, job.n)
    sources, targets = [str(pair.source) for pair in pairs], [pair.text for pair in pairs]
    common = run_facts(job.run, job.overlays) | {"split": part, "seed": job.seed}
    for name, answers in (("source copied", sources), ("random target", random_targets(targets, job.seed))):
        yield score_and_write(job.run, {"text": name, **common}, pairs, answers)
    job.configure(model)
    rows = RowFile(data.rows_folder / f"{part}.arrow")
    for count in step_counts(model, job.steps):
        progress = partial(on_progress, f"{count} steps")
        answers, cell = generate_answers(model, data, rows, len(pairs), count, job, progress)
        yield score_and_write(job.run, {"text": "answers", **common, **cell}, pairs, answers)


def test_pairs(data: DataModule, n: int | None) -> tuple[str, list[Document]]:
    """Split name and its pairs, one per row: the test split, or the validation split where
    the source defines no test split."""
    assert data.stats is not None
    part = "test" if data.stats.rows["test"] else "validation"
    source, rules = data.source, data.split_rules
    own: Iterator[Document] = iter(())
    if isinstance(source, PairSource) and rules.skip in (None, "bad"):  # no pair is left out for those before
        own = (with_split(pair, part) for pair in source.pairs(part))
    for documents in (own, source.documents()):
        assigned = Splitter(rules, source, DataStats()).assign(documents)
        if pairs := list(islice((pair for assignment, pair in assigned if assignment.split == part), n)):
            return part, pairs
    raise ValueError("the run's data has no test or validation pairs; name a split or files for them in the recipe")


def generate_answers(
    model: Any,
    data: DataModule,
    rows: RowFile,
    n: int,
    steps: int,
    job: ConditionalJob,
    on_progress: Callable[[int, int], None],
) -> tuple[list[str], Record]:
    """Answers to the first n rows and their settings; NFE is network passes per answer, decode passes included."""
    nets = {id(net): net for net in (model.net, model.ema_net)}
    options = {"num_steps": steps} if job.cfg_scale is None else {"num_steps": steps, "cfg_scale": job.cfg_scale}
    start, answers = time.perf_counter(), list[str]()
    with count_network_rows(*nets.values()) as rows_per_call:
        for first in range(0, n, job.batch_size):
            count = min(job.batch_size, n - first)
            batch: Batch = data.on_after_batch_transfer(rows[range(first, first + count)], 0)
            assert batch.prompt_mask is not None, "pairs have sources"
            ids = model.complete(batch.ids, batch.prompt_mask, sample_seeds(job.seed, first, count), **options).cpu()
            answers += infilling.decode_answers(model, ids, batch.prompt_mask.cpu())
            on_progress(len(answers), n)
    scale = job.cfg_scale if job.cfg_scale is not None else getattr(model, "cfg_scale", None)
    return answers, {
        "steps": steps,
        "sampler": part_fields(model.sampler),
        "escape": part_fields(getattr(model, "escape", None)),
        "self_cond_guidance": getattr(model, "self_cond_guidance", None),
        "cfg_scale": 1.0 if scale is None else scale,
        "nfe": sum(rows_per_call) / n,
        "seconds": time.perf_counter() - start,
    }


def score_and_write(run: Path, record: Record, pairs: Sequence[Document], answers: Sequence[str]) -> Record:
    """Record with its scores, written together with the scored texts."""
    full_record = record | score_answers(answers, [pair.text for pair in pairs])
    path = write_record(full_record, run / "eval" / "pairs")
    lines = [
        json.dumps({"source": pair.source, "target": pair.text, "answer": answer}, ensure_ascii=False) + "\n"
        for pair, answer in zip(pairs, answers, strict=True)
    ]
    atomic_write_text(path.with_suffix(".jsonl"), "".join(lines))
    return full_record
