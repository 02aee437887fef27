"""Run folders without a model, and the parts of a report page."""

import json
import re
from pathlib import Path
from typing import Any

RECORD: dict[str, Any] = {
    **{"text": "generated", "perplexity": 50.0, "entropy": 3.0, "n": 8, "steps": 4, "seed": 0, "scorer": "gpt2"},
    **{"scorer_hash": "abc", "scorer_dtype": "float32", "scorer_tokenizer": "T", "scorer_vocab": 9, "truncation": 64},
    **{"token_weighting": "elf", "weights": "elf", "aggregation": "corpus", "entropy_ids": "scorer", "seq_length": 16},
    **{"sampler": {"class": "Euler"}, "escape": {"class": "NoEscape"}, "intervals": {"perplexity": [45.0, 55.0]}},
}


def write_run(folder: Path, *records: dict[str, Any], files: dict[str, str] | None = None) -> Path:
    """Write a run folder with records of textflow eval and other files by their path."""
    contents = {"recipe.yaml": "model: {class_path: textflow.models.generator.Generator}\n", **(files or {})}
    contents |= {f"eval/{i}.json": json.dumps(record) for i, record in enumerate(records)}
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def page_section(html: str, name: str) -> str:
    """Section of the page under an anchor."""
    return html.split(f'<section id="{name}">')[1].split("</section>")[0]


def table_rows(html: str) -> list[list[str]]:
    """Cells of the table rows; heads are left out."""
    rows = re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)
    return [cells for row in rows if (cells := re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL))]


def page_data(html: str) -> list[dict[str, Any]]:
    """Trajectory data for the page's script."""
    return json.loads(html.split('id="data">')[1].split("</script>")[0])
