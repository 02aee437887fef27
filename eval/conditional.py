"""Conditional tasks: answers to the sources of a run of pairs, held against the targets by SacreBLEU and ROUGE."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from textflow.config.recipe import opened
from textflow.data import Document, Paired
from textflow.data.module import DataModule
from textflow.data.row_file import RowFile
from textflow.data.shards import wanted
from textflow.data.stats import Report
from textflow.models import infilling
from textflow.noise import sample_seeds
from textflow.runtime.atomic import replace_text
from textflow.types import Batch

from .bleu_rouge import others, scores
from .protocol import facts, recipe, refuse_codec
from .record import Record, fields, write
from .samples import counted


@dataclass(frozen=True)
class Task:
    """What is answered, and how.

    Args:
        run: folder of a fitted run of pairs.
        steps: numbers of sampling steps.
        n: pairs of the test split; None is all of it.
        seed: of the samples, and of the targets that stand in at random.
        batch_size: pairs at once.
        way: changes how the loaded model samples.
        scale: of classifier-free guidance by the source; None is the recipe's.
        overlays: recipes that change how it samples.
        device: cpu or cuda.
    """

    run: Path
    steps: Sequence[int]
    n: int | None = None
    seed: int = 0
    batch_size: int = 64
    way: Callable[[Any], None] = lambda model: None
    scale: float | None = None
    overlays: Sequence[str] = ()
    device: str = "cpu"


def of_pairs(run: Path) -> bool:
    """Whether a run was trained on pairs."""
    return run.is_dir() and recipe(run).get("data", {}).get("given") is not None


def answered(task: Task, tick: Callable[[str, int, int], None] = lambda what, done, of: None) -> Iterator[Record]:
    """Records of the copied source, a random target, and the answers of each number of steps; each is written to
    RUN/eval/pairs when it is there, with its texts beside it.

    Args:
        task: what is answered.
        tick: is told what is done, how much of it, of how much.
    """
    from textflow.run_folder import load

    refuse_codec(task.run)
    model: Any = load(task.run, task.device, task.overlays)
    data = opened(recipe(task.run)["data"], "test")
    part, pairs = test_pairs(data, task.n)
    sources, targets = [str(pair.given) for pair in pairs], [pair.text for pair in pairs]
    common = facts(task.run, task.overlays) | {"part": part, "seed": task.seed}
    for name, said in (("source copied", sources), ("random target", others(targets, task.seed))):
        yield kept(task.run, {"text": name, **common}, pairs, said)
    task.way(model)
    rows = RowFile(data.folder / f"{part}.arrow")
    for count in [own] if (own := getattr(model, "passes", None)) else task.steps:
        said, cell = answers(model, data, rows, len(pairs), count, task, partial(tick, f"{count} steps"))
        yield kept(task.run, {"text": "answers", **common, **cell}, pairs, said)


def test_pairs(data: DataModule, n: int | None) -> tuple[str, list[Document]]:
    """The name of the part that is answered and its pairs, as many as its rows: the test's, or the validation's where
    the source lays no test down.

    Args:
        data: set up.
        n: most pairs; None is all.
    """
    assert data.report is not None
    part = "test" if data.report.rows["test"] else "validation"
    own = data.source.pairs(part) if isinstance(data.source, Paired) else iter(())
    laid_down = list(islice((pair for _, pair in wanted(own, Report())), n))
    if laid_down:
        return part, laid_down
    shared = (pair for i, pair in wanted(data.source.documents(), Report()) if data.split.of(i, pair) == part)
    if found := list(islice(shared, n)):
        return part, found
    raise ValueError(
        "the run's data has neither test nor validation pairs; name a split or files for them in the recipe"
    )


def answers(
    model: Any, data: DataModule, rows: RowFile, n: int, steps: int, task: Task, tick: Callable[[int, int], None]
) -> tuple[list[str], Record]:
    """Answers to the first n rows, and how they were made: NFE is network passes an answer, decode passes included."""
    nets = {id(net): net for net in (model.net, model.twin)}
    how = {"steps": steps} if task.scale is None else {"steps": steps, "scale": task.scale}
    start, said = time.perf_counter(), list[str]()
    with counted(*nets.values()) as passed:
        for first in range(0, n, task.batch_size):
            count = min(task.batch_size, n - first)
            batch: Batch = data.on_after_batch_transfer(rows[range(first, first + count)], 0)
            assert batch.fixed is not None, "pairs have sources"
            ids = model.complete(batch.ids, batch.fixed, sample_seeds(task.seed, first, count), **how).cpu()
            said += infilling.answers(model, ids, batch.fixed.cpu())
            tick(len(said), n)
    scale = task.scale if task.scale is not None else getattr(model, "prompt_guidance", None)
    return said, {
        "steps": steps,
        "sampler": fields(model.sampler),
        "escape": fields(getattr(model, "escape", None)),
        "guidance": getattr(model, "guidance", None),
        "prompt_guidance": 1.0 if scale is None else scale,
        "nfe": sum(passed) / n,
        "seconds": time.perf_counter() - start,
    }


def kept(run: Path, record: Record, pairs: Sequence[Document], said: Sequence[str]) -> Record:
    """A record with its scores, written beside the texts that were scored."""
    whole = record | scores(said, [pair.text for pair in pairs])
    path = write(whole, run / "eval" / "pairs")
    lines = [
        json.dumps({"source": pair.given, "target": pair.text, "answer": answer}, ensure_ascii=False) + "\n"
        for pair, answer in zip(pairs, said, strict=True)
    ]
    replace_text(path.with_suffix(".jsonl"), "".join(lines))
    return whole
