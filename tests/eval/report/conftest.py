"""Three small runs of one text: continuous and watched, masked, autoregressive."""

from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main

WATCH = """\
model:
  init_args:
    escape: {class_path: Commit, init_args: {gate: {class_path: TopFraction, init_args: {fraction: 0.5}}}}
    sampler: Ancestral
trainer:
  max_steps: 8
  callbacks:
    - {class_path: DABI, init_args: {every_n_steps: 4, num_rows: 4, num_steps: 4, num_draws: 2}}
    - {class_path: Tube, init_args: {every_n_steps: 4, num_rows: 4, num_steps: 4, num_candidates: 3}}
    - {class_path: CCI, init_args: {every_n_steps: 4, num_rows: 3, num_steps: 3}}
"""
DATA = """\
data:
  files: FOLDER/text.txt
  tokenizer: {class_path: SentencePiece, init_args: {vocab_size: 320}}
  seq_length: 16
  batch_size: 4
  val_fraction: 0.2
  cache: FOLDER/cache
run: {folder: FOLDER/NAME, wandb: false, num_samples: 1}
trainer: {max_steps: 4, val_check_interval: 4, accelerator: cpu, precision: 32-true}
"""
MASKED = """\
model:
  class_path: DiscreteDiffusion
  init_args:
    net: {class_path: MDLM, init_args: {width: 16, depth: 1, heads: 2, cond_width: 8, dropout: 0.0}}
    ema_decay: 0.9
"""
CAUSAL = """\
model:
  class_path: CausalLM
  init_args:
    {width: 16, depth: 1, heads: 2, max_length: 16, lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 2}}}
"""


def reported(runs: dict[str, Path], steps: int) -> Path:
    """The report of runs, made as a user would."""
    out = next(iter(runs.values())).parent / "report.html"
    assert main(["report", *map(str, runs.values()), "--out", str(out), "--samples", "2", "--steps", str(steps)]) == 0
    return out


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reported")
    flow, watch = str(write_recipe(folder)), folder / "watch.yaml"
    watch.write_text(WATCH)
    assert main(["fit", flow, str(watch), "--run.folder", str(folder / "flow")]) == 0
    for name, model in (("masked", MASKED), ("causal", CAUSAL)):
        path = folder / f"{name}.yaml"
        path.write_text(model + DATA.replace("FOLDER", str(folder)).replace("NAME", name))
        assert main(["fit", str(path)]) == 0
    return {name: folder / name for name in ("flow", "masked", "causal")}


@pytest.fixture(scope="session")
def page(runs: dict[str, Path]) -> Path:
    return reported(runs, 4)
