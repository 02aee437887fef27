"""Three small runs of one text: continuous with diagnostics, masked, autoregressive."""

from pathlib import Path

import pytest
import yaml

from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main

DIAGNOSTICS = """\
model:
  init_args:
    escape: {class_path: Commit, init_args: {gate: {class_path: TopFraction, init_args: {fraction: 0.5}}}}
    sampler: Ancestral
trainer:
  max_steps: 8
  callbacks:
    - {class_path: DABI, init_args: {every_n_steps: 8, num_rows: 4, num_steps: 4, num_draws: 2}}
    - {class_path: Tube, init_args: {every_n_steps: 8, num_rows: 4, num_steps: 4, num_candidates: 3}}
    - {class_path: CCI, init_args: {every_n_steps: 8, num_rows: 3, num_steps: 3}}
"""
DISCRETE_MODELS = """\
masked:
  class_path: DiscreteDiffusion
  init_args:
    net: {class_path: TokenDiT, init_args: {width: 16, depth: 1, heads: 2, cond_width: 8, dropout: 0.0}}
    ema_decay: 0.9
causal:
  class_path: CausalLM
  init_args:
    {width: 16, depth: 1, heads: 2, max_length: 24, lr_scheduler: {class_path: WarmupLR, init_args: {warmup_steps: 2}}}
"""
TRAINER = {"max_steps": 4, "val_check_interval": 4, "accelerator": "cpu", "precision": "32-true"}


def fit_kinds(folder: Path, teacher: Path, *options: str) -> dict[str, Path]:
    """Fit a continuous run, with overlays and options, a masked and an autoregressive one on the data of a recipe."""
    assert main(["fit", str(teacher), *options, "--run.folder", str(folder / "flow")]) == 0
    recipe = yaml.safe_load(teacher.read_text(encoding="utf-8"))
    for name, model in yaml.safe_load(DISCRETE_MODELS).items():
        path = folder / f"{name}.yaml"
        parts = {"model": model, "trainer": TRAINER, "data": recipe["data"], "run": recipe["run"]}
        path.write_text(yaml.safe_dump(parts))
        assert main(["fit", str(path), "--run.folder", str(folder / name)]) == 0
    return {name: folder / name for name in ("flow", "masked", "causal")}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> dict[str, Path]:
    """The runs, the continuous one with the codec of the trained run, which is of the same text."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "diagnostics.yaml").write_text(DIAGNOSTICS)
    return fit_kinds(
        folder, write_recipe(folder), str(folder / "diagnostics.yaml"), "--codec", str(trained_run / "codec")
    )


@pytest.fixture(scope="module")
def page(runs: dict[str, Path]) -> Path:
    """Report with two trajectories of each run, made by the command line; existing trajectories are reused."""
    out = runs["flow"].parent / "report.html"
    assert main(["report", *map(str, runs.values()), "--out", str(out), "--samples", "2", "--steps", "4"]) == 0
    return out


@pytest.fixture(scope="module")
def files(page: Path, runs: dict[str, Path]) -> dict[str, list[Path]]:
    """Trajectory files by run."""
    return {name: sorted((run / "trajectories").glob("*.json")) for name, run in runs.items()}
