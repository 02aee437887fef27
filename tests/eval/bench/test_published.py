"""The published records hold what is asked of them, and the results page says what they say."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
NEAR = 5e-6  # fp32 forms agree
RESULTS = ROOT / "eval" / "published" / "RESULTS.md"
ROWS = {
    "training step, P": "step_P",
    "training step, R": "step_R",
    "training step, B": "step_B",
    "the same in bf16": "step_B_bf16",
    "distillation step, P": "distill_P",
    "distillation step, R": "distill_R",
    "optimizer, P": "optimizer_P",
    "optimizer, R": "optimizer_R",
}


def record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "eval" / "published" / f"bench_{name}.json").read_text())


def rival(name: str) -> str:
    """The form that the results page compares with: bf16 with the published fp32."""
    return "reference fp32" if name.endswith("bf16") else "reference"


@pytest.mark.parametrize(
    ("name", "least"),
    [("step_P", 1.5), ("step_R", 1.9), ("step_B", 1.5), ("step_B_bf16", 2.3), ("distill_P", 1.15), ("distill_R", 1.15),
     ("optimizer_P", 1.4), ("optimizer_R", 1.4)],
)  # fmt: skip
def test_lean_is_as_fast_as_it_is_to_be(name: str, least: float) -> None:
    found = record(name)
    assert found["speedup"][rival(name)] >= least
    assert found["bf16"] or found["difference"] <= NEAR


@pytest.mark.parametrize(("name", "most"), [("step_P", 0.75), ("step_R", 0.45), ("step_B", 0.70)])
def test_lean_takes_as_little_memory_as_it_is_to(name: str, most: float) -> None:
    found = record(name)
    assert found["peak_mb"]["optimized"] / found["peak_mb"]["reference"] == pytest.approx(
        found["memory_ratio"], rel=1e-3
    )
    assert found["memory_ratio"] <= most


def test_latents_of_64_rows_of_1024_become_tokens_in_less_than_100_mb() -> None:
    found = record("decode_R")
    assert (found["rows"], found["length"], found["difference"]) == (64, 1024, 0.0)
    assert found["peak_mb"]["optimized"] < 100


def test_a_batch_of_64_rows_of_1024_is_sent_as_ids_and_lengths() -> None:
    found = record("dataloader_R")
    assert (found["rows"], found["length"], found["difference"]) == (64, 1024, 0.0)
    assert found["optimized_mb_per_batch"] < 0.27 and found["reference_mb_per_batch"] > 260
    text = RESULTS.read_text()
    assert f"as {found['optimized_mb_per_batch']:.2f} MB of ids and lengths" in text
    assert f"With dense masks it takes {found['reference_mb_per_batch']:.0f} MB" in text


def test_time_follows_the_formula_within_a_fifth() -> None:
    found = record("scaling")
    assert {one["field"] for one in found["points"]} == {"length", "vocab", "width", "depth"}
    assert max(abs(one["measured"] / one["formula"] - 1) for one in found["points"]) <= 0.2
    assert found["holds"] and max(one["difference"] for one in found["points"]) <= NEAR


def cells() -> dict[str, list[str]]:
    """The results page's table of speed: what -> the other columns."""
    text = RESULTS.read_text().split("| what | times faster [range] |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize("what", ROWS)
def test_the_results_page_prints_the_records_digits(what: str) -> None:
    name, table = ROWS[what], cells()
    found, other = record(name), rival(name)
    (faster, formula, memory, differ, _), *_ = (row for said, row in table.items() if said.startswith(what))
    low, high = found["speedup_spread"][other]
    assert faster == f"{found['speedup'][other]:.2f} [{low:.2f}, {high:.2f}]"
    assert formula == (f"{found['flops_ratio']:.2f}" if "flops_ratio" in found else "")
    assert memory == (f"{found['memory_ratio']:.2f}" if "memory_ratio" in found else "")
    assert float(differ) == float(f"{found['difference']:.1e}")


def test_the_results_page_has_a_record_of_each_row_and_prints_the_decoders_digits() -> None:
    assert len(cells()) == len(ROWS)
    peaks, text = record("decode_R")["peak_mb"], RESULTS.read_text()
    assert f"become tokens in {peaks['optimized']:.0f} MB" in text
    assert f"All logits at once take {peaks['reference']:,.0f} MB" in text
    assert f"within {record('scaling')['max_ratio_error']:.0%} of the formula's" in text
