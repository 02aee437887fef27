"""SacreBLEU and ROUGE of answers against targets, and a table of them."""

import random
import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table
from torchmetrics.functional.text import rouge_score

from textflow.metrics.intervals import bootstrap, ratio

from .record import Record
from .words import count_letters, is_spaceless, words_of

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
    """Corpus BLEU with its signature and mean ROUGE F1, both out of 100, with 95% bootstrap intervals over pairs.

    The script of most of the targets' letters decides how BLEU and ROUGE find words. The record names both, and
    `notes` what they do not count.
    """
    (bleu, notes), of_any_script = make_bleu(targets), not is_ascii(targets)
    bleu_score = bleu.corpus_score(list(answers), [list(targets)], n_bootstrap=1000)
    middle, half = (bleu_score._mean, bleu_score._ci) if len(answers) > 1 else (bleu_score.score, 0.0)
    options: Any = {"normalizer": str, "tokenizer": words_of} if of_any_script else {}
    rouges = [rouge_score(a, b, rouge_keys=ROUGE, **options) for a, b in zip(answers, targets, strict=True)]
    notes += [] if of_any_script else uncounted_targets(targets)
    one = torch.ones(len(answers))
    means = {
        key: bootstrap(ratio(100 * torch.stack([each[f"{key}_fmeasure"] for each in rouges]), one), len(answers))
        for key in ROUGE
    }
    return {
        "bleu": bleu_score.score,
        "signature": str(bleu.get_signature()),
        "rouge": f"torchmetrics {version('torchmetrics')}, F1, no stemmer" + (", any script" if of_any_script else ""),
        **{key: mean.value for key, mean in means.items()},
        "intervals": {"bleu": [middle - half, middle + half]}
        | {key: [mean.low, mean.high] for key, mean in means.items()},
        "n": len(answers),
        "empty": sum(not text.strip() for text in answers),
        "words": sum(map(len, map(words_of if is_spaceless(targets) else str.split, answers))) / len(answers),
        **({"notes": notes} if notes else {}),
        "textflow": version("textflow"),
        "torch": torch.__version__,
    }


def make_bleu(targets: Sequence[str]) -> tuple[Any, list[str]]:
    """SacreBLEU's metric for the script of most of the targets' letters, and a note if its tokenizer is missing."""
    try:
        from sacrebleu.metrics.bleu import BLEU
    except ImportError as error:
        raise ValueError("BLEU needs the library sacrebleu: pip install 'textflow[eval]'") from error
    tokenizer, other = bleu_tokenizers(targets)
    try:
        return BLEU(tokenize=tokenizer), []
    except (RuntimeError, AssertionError):  # no MeCab, or another dictionary than sacreBLEU's
        extra = "pip install 'textflow[mecab]'"
        return BLEU(tokenize=other), [f"BLEU by tok:{other}, since {tokenizer} is not installed: {extra}"]


def bleu_tokenizers(targets: Sequence[str]) -> tuple[str, str]:
    """SacreBLEU's tokenizer for the script of most of the targets' letters, and the one to use if it is missing.

    Its flores200 takes any script too, but scores by pieces of a SentencePiece model that it downloads, so it is left
    out: a score by `char` needs no network, and its words are the text's own.
    """
    counts = count_letters(targets)
    kana = counts["HIRAGANA"] + counts["KATAKANA"]
    if is_spaceless(targets) and 10 * kana > kana + counts["CJK"]:
        return "ja-mecab", "char"
    if is_spaceless(targets):
        return ("zh", "zh") if 2 * counts["CJK"] > counts.total() else ("char", "char")
    return ("ko-mecab", "13a") if 2 * counts["HANGUL"] > counts.total() else ("13a", "13a")


def is_ascii(texts: Sequence[str]) -> bool:
    """True if at least 9 of 10 letters are a to z, which are all that the original ROUGE counts [ours]."""
    counts = count_letters(texts)
    return 10 * counts["ASCII"] >= 9 * counts.total()


def uncounted_targets(targets: Sequence[str]) -> list[str]:
    """Note on the targets that hold letters, but none that the original ROUGE counts."""
    lost = sum(not re.search("[a-z0-9]", text.lower()) and bool(words_of(text)) for text in targets)
    return [f"ROUGE counts a to z and digits, of which {lost} of {len(targets)} targets have none"] if lost else []


def make_table(records: Sequence[Record]) -> Table:
    """Table with a row per record and the scoring settings in its caption."""
    first = records[0]
    caption = f"{first['split']} pairs, seed {first['seed']}; BLEU {first['signature']}; ROUGE {first['rouge']}"
    caption = "\n".join([caption, *dict.fromkeys(note for record in records for note in record.get("notes", ()))])
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
