"""The script for a card: its jobs are processes of their own, that cost each other nothing."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.helpers.tiny_bench import TINY
from textflow.eval.bench import gpu as cards
from textflow.eval.bench import subprocess, timing, worker
from textflow.eval.bench.contests import BENCHMARKS
from textflow.eval.bench.gpu import TEST_TIME, TIME_BUDGET, main, make_jobs, record_path, run_gpu_benchmark
from textflow.eval.bench.sizes import config_to_dict


def told(*commands: str) -> list[Any]:
    """Jobs that run a piece of Python."""

    class Told(NamedTuple):
        name: str
        command: list[str]

    return [Told(f"job {i}", [sys.executable, "-c", command]) for i, command in enumerate(commands)]


FINDS = "print('a library says hello'); print('{\"skipped\": \"nothing\"}', end='')"


@pytest.mark.integration
def test_every_way_of_the_script_for_a_card_is_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    light = next(job for job in make_jobs(TINY, 1) if job.benchmark == "sample")
    monkeypatch.setattr(cards, "make_jobs", lambda config, repeats: [light])
    lines: list[str] = []
    one, tests = run_gpu_benchmark(TINY, 1, log=lines.append)["runs"]
    assert one["run"] == "sample, optimized, bf16" and one["tokens_per_second"] == pytest.approx(60 / one["seconds"])
    assert one["wall_seconds"] > one["seconds"] and tests == {"run": "GPU tests", "skipped": "there is no GPU"}
    assert len(lines) == 2 and "tokens/s" in lines[0]


def test_the_other_benchmarks_and_all_ways_are_jobs_the_most_important_first() -> None:
    named = make_jobs(TINY, 1)
    assert [job.name for job in named[:2]] == ["train, optimized, bf16", "train, reference, bf16"]
    ways, others = ([job for job in named if (job.variant is None) == other] for other in (False, True))
    assert named == ways + others and len(ways) >= 9
    assert {job.benchmark for job in named} == {*BENCHMARKS, "scaling"}
    assert {job.benchmark for job in others} >= {"optimizer", "distill", "decode", "dataloader"}
    assert all(json.loads(job.command[-1])["config"] == config_to_dict(job.config) for job in named)
    assert TIME_BUDGET < 480 and TEST_TIME >= 60


@pytest.mark.integration
def test_a_way_that_outlasts_its_time_is_killed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeps = f"import subprocess; subprocess.run(['sh', '-c', 'sleep 6; touch {tmp_path}/alive'])"
    monkeypatch.setattr(cards, "make_jobs", lambda config, repeats: told(sleeps, FINDS))
    monkeypatch.setattr(cards, "MAX_JOB_TIME", 3.0)
    start, saved = time.monotonic(), list[dict[str, Any]]()
    run_gpu_benchmark(TINY, 1, save=lambda record: saved.append(json.loads(json.dumps(record))))
    assert time.monotonic() - start < 6
    assert saved[-1]["runs"][0] == {"run": "job 0", "skipped": "killed after 3 s"}
    assert saved[-1]["runs"][1]["skipped"] == "nothing"
    assert [len(record["runs"]) for record in saved] == [1, 2, 3], "a record is there after each job"
    time.sleep(max(start + 6.5 - time.monotonic(), 0))
    assert not (tmp_path / "alive").exists(), "what a job started is killed, too"


@pytest.mark.integration
def test_whatever_kills_a_way_is_its_reason() -> None:
    raised, ended, mute = (
        subprocess.run_command(job.command, 60.0, subprocess.parse_record)["skipped"]
        for job in told("raise RuntimeError('triton')", "import os; os.abort()", "print('only words')")
    )
    assert raised == "ended with 1: RuntimeError: triton" and ended.startswith("ended with -6")
    assert mute.startswith("printed no record")


def test_an_error_of_a_compiler_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*parts: Any) -> Any:
        raise RuntimeError("inductor\n  cannot")

    monkeypatch.setattr(worker, "make_benchmark", broken)
    assert worker.run_job("step", "optimized", TINY, 1) == {"skipped": "RuntimeError: inductor cannot"}


def test_a_way_measures_and_compares_as_it_is_told() -> None:
    assert worker.run_job("step", "optimized", TINY, 1)["tokens_per_second"] > 0
    assert set(worker.run_job("decode", None, TINY, 1)["speedup"]) == {"reference"}


@pytest.mark.slow
def test_the_script_for_a_card_compiles_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [job for job in make_jobs(TINY, 1) if job.variant]
    monkeypatch.setattr(cards, "make_jobs", lambda config, repeats: ways)
    left = {one["run"] for one in run_gpu_benchmark(TINY, 1)["runs"] if "tokens_per_second" not in one}
    assert left == {"train, optimized, bf16, graphs", "train, optimized, bf16, compiled, fused", "GPU tests"}


@pytest.mark.parametrize("how", [{"compile": "graphs"}, {"kernels": "liger"}])
def test_ways_that_need_a_gpu_are_skipped_with_their_reason(how: dict[str, Any]) -> None:
    found = worker.run_job("train", "optimized", replace(TINY, **how), 1)
    assert "needs a GPU, but it runs on cpu" in found["skipped"]


def test_no_way_begins_when_the_time_of_a_card_is_over() -> None:
    assert all("skipped" in one for one in run_gpu_benchmark(TINY, 1, budget=-1.0)["runs"])


@pytest.mark.integration
def test_the_script_for_a_card_needs_no_command_line_and_names_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cards, "make_jobs", lambda config, repeats: told(FINDS))
    main(["--device", "cpu", "--rows", "2", "--length", "4"])
    path = record_path("cpu", timing.cpu_name())
    record = json.loads(path.read_text())
    assert (record["rows"], record["length"], record["width"]) == (2, 4, 768) and record["runs"][0]["run"] == "job 0"
    assert f"Written: {path}" in capsys.readouterr().out and not list(path.parent.glob("*.tmp"))
    (tmp_path / "eval" / "published").mkdir(parents=True)
    card_path = Path("eval/published/bench_gpu_NVIDIA_H100_80GB_HBM3.json")
    assert record_path("cuda", "NVIDIA H100 80GB HBM3") == card_path


@pytest.mark.integration
def test_the_light_contests_and_the_script_import_no_training_and_no_command_line() -> None:
    code = (
        "import sys, textflow.eval.bench.gpu, textflow.eval.bench.step, textflow.eval.bench.sample;"
        "sys.exit(str([name for name in ('jsonargparse', 'lightning', 'datasets', 'wandb') if name in sys.modules]))"
    )
    assert (
        subprocess.run_command([sys.executable, "-c", code], 60.0, subprocess.parse_record)["skipped"]
        == "ended with 1: []"
    )
