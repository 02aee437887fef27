"""Duration of a planned job: FLOPs per batch, tokens per epoch, and a readable format for seconds."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from textflow.config.recipe import make_data
from textflow.data import DataModule, TextFiles
from textflow.data.preview import MAX_CHARACTERS, build_preview
from textflow.data.stats import DataStats
from textflow.eval.bench.flops import Flops
from textflow.eval.bench.sizes import SIZES, ModelSize
from textflow.nets import ELF
from textflow.objectives import ELFObjective

CORPUS_TOKENS = {("Skylion007/openwebtext", "t5-small"): 9_040_000_000}  # tokens by corpus and tokenizer (ELF)


def flops_per_batch(model: Any, rows: int, length: int, forward_flops: float) -> float:
    """FLOPs of one training batch on one device. ELF uses its FLOP formula at the row fractions of its objective; other
    nets count three forward passes, of `forward_flops` per row. Activation checkpointing adds one forward pass.
    """
    net, objective = model.net, getattr(model, "objective", None)
    passes = 4 if getattr(net, "activation_checkpointing", False) else 3
    if not (isinstance(net, ELF) and isinstance(objective, ELFObjective)):
        return passes * forward_flops * rows
    part, decode = Flops(model_size(model, rows, length)), objective.decode_prob
    predictions = 1 if net.is_deterministic else 2  # dropout needs a second pass for the self-conditioning prediction
    self_cond = (1 - decode) * objective.self_cond_prob * predictions
    training = passes * part.forward_hidden + 3 * ((1 - decode) * part.predict_x0 + decode * part.decode_logits)
    return part.encoder + training + self_cond * (part.forward_hidden + part.predict_x0)


def model_size(model: Any, rows: int, length: int) -> ModelSize:
    """Size of an ELF net, its encoder and its batch."""
    net, t5 = model.net, SIZES["B"]
    if type(model.codec).__name__ != "T5Codec":
        t5 = replace(t5, encoder_layers=0)
    inner, bottleneck = net.bottleneck_up.out_features, net.bottleneck_up.in_features
    shape = (inner, len(net.blocks), 1, net.dim, bottleneck, net.vocab_size)
    return ModelSize(*shape, t5.encoder_layers, t5.encoder_hidden, rows, length)


def tokens_per_epoch(config: Any) -> int | None:
    """Number of training tokens if it is known without a network: for a published corpus, for rows that were already
    built, or for a few local files, which are read; otherwise None.
    """
    data = config.data
    text = data.source.get("init_args.name"), data.tokenizer.get("init_args.name")
    if not data.files and text in CORPUS_TOKENS and data.source.get("init_args.split") == "train":
        return CORPUS_TOKENS[text]
    try:
        return count_tokens(make_data(data))
    except Exception:  # of any kind: the text or its tokenizer is not available
        return None


def count_tokens(data: DataModule) -> int | None:
    """Number of training tokens, from the cached rows or from local files that are small enough to read."""
    stats = data.rows_folder / "stats.json"
    if stats.is_file():
        return DataStats.read(stats).tokens[data.split]
    source = data.source
    if not isinstance(source, TextFiles) or sum(path.stat().st_size for path in source.list_files()) > MAX_CHARACTERS:
        return None
    with TemporaryDirectory() as folder:
        data.cache, data.num_proc = Path(folder), 1
        return data.stats.tokens[data.split] if build_preview(data) and data.stats else None


def format_duration(seconds: float) -> str:
    """Format seconds in the largest suitable unit."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
