"""Hidden files, which file browsers and notebooks leave in folders, are not images, records, weights or recipes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.report_page import RECORD, write_run
from textflow.cli.app import main
from textflow.config.hub import list_run_files
from textflow.convert.hf import scored_metrics
from textflow.convert.lightning_checkpoint import find_weights
from textflow.eval.compare import record_files
from textflow.eval.report.folder import load_run
from textflow.external.image_decoder import read_images
from textflow.metrics.pretrained import find_gguf


def test_hidden_files_beside_images_weights_records_and_recipes_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", RECORD, files={"tokenizer/a.json": "{}", "trajectories/._a.json": ""})
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    for name in ("a.ckpt", "a.gguf"):
        (tmp_path / name).touch()
    hidden = ["._a.png", "._a.ckpt", ".cache/a.gguf", "run/eval/._0.json", "run/tokenizer/._a.json"]
    for name in (*hidden, "run/.ipynb_checkpoints/recipe-checkpoint.yaml", "run/._recipe.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\x05\x16\x07\xff")
    assert len(read_images(tmp_path, 4, 9)) == 1
    assert (find_weights(str(tmp_path)), find_gguf(tmp_path)) == (tmp_path / "a.ckpt", tmp_path / "a.gguf")
    assert record_files(run) == [run / "eval" / "0.json"] and len(scored_metrics(run)) == 1
    assert (report := load_run(run, "run")).errors == [] and len(report.records) == 1
    assert list_run_files(run) == [run / "recipe.yaml", run / "tokenizer" / "a.json"]
    assert main(["recipes", "--folder", str(run)]) == 0
    assert capsys.readouterr().out.split() == [str(run / "recipe.yaml")]
