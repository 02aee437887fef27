"""How much answers and targets have in common: SacreBLEU and ROUGE, and a table of them."""

import random
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torchmetrics.functional.text import rouge_score

from textflow.metrics.intervals import bootstrap, ratio

from .record import Record

ROUGE = ("rouge1", "rouge2", "rougeL")
COLUMNS = {
    **{"bleu": "{:.1f}", "rouge1": "{:.1f}", "rouge2": "{:.1f}", "rougeL": "{:.1f}"},
    **{"n": "{}", "empty": "{}", "words": "{:.1f}", "nfe": "{:g}", "seconds": "{:.1f}"},
}
HEADS = {"bleu": "BLEU", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "nfe": "NFE"}


def others(targets: Sequence[str], seed: int) -> list[str]:
    """For each target another one of the same part, at random."""
    order = random.Random(seed).sample(range(len(targets)), len(targets))
    turned = dict(zip(order, order[1:] + order[:1], strict=True))  # one cycle: none stays
    return [targets[turned[i]] for i in range(len(targets))]


def scores(said: Sequence[str], targets: Sequence[str]) -> Record:
    """Corpus BLEU with its signature and mean ROUGE F1, each of 100, with 95% intervals over pairs by bootstrap.

    Args:
        said: answers; empty ones count as they are.
        targets: one for each.
    """
    bleu = sacrebleu()
    found = bleu.corpus_score(list(said), [list(targets)], n_bootstrap=1000)
    middle, half = (found._mean, found._ci) if len(said) > 1 else (found.score, 0.0)
    rouges = [rouge_score(a, b, rouge_keys=ROUGE) for a, b in zip(said, targets, strict=True)]
    one = torch.ones(len(said))
    means = {
        key: bootstrap(ratio(100 * torch.stack([each[f"{key}_fmeasure"] for each in rouges]), one), len(said))
        for key in ROUGE
    }
    return {
        "bleu": found.score,
        "signature": str(bleu.get_signature()),
        "rouge": f"torchmetrics {version('torchmetrics')}, F1, no stemmer",
        **{key: mean.value for key, mean in means.items()},
        "intervals": {"bleu": [middle - half, middle + half]}
        | {key: [mean.low, mean.high] for key, mean in means.items()},
        "n": len(said),
        "empty": sum(not text.strip() for text in said),
        "words": sum(len(text.split()) for text in said) / len(said),
        "textflow": version("textflow"),
        "torch": torch.__version__,
    }


def sacrebleu() -> Any:
    """Corpus BLEU as the library sacrebleu counts it."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ValueError("BLEU is counted by the library sacrebleu: pip install 'textflow[eval]'") from error
    return BLEU()


def table(records: Sequence[Record]) -> Table:
    """Rows of records, how they were counted below."""
    first = records[0]
    caption = f"{first['part']} pairs, seed {first['seed']}; BLEU {first['signature']}; ROUGE {first['rouge']}"
    made = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    made.add_column("text", no_wrap=True)
    for column in COLUMNS:
        made.add_column(HEADS.get(column, column), justify="right")
    for record in records:
        cells = [None if record.get(key) is None else form.format(record[key]) for key, form in COLUMNS.items()]
        made.add_row(name(record), *(cell or "-" for cell in cells))
    return made


def name(record: Record) -> str:
    """What was scored: text, sampler, steps and guidance by the source."""
    if "steps" not in record:
        return str(record["text"])
    parts = [(record.get(key) or {}).get("class") for key in ("escape", "sampler")]
    way = " ".join(part for part in parts if part and part != "Soft")
    guided = f", source {record['prompt_guidance']:g}" if record["prompt_guidance"] != 1 else ""
    return f"{way}, {record['steps']} steps{guided}"
