"""The variants of each benchmark agree and their records are complete; no test here depends on measured times."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, get_type_hints

import pytest
import torch

from tests.helpers.bf16_cpu import SLOW, half
from tests.helpers.tiny_bench import TINY
from textflow.cli.bench import bench, format_record
from textflow.eval.bench import timing
from textflow.eval.bench.memory import measure_peak_memory
from textflow.eval.bench.scaling import measure_scaling
from textflow.eval.bench.sizes import BenchConfig, ModelSize, config_from_dict, make_config
from textflow.eval.bench.systems import BENCHMARKS, SYSTEMS, find_benchmark
from textflow.eval.bench.timing import measure_benchmark, summarize_times

AGREE = {"optimizer": 1e-5, "sample": 1e-5, "decode": 0.0, "dataloader": 0.0}


@pytest.mark.integration
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_variants_agree_and_the_record_is_complete(name: str) -> None:
    record = json.loads(json.dumps(measure_benchmark(name, TINY, 2, peak_memory=False)))
    assert {"benchmark", "width", "rows", "device", "bf16", "threads", "hardware", "torch", "repeats"} <= set(record)
    assert set(record["seconds"]) == {"optimized", "reference"} == set(record["spread"])
    assert set(record["speedup"]) == {"reference"}
    assert record["spread"]["optimized"][0] <= record["seconds"]["optimized"] <= record["spread"]["optimized"][1]
    if name != "train":  # the variants start from different weights
        assert record["difference"] <= AGREE.get(name, 5e-6)
    assert ("flops" in record) == (name not in ("optimizer", "dataloader"))
    assert "optimized is" in format_record({"size": "P"} | record)


@pytest.mark.integration
@pytest.mark.parametrize("name", ["step", "sample"])
def test_bf16_is_measured_against_both_precisions(name: str) -> None:
    record = measure_benchmark(name, replace(TINY, bf16=True), 1, peak_memory=False)
    assert set(record["speedup"]) == {"reference", "reference fp32"}


@pytest.mark.integration
@pytest.mark.parametrize("fast", [True, False])
def test_emulated_bf16_is_printed_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fast: bool
) -> None:
    half(monkeypatch, fast)
    file = tmp_path / "half.json"
    bench("decode", "P", bf16=True, rows=2, length=4, repeats=1, peak_memory=False, out=file)
    assert json.loads(file.read_text())["fast_bf16"] is fast
    assert (f"{SLOW}; ratios" in capsys.readouterr().out) is not fast


def test_the_optimized_variant_is_measured_alone_on_request() -> None:
    record = measure_benchmark("decode", TINY, 1, peak_memory=False, optimized_only=True)
    assert set(record["seconds"]) == {"optimized"} and "difference" not in record
    assert "decode, size P" in format_record({"size": "P"} | record)


def test_speedups_are_ratios_of_medians_and_a_config_survives_json() -> None:
    times = summarize_times({"optimized": [1.0, 2.0, 4.0], "reference": [2.0, 2.0, 6.0]})
    assert times["seconds"] == {"optimized": 2.0, "reference": 2.0} and times["speedup"] == {"reference": 1.0}
    assert times["speedup_spread"] == {"reference": [1.0, 2.0]} and times["spread"]["reference"] == [2.0, 6.0]
    assert config_from_dict(json.loads(json.dumps(asdict(TINY)))) == TINY
    assert make_config("P", {"rows": 3, "length": None}).size.rows == 3 and make_config("P").size.length == 128


def test_mfu_is_recorded_for_known_gpus_and_checkpointed_gradients_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    record = measure_benchmark("step", replace(TINY, activation_checkpointing=True), 1, peak_memory=False)
    assert "mfu" not in record and record["difference"] <= 5e-6
    monkeypatch.setattr(timing, "cpu_name", lambda: "NVIDIA H100")
    record = measure_benchmark("step", TINY, 1, peak_memory=False)
    useful = record["flops"]["optimized"] / record["seconds"]["reference"] / 989e12
    assert record["mfu"]["reference"] == pytest.approx(useful)


@pytest.mark.integration
@pytest.mark.slow
def test_decoding_a_few_tokens_at_a_time_needs_little_memory() -> None:
    wide = BenchConfig(ModelSize(16, 1, 2, 16, 8, 16_000, 1, 24, 4, 512))  # all logits are 131 MB
    assert measure_peak_memory("decode", "optimized", wide) < 60e6
    assert measure_peak_memory("decode", "reference", wide) > 120e6


def test_a_system_is_an_entry_of_the_table_and_what_it_lacks_is_refused_in_one_line() -> None:
    assert get_type_hints(bench)["system"] == Literal[tuple(SYSTEMS)]
    for system, what, expected in (
        ("duo", "sample", "for duo there is step"),
        ("mdlm", "sample", "for mdlm there is step"),
    ):
        with pytest.raises(ValueError, match=expected) as refused:
            find_benchmark(system, what)
        assert "\n" not in str(refused.value)
    size = make_config("R", {"rows": 3, "length": None}, find_benchmark("mdlm", "step")).size
    assert (size.vocab, size.rows, size.length, size.width) == (50_258, 3, 256, 256)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_refused() -> None:
    with pytest.raises(ValueError, match="--device cpu"):
        make_config("P", device="cuda")


@pytest.mark.integration
def test_scaling_compares_each_point_with_the_formula() -> None:
    lines: list[str] = []
    record = measure_scaling("step", "cpu", 1, TINY.size, {"length": (4, 6), "width": (64,)}, lines.append)
    assert [(p["field"], p["value"]) for p in record["points"]] == [("length", 4), ("length", 6), ("width", 64)]
    assert len(lines) == 3 and record["max_gradient_difference"] <= 5e-6
    assert record["holds"] == (record["max_ratio_error"] <= 0.2)
    for point in record["points"]:
        assert point["ratio_error"] == pytest.approx(point["measured"] / point["formula"] - 1)
    json.dumps(record)


def test_the_command_writes_its_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bench("dataloader", "P", rows=2, length=4, repeats=1, peak_memory=False)
    output = capsys.readouterr().out
    assert "times as fast as reference" in output and "Written: checkpoints/bench/dataloader_P_cpu.json" in output
    record = json.loads(Path("checkpoints/bench/dataloader_P_cpu.json").read_text(encoding="utf-8"))
    assert record["rows"] == 2 and record["hardware"]
    bench("dataloader", "P", rows=2, length=4, repeats=1, peak_memory=False, out=tmp_path / "mine.json")
    assert json.loads((tmp_path / "mine.json").read_text())["rows"] == 2
