"""The published records meet the requirements, and the results page agrees with them: nothing is measured here."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
TOLERANCE = 5e-6  # difference of float32 variants
RESULTS = ROOT / "eval" / "published" / "RESULTS.md"
ROWS = {  # label -> record, with its baseline where it is not that of `baseline`
    "training step, P": "step_P",
    "training step, R": "step_R",
    "training step, B": "step_B",
    "the same, both in bf16": "step_B_bf16/reference",
    "the same, the baseline in fp32": "step_B_bf16",
    "distillation step, P": "distill_P",
    "distillation step, R": "distill_R",
    "optimizer, P": "optimizer_P",
    "optimizer, R": "optimizer_R",
    "FLM, training step, R": "flm_step_R",
    "FLM, sampling, R": "flm_sample_R",
    "LangFlow, training step, R": "langflow_step_R",
    "LangFlow, sampling, R": "langflow_sample_R",
    "Cola-DLM, sampling, R": "cola_sample_R",
    "MDLM, training step, R": "mdlm_step_R",
    "Duo, training step, R": "duo_step_R",
}


def record(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "eval" / "published" / f"bench_{name}.json").read_text())


def baseline(name: str) -> str:
    """Variant that the results page compares with: bf16 with the published fp32."""
    return "reference fp32" if name.endswith("bf16") else "reference"


def test_records_of_optimized_variants_have_the_required_speedups_and_agree_with_the_reference() -> None:
    least = {"step_P": 1.5, "step_R": 1.9, "step_B": 1.5, "step_B_bf16": 2.3, "distill_P": 1.15, "distill_R": 1.15}
    least |= {"optimizer_P": 1.4, "optimizer_R": 1.4}
    records = {name: record(name) for name in least}
    assert [name for name, one in records.items() if one["speedup"][baseline(name)] < least[name]] == []
    assert [name for name, one in records.items() if not one["bf16"] and one["difference"] > TOLERANCE] == []


@pytest.mark.parametrize(("name", "most"), [("step_P", 0.75), ("step_R", 0.45), ("step_B", 0.70)])
def test_records_of_optimized_variants_have_little_memory(name: str, most: float) -> None:
    peaks, ratio = record(name)["peak_mb"], record(name)["memory_ratio"]
    assert peaks["optimized"] / peaks["reference"] == pytest.approx(ratio, rel=1e-3) and ratio <= most


@pytest.mark.parametrize("name", ["flm_step_R", "flm_sample_R"])
def test_records_of_flm_have_the_time_and_memory_of_a_state_narrower_than_its_vocabulary(name: str) -> None:
    one = record(name)
    assert (one["vocab"], one["length"]) == (50_258, 256) and one["difference"] <= TOLERANCE
    assert one["memory_ratio"] <= 0.2 and one["seconds"]["optimized"] <= 0.7 * one["seconds"]["reference"]


@pytest.mark.parametrize("name", ["langflow_step_R", "langflow_sample_R"])
def test_records_of_langflow_have_at_most_half_of_the_memory_of_all_logits(name: str) -> None:
    one = record(name)
    assert (one["vocab"], one["width"]) == (50_258, 256) and one["difference"] <= TOLERANCE
    assert one["memory_ratio"] <= 0.5


def test_record_of_cola_has_the_same_1024_tokens_three_times_as_fast_with_kept_keys_and_values() -> None:
    one = record("cola_sample_R")
    assert one["length"] == 1024 and one["difference"] == 0.0
    assert one["speedup"]["reference"] >= 3


def test_record_of_mdlm_has_less_time_and_memory_with_logits_of_masked_positions_alone() -> None:
    one = record("mdlm_step_R")
    assert one["vocab"] == 50_258 and one["difference"] <= 2 * TOLERANCE  # weights up to 500
    assert one["memory_ratio"] <= 0.75 and one["speedup"]["reference"] >= 0.8 * one["flops_ratio"]


def test_record_of_duo_has_less_memory_with_logits_of_some_positions_at_a_time() -> None:
    one = record("duo_step_R")
    assert one["vocab"] == 50_258 and one["difference"] <= TOLERANCE
    assert one["memory_ratio"] <= 0.5 and one["flops_ratio"] == 1


def test_records_of_64_rows_of_1024_tokens_have_little_memory_and_are_in_the_results_page() -> None:
    loading, decoding, text = record("dataloader_R"), record("decode_R"), RESULTS.read_text()
    for one in (loading, decoding):
        assert (one["rows"], one["length"], one["difference"]) == (64, 1024, 0.0)
    optimized, reference = loading["optimized_mb_per_batch"], loading["reference_mb_per_batch"]
    assert optimized < 0.27 and reference > 260
    assert f"as {optimized:.2f} MB of ids and lengths" in text
    assert f"With dense masks it takes {reference:.0f} MB" in text
    peaks = decoding["peak_mb"]
    assert peaks["optimized"] < 100 and f"become tokens in {peaks['optimized']:.0f} MB" in text
    assert f"All logits at once take {peaks['reference']:,.0f} MB" in text


def test_record_of_scaling_has_times_within_a_fifth_of_the_formula() -> None:
    scaling = record("scaling")
    assert {point["field"] for point in scaling["points"]} == {"length", "vocab", "width", "depth"}
    assert max(abs(point["measured"] / point["formula"] - 1) for point in scaling["points"]) <= 0.2
    assert scaling["holds"] and max(point["difference"] for point in scaling["points"]) <= TOLERANCE


def cells() -> dict[str, list[str]]:
    """Speed table of the results page: first column -> the other columns."""
    text = RESULTS.read_text().split("| what | times faster [range] |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in row.strip("| ").split("|")] for row in text.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def test_the_results_page_prints_the_records_digits() -> None:
    table = cells()
    assert len(table) == len(ROWS)
    for title, name in ROWS.items():
        name, _, other = name.partition("/")
        one, other = record(name), other or baseline(name)
        (speedup, formula, memory, difference, _), *_ = (row for key, row in table.items() if key.startswith(title))
        low, high = one["speedup_spread"][other]
        assert speedup == f"{one['speedup'][other]:.2f} [{low:.2f}, {high:.2f}]"
        assert formula == (f"{one['flops_ratio']:.2f}" if "flops_ratio" in one else "")
        assert memory == (f"{one['memory_ratio']:.2f}" if "memory_ratio" in one else "")
        assert float(difference) == float(f"{one['difference']:.1e}")
    assert f"within {record('scaling')['max_ratio_error']:.0%} of the formula's" in RESULTS.read_text()
