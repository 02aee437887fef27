"""From a run, or a file of texts, to records: samples on every device, a judge, real text to read the numbers by."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from textflow.metrics import Interval, Scorer
from textflow.models.causal_lm import scorer
from textflow.runtime.atomic import content

from .extra_metrics import Beside, recovery
from .measure import evaluate, measure, references, told
from .parallel import Task, Tick, spread
from .protocol import Protocol, Real, apart, facts, held_out, real, recipe
from .record import Record, finite, write
from .samples import texts_of
from .text_file import read


@dataclass(frozen=True)
class Judge:
    """Who judges, and what is asked besides.

    Args:
        protocol: how.
        folder: Hub name or folder of the scorer.
        asked: its name in the protocol's words: `local`, a Hub name, or a folder that was given instead.
        dtype: of the scorer; default: the protocol's.
        memory: whether 4-grams are looked up in the training text; default: as the protocol says.
        mauve: whether MAUVE is measured.
        device: cpu, cuda, ...
    """

    protocol: Protocol
    folder: str
    asked: str
    dtype: str | None = None
    memory: bool | None = None
    mauve: bool = False
    device: str = "cpu"

    def scorer(self) -> Scorer:
        """The language model, cut to what it reads."""
        said = self.protocol
        return scorer(
            self.folder,
            length=said.truncation,
            shorter=True,
            dtype=self.dtype or said.dtype,
            counting=said.counting,
            batch_size=said.batch_size,
            device=self.device,
            revision=said.revision if self.asked == said.scorer else None,
        )

    def named(self, record: Record, scorer: Scorer) -> Record:
        """A record with its protocol and in what it is another."""
        deviations = self.protocol.deviations(scorer, self.asked, record["n"])
        return finite({"protocol": self.protocol.name, "deviations": deviations, **record})


def judged(task: Task, judge: Judge, devices: Sequence[str] = (), tick: Tick = lambda *done: None) -> Iterator[Record]:
    """Records of real text, shuffled real text and each cell; each is written to RUN/eval when it is there.

    Args:
        task: what is sampled.
        judge: by whom it is scored.
        devices: that sample at the same time, when they are several.
        tick: is told what is done, how much of it, and of how much.
    """
    from textflow.run_folder import load

    if judge.mauve and task.n < judge.protocol.mauve:
        least = judge.protocol.mauve
        raise ValueError(f"MAUVE by protocol {judge.protocol.name} needs {least} samples and got {task.n}: --n {least}")
    common = facts(task.run, task.overlays)
    words, generator = judge.scorer(), load(task.run, judge.device, task.overlays)
    if len(devices) > 1:
        spread(task, generator, common, devices, tick)
    common |= {"apart": apart(common["recipe"], recipe(Path(judge.folder)))}
    text, special = real(common["recipe"]["data"], task.n), words.counts.special
    said = texts_of(text.data.tokenizer, text.ids, special)
    how: dict[str, Any] = {"over": judge.protocol.entropy, "more": beside(judge, words, text, said)}
    own = recovered(generator, common["recipe"]["data"])
    first = references(said, words, task.seed, common, text.ids, text.data.tokenizer.encode, **how)
    for record in chain(first, cells(task, generator, words, common, tick, **how)):
        whole = judge.named(with_interval(record, own), words)
        write(whole, task.run / "eval")
        yield whole


def given(path: Path, judge: Judge, n: int | None = None, tick: Tick = lambda *done: None) -> Record:
    """The record of a file of texts; it is written to a folder beside the file.

    Args:
        path: of the file.
        judge: by whom it is scored.
        n: how many of its texts; default: as many as the protocol needs.
        tick: is told what is done, how much of it, and of how much.
    """
    found, wanted = read(path), n or judge.protocol.n
    if len(found.texts) < wanted:
        held = len(found.texts)
        raise ValueError(
            f"{path} holds {held} readable texts, {'--n asks for' if n else f'protocol {judge.protocol.name} needs'} "
            f"{wanted}: make more, or score these with --n {held}, which the record says"
        )
    kept, words = found.first(wanted), judge.scorer()
    facts = {"text": "given", "file": str(path), "file_hash": content(path)[:16]}
    measured = measure(kept.texts, words, kept.ids, judge.protocol.entropy, tick=told(tick, "scoring", wanted))
    lost = {"unreadable": len(found.unreadable), "unreadable_lines": found.named}
    record = judge.named({**facts, **measured, **lost}, words)
    write(record, path.with_suffix(".eval"))
    return record


def cells(task: Task, generator: Any, words: Scorer, common: Record, tick: Tick, **how: Any) -> Iterator[Record]:
    """Every way at every number of steps."""
    for way in task.ways:
        way.change(generator)
        sweep = {"sweep": dict(way.sweep)} if way.sweep else {}
        options: dict[str, Any] = {"facts": common | sweep, "run": task.run, "tick": tick, **how}
        yield from evaluate(generator, words, task.steps, task.n, task.seed, batch_size=task.batch_size, **options)


def beside(judge: Judge, words: Scorer, text: Real, said: Sequence[str]) -> Beside:
    """What is measured besides: memorisation, MAUVE."""
    wanted = judge.protocol.memory if judge.memory is None else judge.memory
    return Beside(text.data if wanted else None, words, said if judge.mauve else None, judge.protocol.mauve)


def recovered(generator: Any, data: Record) -> dict[str, Interval]:
    """Token recovery of a codec, on the first 64 validation rows; nothing where there is none."""
    return {"recovery": recovery(generator, held_out(data, 64))} if hasattr(generator, "codec") else {}


def with_interval(record: Record, found: Mapping[str, Interval]) -> Record:
    """A record with further numbers."""
    intervals = record["intervals"] | {name: [one.low, one.high] for name, one in found.items()}
    return {**record, **{name: one.value for name, one in found.items()}, "intervals": intervals}
