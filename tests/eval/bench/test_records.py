"""The benchmarks' forms agree and their records hold what they should; nothing here looks at a clock's verdict."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.tiny_bench import TINY
from textflow.cli.bench import bench, format_record
from textflow.eval.bench import timing
from textflow.eval.bench.contests import BENCHMARKS
from textflow.eval.bench.memory import measure_peak_memory
from textflow.eval.bench.scaling import measure_scaling
from textflow.eval.bench.sizes import BenchConfig, ModelSize, config_from_dict, config_to_dict, make_config
from textflow.eval.bench.timing import measure_benchmark, summarize_times

AGREE = {"optimizer": 1e-5, "sample": 1e-5, "decode": 0.0, "dataloader": 0.0}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_forms_agree_and_the_record_is_whole(name: str) -> None:
    record = json.loads(json.dumps(measure_benchmark(name, TINY, 2, peak_memory=False)))
    assert {"benchmark", "width", "rows", "device", "bf16", "threads", "hardware", "torch", "repeats"} <= set(record)
    assert set(record["seconds"]) == {"optimized", "reference"} == set(record["spread"]) and set(record["speedup"]) == {
        "reference"
    }
    assert record["spread"]["optimized"][0] <= record["seconds"]["optimized"] <= record["spread"]["optimized"][1]
    if name != "train":  # two updates from where the other form stopped are two places
        assert record["difference"] <= AGREE.get(name, 5e-6)
    assert ("flops" in record) == (name not in ("optimizer", "dataloader"))
    assert "optimized is" in format_record({"size": "P"} | record)


@pytest.mark.parametrize("name", ["step", "sample"])
def test_bf16_is_measured_against_both_precisions(name: str) -> None:
    record = measure_benchmark(name, replace(TINY, bf16=True), 1, peak_memory=False)
    assert set(record["speedup"]) == {"reference", "reference fp32"}


@pytest.mark.parametrize("fast", [True, False])
def test_bf16_that_is_emulated_is_said_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fast: bool
) -> None:
    half(monkeypatch, fast)
    file = tmp_path / "half.json"
    bench("decode", "P", bf16=True, rows=2, length=4, repeats=1, peak_memory=False, out=file)
    assert json.loads(file.read_text())["fast_bf16"] is fast
    assert (f"{SLOW}; ratios" in capsys.readouterr().out) is not fast


def test_lean_can_be_measured_alone() -> None:
    record = measure_benchmark("decode", TINY, 1, peak_memory=False, optimized_only=True)
    assert set(record["seconds"]) == {"optimized"} and "difference" not in record
    assert "decode, size P" in format_record({"size": "P"} | record)


def test_recomputing_agrees_too() -> None:
    assert (
        measure_benchmark("step", replace(TINY, activation_checkpointing=True), 1, peak_memory=False)["difference"]
        <= 5e-6
    )


def test_ratios_are_of_medians_and_of_pairs() -> None:
    found = summarize_times({"optimized": [1.0, 2.0, 4.0], "reference": [2.0, 2.0, 6.0]})
    assert found["seconds"] == {"optimized": 2.0, "reference": 2.0} and found["speedup"] == {"reference": 1.0}
    assert found["speedup_spread"] == {"reference": [1.0, 2.0]} and found["spread"]["reference"] == [2.0, 6.0]


def test_mfu_is_told_where_the_peak_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "mfu" not in measure_benchmark("step", TINY, 1, peak_memory=False)
    monkeypatch.setattr(timing, "cpu_name", lambda: "NVIDIA H100")
    record = measure_benchmark("step", TINY, 1, peak_memory=False)
    useful = record["flops"]["optimized"] / record["seconds"]["reference"] / 989e12
    assert record["mfu"]["reference"] == pytest.approx(useful)


@pytest.mark.integration
def test_reading_few_tokens_at_a_time_takes_little_memory() -> None:
    wide = BenchConfig(ModelSize(16, 1, 2, 16, 8, 16_000, 1, 24, 4, 512))  # all logits are 131 MB
    assert (
        measure_peak_memory("decode", "optimized", wide)
        < 60e6
        < 120e6
        < measure_peak_memory("decode", "reference", wide)
    )


def test_a_setting_travels_as_words() -> None:
    assert config_from_dict(json.loads(json.dumps(config_to_dict(TINY)))) == TINY
    assert make_config("P", {"rows": 3, "length": None}).size.rows == 3 and make_config("P").size.length == 128


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="--device cpu"):
        make_config("P", device="cuda")


def test_scaling_compares_each_point_with_the_formula() -> None:
    lines: list[str] = []
    record = measure_scaling("step", "cpu", 1, TINY.size, {"length": (4, 6), "width": (64,)}, lines.append)
    assert [(one["field"], one["value"]) for one in record["points"]] == [("length", 4), ("length", 6), ("width", 64)]
    assert len(lines) == 3 and record["holds"] == (
        record["max_ratio_error"] <= 0.2 and record["max_gradient_difference"] <= 5e-6
    )
    for one in record["points"]:
        assert one["ratio_error"] == pytest.approx(one["measured"] / one["formula"] - 1) and one["difference"] <= 5e-6
    json.dumps(record)


def test_the_command_writes_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench("dataloader", "P", rows=2, length=4, repeats=1, peak_memory=False)
    said = capsys.readouterr().out
    assert "times as fast as reference" in said and "Written: checkpoints/bench/dataloader_P_cpu.json" in said
    record = json.loads(Path("checkpoints/bench/dataloader_P_cpu.json").read_text())
    assert record["rows"] == 2 and record["hardware"]
    bench("dataloader", "P", rows=2, length=4, repeats=1, peak_memory=False, out=tmp_path / "mine.json")
    assert json.loads((tmp_path / "mine.json").read_text())["rows"] == 2
