"""What sampling a run, and so loading it, imports: nothing that only trains, reads data, logs, scores or converts."""

import subprocess
import sys
from pathlib import Path

import pytest

UNUSED = {"datasets", "wandb", "pandas", "pyarrow", "deepspeed", "sacrebleu", "mauve", "sklearn"}
UNUSED |= {"lightning", "torchmetrics", "transformers", "matplotlib", "scipy", "textflow.data.module", "torch._dynamo"}
UNUSED |= {f"textflow.{room}" for room in ("eval.scoring", "oracle", "external", "convert", "reference", "cli.fit")}
SAMPLE = """
from textflow.cli.app import main
assert main(["sample", "demo", "recipes/order/stories4.yaml", "-n", "1", "--steps", "1"]) == 0
"""


@pytest.mark.integration
def test_loading_and_sampling_import_no_library_of_training_data_logs_or_scores(tmp_path: Path) -> None:
    words = [sys.executable, "-c", f'{SAMPLE}\nimport sys\nprint(*sys.modules, sep="\\n", file=sys.stderr)']
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True, timeout=300)
    names = set(done.stderr.split())
    assert "textflow.run_folder" in names
    assert names & UNUSED == set()
