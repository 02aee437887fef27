"""GPU benchmark: each job is a process, and its failure does not affect the others."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers.tiny_bench import TINY
from textflow.eval.bench import gpu, subprocess, timing, worker
from textflow.eval.bench.gpu import TEST_TIME, TIME_BUDGET, main, make_jobs, record_path, run_gpu_benchmark
from textflow.eval.bench.systems import BENCHMARKS


def python_jobs(*sources: str) -> list[Any]:
    """Jobs that run Python source code."""
    commands = ([sys.executable, "-c", source] for source in sources)
    return [SimpleNamespace(name=f"job {i}", command=command) for i, command in enumerate(commands)]


PRINTS_RECORD = "print('a warning of a library'); print('{\"skipped\": \"nothing\"}', end='')"


@pytest.mark.integration
@pytest.mark.slow
def test_each_job_runs_in_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = next(job for job in make_jobs(TINY, 1) if job.benchmark == "sample")
    monkeypatch.setattr(gpu, "make_jobs", lambda config, repeats: [sampling])
    lines: list[str] = []
    job, tests = run_gpu_benchmark(TINY, 1, log=lines.append)["runs"]
    assert job["run"] == "sample, optimized, bf16" and job["tokens_per_second"] == pytest.approx(60 / job["seconds"])
    assert job["wall_seconds"] > job["seconds"] and tests == {"run": "GPU tests", "skipped": "there is no GPU"}
    assert len(lines) == 2 and "tokens/s" in lines[0]


def test_the_most_important_jobs_are_the_first() -> None:
    jobs = make_jobs(TINY, 1)
    assert [job.name for job in jobs[:2]] == ["train, optimized, bf16", "train, reference, bf16"]
    variants, others = ([job for job in jobs if (job.variant is None) == other] for other in (False, True))
    assert jobs == variants + others and len(variants) >= 9
    assert {job.benchmark for job in jobs} == {*BENCHMARKS, "scaling"}
    assert {job.benchmark for job in others} >= {"optimizer", "distill", "decode", "dataloader"}
    assert all(json.loads(job.command[-1])["config"] == asdict(job.config) for job in jobs)
    assert TIME_BUDGET < 480 and TEST_TIME >= 60


@pytest.mark.integration
@pytest.mark.slow
def test_a_job_is_killed_with_its_children_at_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps = f"import subprocess; subprocess.run(['sh', '-c', 'echo $$ > {tmp_path}/pid; sleep 60; true'])"
    monkeypatch.setattr(gpu, "make_jobs", lambda config, repeats: python_jobs(sleeps, PRINTS_RECORD))
    monkeypatch.setattr(gpu, "MAX_JOB_TIME", 2.0)
    saved = list[dict[str, Any]]()
    run_gpu_benchmark(TINY, 1, save=lambda record: saved.append(json.loads(json.dumps(record))))
    assert saved[-1]["runs"][0] == {"run": "job 0", "skipped": "killed after 2 s"}
    assert saved[-1]["runs"][1]["skipped"] == "nothing"
    assert [len(record["runs"]) for record in saved] == [1, 2, 3], "a record is saved after each job"
    process = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    state = process.read_text(encoding="utf-8").rsplit(") ", 1)[1][0] if process.exists() else "X"
    assert state in "ZX", "the job's child is alive"


@pytest.mark.integration
def test_a_failed_job_is_recorded_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = python_jobs("raise RuntimeError('triton')", "import os; os.abort()", "print('no record')")
    raised, aborted, unparsed = (subprocess.run_command(j.command, 60.0, subprocess.parse_record) for j in jobs)
    assert raised["skipped"] == "ended with 1: RuntimeError: triton"
    assert aborted["skipped"].startswith("ended with -6") and unparsed["skipped"].startswith("printed no record")

    def fail(*parts: Any) -> Any:
        raise RuntimeError("inductor\n  cannot")

    monkeypatch.setattr(worker, "make_benchmark", fail)
    assert worker.run_job("step", "optimized", TINY, 1) == {"skipped": "RuntimeError: inductor cannot"}


def test_a_job_measures_one_variant_or_compares_all() -> None:
    assert worker.run_job("step", "optimized", TINY, 1)["tokens_per_second"] > 0
    assert set(worker.run_job("decode", None, TINY, 1)["speedup"]) == {"reference"}


@pytest.mark.slow
def test_compiled_variants_run_in_the_gpu_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [job for job in make_jobs(TINY, 1) if job.variant]
    monkeypatch.setattr(gpu, "make_jobs", lambda config, repeats: jobs)
    skipped = {one["run"] for one in run_gpu_benchmark(TINY, 1)["runs"] if "tokens_per_second" not in one}
    assert skipped == {"train, optimized, bf16, graphs", "train, optimized, bf16, compiled, fused", "GPU tests"}


def test_jobs_that_need_a_gpu_or_start_after_the_time_budget_are_skipped() -> None:
    for option in ({"compile": "graphs"}, {"kernels": "liger"}):
        record = worker.run_job("train", "optimized", replace(TINY, **option), 1)
        assert "needs a GPU, but it runs on cpu" in record["skipped"]
    assert all("skipped" in one for one in run_gpu_benchmark(TINY, 1, budget=-1.0)["runs"])


@pytest.mark.integration
def test_the_script_writes_a_record_named_by_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(gpu, "make_jobs", lambda config, repeats: python_jobs(PRINTS_RECORD))
    main(["--device", "cpu", "--rows", "2", "--length", "4"])
    path = record_path("cpu", timing.cpu_name())
    record = json.loads(path.read_text())
    assert (record["rows"], record["length"], record["width"]) == (2, 4, 768) and record["runs"][0]["run"] == "job 0"
    assert f"Written: {path}" in capsys.readouterr().out and not list(path.parent.glob("*.tmp"))
    (tmp_path / "eval" / "published").mkdir(parents=True)
    gpu_path = Path("eval/published/bench_gpu_NVIDIA_H100_80GB_HBM3.json")
    assert record_path("cuda", "NVIDIA H100 80GB HBM3") == gpu_path


@pytest.mark.integration
def test_the_script_imports_no_training_and_no_command_line() -> None:
    code = (
        "import sys, textflow.eval.bench.gpu, textflow.eval.bench.step, textflow.eval.bench.sample;"
        "sys.exit(str([name for name in ('jsonargparse', 'lightning', 'datasets', 'wandb') if name in sys.modules]))"
    )
    record = subprocess.run_command([sys.executable, "-c", code], 60.0, subprocess.parse_record)
    assert record["skipped"] == "ended with 1: []"
