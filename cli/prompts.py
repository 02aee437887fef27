"""What `textflow sample` is given: a text to go on with, sources to answer, or a text with holes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.models.infilling import Row, continued, infilled, tensors, told
from textflow.noise import sample_seeds

Record = dict[str, Any]


def rows_of(
    model: Any, prompt: str | None, file: Path | None, infill: str | None, length: int | None = None
) -> list[Row]:
    """The rows that samples begin as, one after another; none where nothing is given.

    Args:
        model: loaded.
        prompt: a text to go on with, of a run of pairs a source to answer.
        file: a prompt a line.
        infill: a text with holes.
        length: tokens of a sample; default: those of training.
    """
    given = {"--prompt": prompt, "--prompt-file": file, "--infill": infill}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise ValueError(f"{' and '.join(named)} are given; name one of them")
    if not hasattr(model, "complete"):
        raise ValueError(f"a {type(model).__name__} writes no texts; name a Generator, Masked or CausalLM")
    if model.given is not None and length is not None:
        raise ValueError(f"this run answers sources in rows of {model.length} tokens; leave --length out")
    tokens, size = model.tokenizer, length or min(model.length, getattr(model, "room", model.length))
    if infill is not None:
        if model.given is not None:
            raise ValueError("this run was trained to answer sources, not to fill in: give a source with --prompt")
        return [infilled(tokens, infill, size)]
    prompts = [prompt] if prompt is not None else lines(file) if file is not None else []
    if not prompts and model.given is not None:
        raise ValueError("this run answers sources: give one with --prompt TEXT, or one a line with --prompt-file FILE")
    return [continued(tokens, text, size, model.given) for text in prompts]


def lines(file: Path) -> list[str]:
    """The lines of a file that hold text."""
    try:
        found = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 ({error.reason} at byte {error.start})") from error
    if not found:
        raise ValueError(f"{file} holds no prompt: a line each is needed")
    return found


def digest(rows: Sequence[Row]) -> str:
    """Some digits that tell what rows begin with: a file that is a pipe is read once."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def texts(model: Any, rows: Sequence[Row], count: int, first: int, settings: Record) -> list[Record]:
    """Texts first ... first + count - 1; text i begins as row i mod len(rows), or as nothing without rows.

    Args:
        model: loaded.
        rows: from `rows_of`.
        count: number of texts.
        first: number of the first.
        settings: seed, steps, guidance; of rows prompt_guidance, else length.
    """
    seed, steps, guidance = settings["seed"], settings["steps"], settings["guidance"]
    if not rows:
        made = model.generate(count, steps, seed, None, guidance, settings["length"], count, first)
        return [{"text": text} for text in made]
    mine = [rows[i % len(rows)] for i in range(first, first + count)]
    how = {"steps": steps, "guidance": guidance, "scale": settings["prompt_guidance"]}
    ids = model.complete(*tensors(mine), sample_seeds(seed, first, count), **how).tolist()
    pieces = [told(model.tokenizer, row, made) for row, made in zip(mine, ids, strict=True)]
    return [{"text": "".join(text for _, text in parts), "pieces": parts} for parts in pieces]


def marked(record: Record) -> str:
    """A text in which what was given stands between marks."""
    if "pieces" not in record:
        return str(record["text"])
    return "".join(f"\u00ab{text}\u00bb" if given else text for given, text in record["pieces"])


def approximate(model: Any, rows: Sequence[Row]) -> bool:
    """Whether what is given is put in by replacement: a flow that was not trained on prompts."""
    return bool(rows) and model.given is None and hasattr(model, "prompt")
