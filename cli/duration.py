"""How long a planned job takes: FLOPs of a batch, tokens of an epoch, a span of time in words."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from textflow.config.recipe import data_of
from textflow.data import DataModule, Files
from textflow.data.preview import CHARACTERS, begin
from textflow.data.stats import Report
from textflow.eval.bench.flops import Flops
from textflow.eval.bench.sizes import SIZES, Size
from textflow.nets import ELF
from textflow.objectives import ELFObjective

CORPORA = {("Skylion007/openwebtext", "t5-small"): 9_040_000_000}  # tokens by text and tokenizer (ELF)


def flops_a_batch(model: Any, rows: int, length: int, forward: float) -> float:
    """FLOPs of one batch on one device: an ELF's least training step by its formula, at the shares of its objective,
    else three forward passes counted; a pass more where the net computes again what it did not keep.

    Args:
        model: what is trained.
        rows: of the batch.
        length: tokens a row.
        forward: FLOPs of a forward pass over a row.
    """
    net, objective = model.net, getattr(model, "objective", None)
    passes = 4 if getattr(net, "recompute", False) else 3
    if not (isinstance(net, ELF) and isinstance(objective, ELFObjective)):
        return passes * forward * rows
    part, decode = Flops(size_of(model, rows, length)), objective.decode_share
    again = (1 - decode) * objective.again_share * (1 if net.repeats else 2)  # under dropout the guess is made anew
    kept = passes * part.trunk + 3 * ((1 - decode) * part.guess + decode * part.logits)
    return part.encoder + kept + again * (part.trunk + part.guess)


def size_of(model: Any, rows: int, length: int) -> Size:
    """The size of an ELF, its encoder and its batch.

    Args:
        model: that trains an ELF.
        rows: of the batch.
        length: tokens a row.
    """
    net, t5 = model.net, SIZES["B"]
    if type(model.codec).__name__ != "T5":
        t5 = replace(t5, layers=0)
    inner, bottleneck = net.widen.out_features, net.widen.in_features
    return Size(inner, len(net.blocks), 1, net.dim, bottleneck, net.vocab, t5.layers, t5.hidden, rows, length)


def tokens_an_epoch(config: Any) -> int | None:
    """Tokens to train on, where they are known without the network: of a published text, of rows that were built
    before, of a few local files, which are read; else None.

    Args:
        config: a checked recipe.
    """
    data = config.data
    text = data.source.get("init_args.name"), data.tokenizer.get("init_args.name")
    if not data.files and text in CORPORA and data.source.get("init_args.split") == "train":
        return CORPORA[text]
    try:
        return counted(data_of(data))
    except Exception:  # of any kind: the text or its tokenizer is not at hand
        return None


def counted(data: DataModule) -> int | None:
    """Tokens of the part to train on: of the rows in the cache, or of local files that are few enough to read."""
    report = data.folder / "report.json"
    if report.is_file():
        return Report.read(report).tokens[data.part]
    source = data.source
    if not isinstance(source, Files) or sum(path.stat().st_size for path in source.found()) > CHARACTERS:
        return None
    with TemporaryDirectory() as folder:
        data.cache, data.processes = Path(folder), 1
        return data.report.tokens[data.part] if begin(data) and data.report else None


def span(seconds: float) -> str:
    """Seconds in the largest unit that fits."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
