"""A published LangFlow checkpoint as a run, in any size."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import textflow
from tests.helpers.recordings import error, part, recorded
from textflow.cli.app import main
from textflow.noise import Noise
from textflow.samplers import sample

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes


def official(folder: Path) -> tuple[Path, dict[str, Tensor], dict]:
    """The recorded network in the layout of the Hub."""
    tensors, meta = recorded("langflow")
    folder.mkdir()
    save_file(part(tensors, "weights."), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(meta["config"]["model"]))
    return folder, tensors, meta


@pytest.mark.parity
def test_a_converted_checkpoint_samples_what_the_published_code_samples(tmp_path: Path) -> None:
    folder, data, meta = official(tmp_path / "hub")
    assert main(["convert", "langflow", str(folder), str(tmp_path / "run")]) == 0
    g = textflow.load(tmp_path / "run")
    assert g.text_format.seq_length == meta["config"]["model"]["model_length"]
    assert error(g.codec.embeddings, data["embed.E"]) < 1e-5
    for steps in meta["config"]["sampler_K"]:
        times = g.sampling_schedule.grid(steps, t_min=g.path.t_min, t_max=g.path.t_max)
        z0 = data[f"sample.{steps}.z0"]
        with torch.no_grad():
            trace = sample(g.denoiser(), g.sampler, g.path, times, z0, Noise(range(len(z0))))
        assert error(torch.stack(trace.states)[1:], data[f"sample.{steps}.z"]) < 1e-5
        assert torch.equal(g.net.belief_ids(trace.beliefs[-1]), data[f"sample.{steps}.ids"])


def test_a_checkpoint_of_any_size_comes_back_by_name(tmp_path: Path) -> None:
    weights = part(recorded("langflow")[0], "weights.")
    weights = {name: torch.randn_like(tensor) for name, tensor in weights.items() if "inv_freq" not in name}
    weights["proposal.scale"] = torch.tensor(0.7)
    heads = {"n_heads": weights["backbone.vocab_embed.embedding"].shape[1] // 8}
    (tmp_path / "config.json").write_text(json.dumps(heads))
    save_file(weights, tmp_path / "model.safetensors")
    source, target = str(tmp_path / "model.safetensors"), tmp_path / "run"
    assert main(["convert", "langflow", source, str(target), "--seq-length", "12"]) == 0
    g = textflow.load(target)
    assert g.net.blocks[0].heads == heads["n_heads"] and g.text_format.seq_length == 12
    state = g.net.state_dict()
    for ours, theirs in (
        ("codec.table", "vocab_embed.embedding"),
        ("self_cond_proj.weight", "self_cond_proj.weight"),
        ("blocks.1.qkv.weight", "blocks.1.attn_qkv.weight"),
        ("t_embed.mlp.2.bias", "sigma_map.mlp.2.bias"),
        ("out.weight", "output_layer.linear.weight"),
    ):
        assert torch.equal(state[ours], weights[f"backbone.{theirs}"])
    assert torch.equal(g.sampling_schedule.loc, weights["proposal.loc"])
    assert torch.equal(g.sampling_schedule.scale, weights["proposal.scale"])
    assert g.sample([1], 3).ids.shape == (1, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("backbone.self_cond_proj.weight"), "lacks self_cond_proj.weight (D, 2D)"),
        (lambda w: w.update({"backbone.extra": torch.zeros(3)}), "extra (3,) has no place in LangFlow"),
        (lambda w: w.pop("proposal.loc"), "lacks proposal.loc ()"),
        (lambda w: w.update({"proposal.scale": torch.zeros(2)}), "proposal.scale is (2,), but one number is needed"),
        (lambda w: w.update({"proposal.scale": torch.tensor(-1.0)}), "proposal.scale is -1; a scale is above 0"),
        (lambda w: w.pop("backbone.vocab_embed.embedding"), "'vocab_embed.embedding' is missing"),
    ],
)
def test_a_wrong_checkpoint_is_one_line_that_names_tensor_and_shape(
    tmp_path: Path, change: Callable, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = part(recorded("langflow")[0], "weights.")
    width = weights["backbone.vocab_embed.embedding"].shape[1]
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    assert main(["convert", "langflow", str(tmp_path), str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and message.replace("2D", str(2 * width)).replace("D", str(width)) in printed
    assert not (tmp_path / "run").exists()


def test_a_truncated_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, *_ = official(tmp_path / "hub")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert main(["convert", "langflow", str(folder), str(tmp_path / "run")]) == 2
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 and "not a complete safetensors file" in printed
