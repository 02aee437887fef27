"""Prompts of `textflow sample`: a text to continue, sources to answer, or a text with holes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.data.entries import read_entries
from textflow.data.lines import text_of
from textflow.models.infilling import TokenRow, decode_segments, infill_row, prompt_row, stack_rows
from textflow.noise import sample_seeds

Record = dict[str, Any]


def build_rows(
    model: Any, prompt: str | None, file: Path | None, infill_text: str | None, length: int | None = None
) -> list[TokenRow]:
    """Build the rows that samples of `length` tokens start from; an empty list without a prompt."""
    prompts_by_option = {"--prompt": prompt, "--prompt-file": file, "--infill": infill_text}
    given = [option for option, value in prompts_by_option.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} are given; name one of them")
    if not hasattr(model, "complete"):
        advice = "give the run of a Generator, DiscreteDiffusion or CausalLM"
        raise ValueError(f"a {type(model).__name__} writes no texts; {advice}")
    tokens, rows = model.tokenizer, model.text_format
    seq_length, max_source_length = rows.seq_length, rows.max_source_length
    if max_source_length is not None and length is not None:
        raise ValueError(f"this run answers sources in rows of {seq_length} tokens; leave --length out")
    size = length or min(seq_length, getattr(model, "max_length", seq_length))
    if infill_text is not None:
        if max_source_length is not None:
            raise ValueError("this run was trained to answer sources, not to fill holes: give a source with --prompt")
        return [infill_row(tokens, infill_text, size)]
    prompts = [prompt] if prompt is not None else read_prompts(file) if file is not None else []
    if not prompts and max_source_length is not None:
        advice = "give one with --prompt TEXT, or one per line with --prompt-file FILE"
        raise ValueError(f"this run answers sources: {advice}")
    return [prompt_row(tokens, text, size, max_source_length) for text in prompts]


def read_prompts(file: Path) -> list[str]:
    """Read the prompts of a file, one a line or record; prompt i is line i, so a line between them may not be blank."""
    entries = list(read_entries(file))
    prompts = [text_of(entry) for entry in entries]
    while prompts and not prompts[-1].strip():
        prompts.pop()
    if not prompts:
        raise ValueError(f"{file} holds no prompt; needs one per line")
    pairs = zip(entries, prompts, strict=False)  # blank lines at the end have no prompt
    if blank := next((entry.origin for entry, prompt in pairs if not prompt.strip()), None):
        raise ValueError(f"{blank} is blank, but text i is made from prompt i: remove it, or write a prompt there")
    return prompts


def hash_rows(rows: Sequence[TokenRow]) -> str:
    """Hash of prompt rows, 16 hex digits; hashes rows because a prompt file may be a pipe, which is read once."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def generate_texts(
    model: Any, rows: Sequence[TokenRow], count: int, first_index: int, settings: Record
) -> list[Record]:
    """Generate `count` texts from `first_index` on; text i starts from row i mod len(rows), if there are rows."""
    seed, steps, guidance = settings["seed"], settings["steps"], settings["self_cond_guidance"]
    if not rows:
        texts = model.generate(count, steps, seed, None, guidance, settings["length"], count, first_index)
        return [{"text": text} for text in texts]
    batch = [rows[i % len(rows)] for i in range(first_index, first_index + count)]
    options = {"num_steps": steps, "self_cond_guidance": guidance, "cfg_scale": settings["cfg_scale"]}
    ids = model.complete(*stack_rows(batch), sample_seeds(seed, first_index, count), **options).tolist()
    decoded = [decode_segments(model.tokenizer, row, row_ids) for row, row_ids in zip(batch, ids, strict=True)]
    return [{"text": "".join(text for _, text in segments), "segments": segments} for segments in decoded]


def format_sample(record: Record) -> str:
    """Format a text with its prompt between marks."""
    if "segments" not in record:
        return str(record["text"])
    return "".join(f"\u00ab{text}\u00bb" if is_prompt else text for is_prompt, text in record["segments"])


def prompt_settings(model: Any, rows: Sequence[TokenRow], name: str, cfg_scale: float | None) -> Record:
    """Settings of prompts that determine the texts; an empty dict without prompts.

    Args:
        model: model that continues the prompts.
        rows: rows that the texts start from.
        name: text of the prompt, or path of the file of prompts.
        cfg_scale: scale of classifier-free guidance; None: the recipe's.
    """
    if not rows:
        return {}
    answers = model.text_format.max_source_length is not None
    reads_prompts = answers or not hasattr(model, "order") or model.order.reads_prompts
    return {"prompt": name, "prompt_hash": hash_rows(rows), "cfg_scale": cfg_scale, "by_replacement": not reads_prompts}
