"""What `textflow sample` imports: nothing that only reads data, logs or scores."""

import subprocess
import sys
from pathlib import Path

import pytest

UNUSED = {"datasets", "wandb", "pandas", "pyarrow", "deepspeed", "sacrebleu", "mauve"}
CODE = """
import sys
from textflow.cli.app import main
assert main(["sample", "demo", "-n", "1", "--steps", "1"]) == 0
print(*sys.modules, sep="\\n", file=sys.stderr)
"""


@pytest.mark.integration
def test_sample_imports_no_library_of_data_logs_or_scores(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CODE]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    names = set(done.stderr.split())
    assert "textflow.run_folder" in names and "textflow.cli.fit" not in names
    assert names & UNUSED == set()
