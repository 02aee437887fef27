"""Every overlay of sampling on a fitted run, alone and composed: a law that it needs is measured, and kept."""

import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import textflow
from tests.helpers import tiny_recipe as tiny
from textflow.cli.app import main
from textflow.schedules import DecodeError, Uniform

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
OVERLAYS = sorted(
    path
    for room in ("escape", "sampler", "schedule")
    for path in (ROOT / "recipes" / room).glob("*.yaml")
    if path.name != "commitment_head.yaml"  # it changes the net
)
SCHEDULE = ROOT / "recipes" / "schedule" / "decode_error.yaml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained with a time schedule that needs no fitting."""
    folder = tmp_path_factory.mktemp("overlaid")
    teacher = tiny.write_recipe(folder)
    teacher.write_text(teacher.read_text().replace("time_schedule: DecodeError", "time_schedule: LogitNormal"))
    assert main(["fit", str(teacher), "--trainer.max_steps", "4"]) == 0
    return folder / "run"


def texts(run: Path, *overlays: Path) -> list[str]:
    model: Any = textflow.load(run, overlays=[str(path) for path in overlays])
    return model.generate(num_samples=2, num_steps=4)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_an_overlay_samples_the_same_twice(run: Path, overlay: Path) -> None:
    assert texts(run, overlay) == texts(run, overlay)


def test_grids_escapes_and_samplers_compose(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [
        ROOT / "recipes" / part
        for part in ("schedule/random_grid.yaml", "escape/logit_adjusted.yaml", "sampler/heun.yaml")
    ]
    assert main(["sample", str(run), *map(str, parts), "-n", "1", "--steps", "3", "--device", "cpu"]) == 0
    model: Any = textflow.load(run, overlays=[str(path) for path in parts])
    assert [type(part).__name__ for part in (model.sampling_schedule, model.escape, model.sampler)] == [
        "RandomGrid",
        "LogitAdjustment",
        "Heun",
    ]


def test_a_law_that_the_run_lacks_is_measured_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (run / "schedules").glob("DecodeError*"):
        path.unlink()
    capsys.readouterr()
    first: Any = textflow.load(run, overlays=[str(SCHEDULE)])
    kept = list((run / "schedules").glob("DecodeError*"))
    assert isinstance(first.sampling_schedule, DecodeError) and first.sampling_schedule.fitted and len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    again: Any = textflow.load(run, overlays=[str(SCHEDULE)])
    assert again.sampling_schedule.grid(8) == first.sampling_schedule.grid(8) and kept[0].stat().st_mtime_ns == before


def test_another_share_of_uniform_time_is_another_law(run: Path, tmp_path: Path) -> None:
    (tmp_path / "even.yaml").write_text(
        "model: {init_args: {sampling_schedule: {class_path: DecodeError, init_args: {uniform_mix: 0.5}}}}"
    )
    one, other = (textflow.load(run, overlays=[str(path)]) for path in (SCHEDULE, tmp_path / "even.yaml"))
    a: Any = one
    b: Any = other
    assert a.sampling_schedule.grid(8) != b.sampling_schedule.grid(8)


def test_a_grid_with_a_law_gives_way_to_one_without(tmp_path: Path) -> None:
    teacher = tiny.write_recipe(tmp_path)
    (tmp_path / "own.yaml").write_text("model: {init_args: {sampling_schedule: DecodeError}}")
    assert main(["fit", str(teacher), str(tmp_path / "own.yaml"), "--trainer.max_steps", "2"]) == 0
    own: Any = textflow.load(tmp_path / "run")
    other: Any = textflow.load(tmp_path / "run", overlays=[str(ROOT / "recipes" / "schedule" / "uniform.yaml")])
    assert (
        own.sampling_schedule.fitted
        and isinstance(other.sampling_schedule, Uniform)
        and other.generate(num_samples=1, num_steps=2)
    )


def test_texts_of_an_overlay_or_of_prompts_that_have_changed_are_not_continued(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said, out = {name: tmp_path / name for name in ("mine.yaml", "prompts.txt")}, tmp_path / "samples.jsonl"
    words = ["sample", str(run), str(said["mine.yaml"]), "-n", "1", "--steps", "2", "--device", "cpu"]
    words += ["--prompt-file", str(said["prompts.txt"]), "--out", str(out)]
    said["mine.yaml"].write_text("model: {init_args: {self_cond_guidance: 1.5}}")
    said["prompts.txt"].write_text("and the\n")
    assert main(words) == 0
    for name, other, named in (
        ("mine.yaml", "model: {init_args: {self_cond_guidance: 2.5}}", "-> 2.5"),
        ("prompts.txt", "of\n", "prompt"),
    ):
        before = said[name].read_text()
        said[name].write_text(other)
        capsys.readouterr()
        assert main(words) == 2
        error = capsys.readouterr().err
        assert "was sampled with other settings" in error and named in error, error
        said[name].write_text(before)


def test_prompts_that_come_through_a_pipe_are_read_once(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, out = tmp_path / "prompts", tmp_path / "samples.jsonl"
    os.mkfifo(pipe)
    words = ["sample", str(run), "--steps", "2", "--device", "cpu", "--prompt-file", str(pipe), "--out", str(out)]
    for text, n, code in (("and the\n", "1", 0), ("and the\n", "2", 0), ("of\n", "3", 2)):
        (feed := Thread(target=pipe.write_text, args=(text,), daemon=True)).start()
        assert main([*words, "-n", n]) == code
        feed.join(5)
    assert "prompt" in capsys.readouterr().err and len(out.read_text().splitlines()) == 2
