"""Codecs that are trained before the denoiser or together with it: a killed run continues to the same bits."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.helpers.bitwise import is_same
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_model
from textflow.cli.app import main

CODEC = {"dim": 4, "width": 16, "mlp_width": 16, "encoder_depth": 1, "decoder_depth": 1, "heads": 2, "trainable": True}
PATH = {"class_path": "LinearPath", "init_args": {"noise_scale": 1.0}}
COLA = {
    "codec": {"class_path": "TextVAE", "init_args": CODEC},
    "net": {"class_path": "ColaDiT", "init_args": {"width": 16, "depth": 1, "heads": 2}},
    "objective": "ColaJoint",
    **{"path": PATH, "readout": "FromCodec", "token_readout": "FromCodec", "order": "Blockwise"},
}
TABLE = {"class_path": "EmbeddingTable", "init_args": {"dim": 16, "trainable": True}}
GUMBEL = {"class_path": "Gumbel", "init_args": {"trainable": True}}
LANGFLOW = {
    "codec": TABLE,
    "net": {"class_path": "LangFlow", "init_args": {"depth": 1, "heads": 2, "cond_width": 8}},
    "objective": {"class_path": "LangFlowObjective", "init_args": {"time_schedule": GUMBEL}},
    **{"path": "VariancePreserving", "readout": "FromPosterior", "token_readout": "FromPosterior"},
}


def recipe(folder: Path, parts: dict[str, object], codec: str | None) -> str:
    """A recipe of six steps with these parts, and that of its codec."""
    path = write_model(folder, parts, max_steps=6, codec=codec)
    inner = yaml.safe_load((folder / "codec.yaml").read_text())
    inner["model"] = {"class_path": "Autoencoder", "init_args": {"objective": "VariationalReconstruction"}}
    inner |= {"run": {"save_every": 4}, "trainer": yaml.safe_load(path.read_text())["trainer"]}
    (folder / "codec.yaml").write_text("# tiny VAE\n" + yaml.safe_dump(inner))
    return str(path)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("parts", "codec", "stages"),
    [(LANGFLOW, None, [""]), pytest.param(COLA, "codec.yaml", ["codec", ""], marks=pytest.mark.slow)],
    ids=["langflow", "cola"],
)
def test_a_run_that_was_killed_in_each_stage_resumes_to_the_same_bits(
    parts: dict[str, object], codec: str | None, stages: list[str], commands: Commands, tmp_path: Path
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "run"
    argv = ["fit", recipe(tmp_path, parts, codec)]
    assert main([*argv, "--run.folder", str(whole)]) == 0
    for stage in stages:
        states = killed / stage / "state"
        assert commands.run(*argv, kill=0, watch=states / "step-00000004").code == -9
        assert not (states / "step-00000006").exists(), "killed too late to test a resumption"
    assert commands.run(*argv).code == 0
    for stage in stages:
        ours, theirs = (folder / stage for folder in (killed, whole))
        assert is_same(*(load_file(run / "model.safetensors") for run in (ours, theirs))), stage
        files = (run / "state" / "step-00000006" / "state.pt" for run in (ours, theirs))
        resumed, expected = (torch.load(file, weights_only=True) for file in files)
        assert is_same(resumed, expected), stage
