"""Every overlay of sampling on a fitted run, alone and composed: a law that it needs is measured, and kept."""

import os
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import torch

import textflow
from tests.helpers import tiny_recipe as tiny
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.schedules import DecodeError, Uniform

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
ROOMS = ("escape", "sampler", "schedule")
OVERLAYS = sorted(
    path
    for room in ROOMS
    for path in (ROOT / "recipes" / room).glob("*.yaml")
    if path.name not in ("commitment_head.yaml", "ace.yaml")  # one changes the net, the other samples 400 texts
)
SCHEDULE = ROOT / "recipes" / "schedule" / "decode_error.yaml"


@pytest.fixture(scope="module")
def codec(trained_run: Path) -> list[str]:
    """The option of a codec that is trained already, on the same text."""
    return ["--codec", str(trained_run / "codec")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, codec: list[str]) -> Path:
    """Trained with a time schedule that needs no fitting."""
    folder = tmp_path_factory.mktemp("overlaid")
    teacher = tiny.write_recipe(folder)
    teacher.write_text(teacher.read_text().replace("time_schedule: DecodeError", "time_schedule: LogitNormal"))
    assert main(["fit", str(teacher), *codec, "--trainer.max_steps", "4"]) == 0
    return folder / "run"


def test_overlays_sample_the_same_texts_twice(run: Path) -> None:
    """Each load combines one overlay of a room with one of the others, so that every overlay is loaded."""
    folders = [sorted(path for path in OVERLAYS if path.parent.name == room) for room in ROOMS]
    for i in range(max(map(len, folders))):
        overlays = [str(paths[i % len(paths)]) for paths in folders]
        model: Any = textflow.load(run, overlays=overlays)
        assert model.generate(2, 4, seed=i) == model.generate(2, 4, seed=i), overlays


def test_schedules_escapes_and_samplers_are_combined(run: Path) -> None:
    parts = ("schedule/random_grid", "escape/logit_adjusted", "sampler/heun")
    model: Any = textflow.load(run, overlays=[str(ROOT / "recipes" / f"{part}.yaml") for part in parts])
    names = [type(part).__name__ for part in (model.sampling_schedule, model.escape, model.sampler)]
    assert names == ["RandomGrid", "LogitAdjustment", "Heun"]


def test_a_missing_schedule_is_fitted_once_and_saved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run / "schedules").glob("DecodeError*"):
        path.unlink()
    capsys.readouterr()
    first: Any = textflow.load(run, overlays=[str(SCHEDULE)])
    saved = list((run / "schedules").glob("DecodeError*"))
    assert isinstance(first.sampling_schedule, DecodeError) and first.sampling_schedule.fitted and len(saved) == 1
    before = saved[0].stat().st_mtime_ns
    second: Any = textflow.load(run, overlays=[str(SCHEDULE)])
    assert second.sampling_schedule.grid(8) == first.sampling_schedule.grid(8) and saved[0].stat().st_mtime_ns == before


def test_the_direction_of_ace_is_estimated_once_and_saved(run: Path, tmp_path: Path, fails: Fails) -> None:
    text = (ROOT / "recipes" / "sampler" / "ace.yaml").read_text()
    overlays = {scale: tmp_path / f"{scale}.yaml" for scale in (2.0, 3.0)}
    for scale, path in overlays.items():
        path.write_text(text.replace("scale: 2.0", f"scale: {scale}, num_samples: 30, num_steps: 2"))
    first: Any = textflow.load(run, overlays=[str(overlays[2.0])])
    (saved,) = (run / "schedules").glob("ACE-*")
    before = saved.stat().st_mtime_ns
    second: Any = textflow.load(run, overlays=[str(overlays[3.0])])
    assert torch.equal(first.sampler.direction, second.sampler.direction) and saved.stat().st_mtime_ns == before
    assert float(first.sampler.direction.norm()) == pytest.approx(1) and second.sampler.scale == 3.0
    plain: Any = textflow.load(run)
    assert first.generate(2, 2) != plain.generate(2, 2)
    recipe, new = str(run.parent / "teacher.yaml"), str(tmp_path / "new")
    fails(["fit", recipe, str(overlays[2.0]), "--run.folder", new], "the sampler ACE steers a trained run")


def test_another_uniform_mix_is_another_schedule(run: Path, tmp_path: Path) -> None:
    overlay = tmp_path / "uniform_mix.yaml"
    schedule = "{class_path: DecodeError, init_args: {uniform_mix: 0.5}}"
    overlay.write_text(f"model: {{init_args: {{sampling_schedule: {schedule}}}}}")
    one, other = (cast(Any, textflow.load(run, overlays=[str(path)])) for path in (SCHEDULE, overlay))
    assert one.sampling_schedule.grid(8) != other.sampling_schedule.grid(8)


def test_a_fitted_schedule_can_be_replaced_by_one_without_a_fit(tmp_path: Path, codec: list[str]) -> None:
    (tmp_path / "own.yaml").write_text("model: {init_args: {sampling_schedule: DecodeError}}")
    recipe = str(tiny.write_recipe(tmp_path))
    assert main(["fit", recipe, str(tmp_path / "own.yaml"), *codec, "--trainer.max_steps", "2"]) == 0
    own: Any = textflow.load(tmp_path / "run")
    other: Any = textflow.load(tmp_path / "run", overlays=[str(ROOT / "recipes" / "schedule" / "uniform.yaml")])
    assert own.sampling_schedule.fitted and isinstance(other.sampling_schedule, Uniform)
    assert other.generate(num_samples=1, num_steps=2)


def test_a_file_is_not_resumed_with_another_overlay_or_other_prompts(run: Path, tmp_path: Path, fails: Fails) -> None:
    overlay, prompts, out = tmp_path / "mine.yaml", tmp_path / "prompts.txt", tmp_path / "samples.jsonl"
    argv = ["sample", str(run), str(overlay), "-n", "1", "--steps", "2", "--device", "cpu"]
    argv += ["--prompt-file", str(prompts), "--out", str(out)]
    overlay.write_text("model: {init_args: {self_cond_guidance: 1.5}}")
    prompts.write_text("and the\n")
    assert main(argv) == 0
    for path, text, message in (
        (overlay, "model: {init_args: {self_cond_guidance: 2.5}}", "-> 2.5"),
        (prompts, "of\n", "prompt"),
    ):
        before = path.read_text()
        path.write_text(text)
        fails(argv, "was sampled with other settings", message)
        path.write_text(before)


def test_prompts_from_a_pipe_are_read_once(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, out = tmp_path / "prompts", tmp_path / "samples.jsonl"
    os.mkfifo(pipe)
    arguments = ["sample", str(run), "--steps", "2", "--device", "cpu", "--prompt-file", str(pipe), "--out", str(out)]
    for text, n, code in (("and the\n", "1", 0), ("and the\n", "2", 0), ("of\n", "3", 2)):
        (feed := Thread(target=pipe.write_text, args=(text,), daemon=True)).start()
        assert main([*arguments, "-n", n]) == code
        feed.join(5)
    assert "prompt" in capsys.readouterr().err and len(out.read_text().splitlines()) == 2
