"""A fit of two steps on a relatively named text, and what follows from its folder: loggers, moved text."""

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import NO_CODEC, write_recipe
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.eval.protocol import run_recipe, validation_batch


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps without a codec, with a logger of the recipe's own, on a text named relatively to the folder."""
    folder = tmp_path_factory.mktemp("my folder")
    argv = ["--trainer.max_steps", "2", "--trainer.logger", "CSVLogger", "--data.files", "text.txt"]
    argv += ["--trainer.logger.save_dir", str(folder / "run" / "own")]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", str(write_recipe(folder)), *NO_CODEC, *argv]) == 0
    return folder / "run"


@pytest.mark.integration
def test_the_logger_of_a_recipe_is_used_too(small_run: Path) -> None:
    (own,) = (small_run / "own").rglob("metrics.csv")
    assert "train/loss" in own.read_text() and "train/loss" in (small_run / "metrics.csv").read_text()


@pytest.mark.integration
def test_a_run_on_a_relatively_named_text_is_diagnosed_in_another_folder(
    small_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validation_batch(run_recipe(small_run)["data"], 2).ids.shape == (2, 16)
    argv = ["diagnose", str(small_run), "--measures", "decoder_temperature", "-n", "2", "--device", "cpu"]
    assert main(argv) == 0
    assert "measuring decoder_temperature (1 of 1)" in capsys.readouterr().err, "without a terminal"


@pytest.mark.integration
def test_a_run_whose_text_was_moved_is_diagnosed_with_data_files(
    small_run: Path, tmp_path: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    text, recipe = run_recipe(run)["data"]["files"], run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(text, "gone.txt"))
    argv = ["diagnose", str(run), "--measures", "decoder_temperature", "-n", "2", "--device", "cpu"]
    fails(argv, "no file gone.txt")
    assert main([*argv, "--data.files", text]) == 0
    before, after = (json.loads((folder / "diagnostics" / "diagnose.json").read_text()) for folder in (small_run, run))
    assert after["decoder_temperature"] == before["decoder_temperature"] and after["run"]["data_files"] == text
