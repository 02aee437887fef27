"""SacreBLEU and ROUGE of answers against targets, and a table of them."""

import random
from collections.abc import Sequence
from importlib.metadata import version

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
COLUMN_TITLES = {"bleu": "BLEU", "rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "nfe": "NFE"}


def random_targets(targets: Sequence[str], seed: int) -> list[str]:
    """A different random target of the same split for each target."""
    order = random.Random(seed).sample(range(len(targets)), len(targets))
    turned = dict(zip(order, order[1:] + order[:1], strict=True))  # one cycle: none stays
    return [targets[turned[i]] for i in range(len(targets))]


def score_answers(answers: Sequence[str], targets: Sequence[str]) -> Record:
    """Corpus BLEU with its signature and mean ROUGE F1, both out of 100, with 95% bootstrap intervals over pairs."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ValueError("BLEU needs the library sacrebleu: pip install 'textflow[eval]'") from error
    bleu = BLEU()
    bleu_score = bleu.corpus_score(list(answers), [list(targets)], n_bootstrap=1000)
    middle, half = (bleu_score._mean, bleu_score._ci) if len(answers) > 1 else (bleu_score.score, 0.0)
    rouges = [rouge_score(a, b, rouge_keys=ROUGE) for a, b in zip(answers, targets, strict=True)]
    one = torch.ones(len(answers))
    means = {
        key: bootstrap(ratio(100 * torch.stack([each[f"{key}_fmeasure"] for each in rouges]), one), len(answers))
        for key in ROUGE
    }
    return {
        "bleu": bleu_score.score,
        "signature": str(bleu.get_signature()),
        "rouge": f"torchmetrics {version('torchmetrics')}, F1, no stemmer",
        **{key: mean.value for key, mean in means.items()},
        "intervals": {"bleu": [middle - half, middle + half]}
        | {key: [mean.low, mean.high] for key, mean in means.items()},
        "n": len(answers),
        "empty": sum(not text.strip() for text in answers),
        "words": sum(len(text.split()) for text in answers) / len(answers),
        "textflow": version("textflow"),
        "torch": torch.__version__,
    }


def make_table(records: Sequence[Record]) -> Table:
    """Table with a row per record and the scoring settings in its caption."""
    first = records[0]
    caption = f"{first['split']} pairs, seed {first['seed']}; BLEU {first['signature']}; ROUGE {first['rouge']}"
    table = Table(caption=caption, caption_justify="left", box=SIMPLE_HEAD, collapse_padding=True)
    table.add_column("text", no_wrap=True)
    for column in COLUMNS:
        table.add_column(COLUMN_TITLES.get(column, column), justify="right")
    for record in records:
        cells = ("-" if record.get(key) is None else form.format(record[key]) for key, form in COLUMNS.items())
        table.add_row(row_label(record), *cells)
    return table


def row_label(record: Record) -> str:
    """Row label: text, sampler, steps and guidance scale."""
    if "steps" not in record:
        return str(record["text"])
    parts = [(record.get(key) or {}).get("class") for key in ("escape", "sampler")]
    method = " ".join(part for part in parts if part and part != "NoEscape")
    guided = f", source {record['cfg_scale']:g}" if record["cfg_scale"] != 1 else ""
    return f"{method}, {record['steps']} steps{guided}"
