"""Errors of recipes that a parser does not find are named in one line."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails
from textflow.cli.app import main

TABLE = ["--codec=null", "--model.codec=EmbeddingTable"]


@pytest.mark.integration
def test_a_value_that_no_part_can_take_is_named(tmp_path: Path, fails: Fails) -> None:
    for argv, message in (
        (["--model.net.width=null"], "model.net.width is 'None', needs int"),
        ([*TABLE, "--model.net.heads=0"], "heads=0"),
        ([*TABLE, "--model.net.bottleneck=0"], "ELF.bottleneck_down.weight is 0 x 64: a size"),
        (["--trainer.val_check_interval=0"], "val_check_interval is 0: needs batches, >= 1"),
    ):
        assert fails(["fit", str(write_recipe(tmp_path)), *argv], message).startswith("textflow fit: ")
        assert not (tmp_path / "run" / "state").exists()


@pytest.mark.integration
def test_a_value_in_a_file_that_is_none_is_named(tmp_path: Path, fails: Fails) -> None:
    for text, message in (
        ("model: {init_args: {net: {init_args: {width: null}}}}", "model.net.width is null, needs int"),
        ("model: {init_args: {lr_scheduler: null}}", "model.lr_scheduler is null, needs a class"),
        ("model: {init_args: {optimizer: null}}", "model.optimizer is null, needs a class"),
        ("model: {init_args: {ema_decay: null}}", "model.ema_decay is null, needs float"),
        ("data:", "data is empty; give its keys"),
        ("run: 5", "run holds '5'; its keys are needed"),
        ("data: [files]", "data holds \"['files']\"; its keys are needed"),
        ("run: {num_samples: null}", "run.num_samples is null, needs int"),
        ("data: {batch_size: null}", "data.batch_size is null, needs int"),
        ("trainer: {num_sanity_val_steps: null}", "trainer.num_sanity_val_steps is null, needs int"),
    ):
        (tmp_path / "overlay.yaml").write_text(text)
        fails(["fit", str(write_recipe(tmp_path)), str(tmp_path / "overlay.yaml")], message)


def resume(run: Path, tmp_path: Path) -> list[str]:
    """A command that resumes a copy of a run."""
    copied = shutil.copytree(run, tmp_path / "run")
    return ["fit", str(run.parent / "teacher.yaml"), "--run.folder", str(copied), "--trainer.max_steps", "13"]


@pytest.mark.integration
@pytest.mark.parametrize("text", ["", "[", "x", "\xff", "data: {seq_length: [1}", "trainer: {devices: 2}", "run: null"])
def test_a_damaged_recipe_of_a_run_is_named(run: Path, tmp_path: Path, text: str, fails: Fails) -> None:
    argv, recipe = resume(run, tmp_path), tmp_path / "run" / "recipe.yaml"
    recipe.write_bytes(text.encode("latin-1"))
    line = fails(argv)
    assert f"{recipe} is damaged" in line or "another recipe" in line
    assert len(line) < 1500


@pytest.mark.integration
def test_a_run_goes_on_without_its_recipe(run: Path, tmp_path: Path) -> None:
    argv = resume(run, tmp_path)
    (tmp_path / "run" / "recipe.yaml").unlink()
    assert main(argv) == 0
