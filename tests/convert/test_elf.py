"""An official ELF checkpoint as a run, in any size."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import textflow
from tests.helpers.recordings import error, part, recorded
from tests.helpers.tiny_elf import save_official
from textflow.cli.app import main
from textflow.noise import Noise
from textflow.types import Conditioning

SETTINGS = {  # of a published checkpoint (ELF)
    "noise-scale": 2.0,
    "t-eps": 0.05,
    "latent-mean": 0.0,
    "latent-std": 0.2,
    "guidance-min": 0.5,
    "guidance-max": 5.0,
}
OTHER_SETTINGS = {name: value + 0.25 for name, value in SETTINGS.items()}


@pytest.mark.integration
@pytest.mark.parity
@pytest.mark.parametrize(("name", "as_folder"), [("elf", False), ("elf_train", True)])
def test_a_converted_checkpoint_is_the_published_network(tmp_path: Path, name: str, as_folder: bool) -> None:
    (tmp_path / "official").mkdir()
    file, data, meta = save_official(tmp_path / "official", name)
    assert main(["convert", "elf", str(file.parent if as_folder else file), str(tmp_path / "run")]) == 0
    g = textflow.load(tmp_path / "run")
    if name == "elf":
        given = Conditioning(self_cond=data["forward.self_cond"], guidance=data["forward.self_cond_scale"])
        mean = g.net(data["forward.z"], data["forward.t"], given).mean
        assert error(mean, data["forward.denoise_all.x_pred"]) < 1e-5
        w = torch.full((len(data["sample.z0"]),), float(meta["self_cond_scale"]))
        ids = g.decode_logits(data["sample.ode.z1"], Conditioning(guidance=w)).argmax(-1)
        assert torch.equal(ids, data["sample.ode.ids"])
    else:
        decode = data["draw.decode_rows"] > 0
        noise, prev = data["mid.model_input"].chunk(2, -1)
        hidden = g.net.forward_hidden(
            noise, data["mid.t_mixed"], Conditioning(self_cond=prev, guidance=data["mid.w"]), decode
        )
        assert error(g.net.predict_x0(hidden), data["mid.x_pred"]) < 1e-5
        assert error(g.net.lm_logits(hidden), data["mid.logits"]) < 1e-5


@pytest.mark.integration
def test_a_converted_generator_samples_latents_without_its_tokenizer(tmp_path: Path) -> None:
    file, data, meta = save_official(tmp_path, "elf")
    assert main(["convert", "elf", str(file), str(tmp_path / "run")]) == 0
    g = textflow.load(tmp_path / "run")
    length, width = meta["config"]["max_length"], meta["config"]["text_encoder_dim"]
    sample = g.sample([1, 2], num_steps=3, length=length)
    assert sample.ids.shape == (2, length)
    assert sample.trace.states[0].std() == pytest.approx(Noise([1, 2]).normal(length, width).std().item() * 2, rel=1e-5)
    with pytest.raises(ValueError, match="cannot load the tokenizer t5-small"):
        g.generate(num_samples=1, num_steps=1, length=length)


@pytest.mark.integration
@pytest.mark.parametrize("options", [{}, OTHER_SETTINGS])
def test_the_recipe_holds_the_settings_of_training(tmp_path: Path, options: dict[str, float]) -> None:
    file, *_ = save_official(tmp_path, "elf")
    words = [f"--{name}={value}" for name, value in options.items()]
    assert main(["convert", "elf", str(file), str(tmp_path / "run"), *words]) == 0
    parts = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["model"]["init_args"]
    path, codec, objective = (parts[name]["init_args"] for name in ("path", "codec", "objective"))
    assert {
        "noise-scale": path["noise_scale"],
        "t-eps": path["min_one_minus_t"],
        "latent-mean": codec["mean"],
        "latent-std": codec["std"],
        "guidance-min": objective["guidance_min"],
        "guidance-max": objective["guidance_max"],
    } == SETTINGS | options


class Evil:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('code ran')",))


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (tmp_path / "checkpoint_1").open("wb") as file:
        pickle.dump({"params": Evil()}, file)
    assert main(["convert", "elf", str(tmp_path / "checkpoint_1"), str(tmp_path / "run")]) == 2
    assert "not opened" in capsys.readouterr().err


@pytest.mark.integration
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda t: t * torch.nan, "_orig_mod.text_proj.proj1.weight has ALL of ALL values that are not finite"),
        (lambda t: t.int(), "_orig_mod.text_proj.proj1.weight is int32, where the model needs floating point"),
        (lambda t: t + 0j, "_orig_mod.text_proj.proj1.weight is complex64, where the model needs floating point"),
    ],
)
def test_weights_that_no_model_can_take_are_refused(
    tmp_path: Path, change: Any, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, weights = "text_proj.proj1.weight", part(recorded("elf")[0], "weights.")
    expected = expected.replace("ALL", str(weights[name].numel()))
    raw = {f"_orig_mod.{key}": change(tensor) if key == name else tensor for key, tensor in weights.items()}
    torch.save({"params": raw}, tmp_path / "checkpoint_1")
    assert main(["convert", "elf", str(tmp_path), str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and expected in error and "checkpoint_1" in error and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("tensors", "options", "message"),
    [
        ({"weight": torch.zeros(2)}, (), "not a published ELF"),
        ("blocks.1000000000.x", (), "there is a block 1000000000, but no block "),  # before such a net is made
        ("", ("--seq-length", "0"), "seq_length is 0; a text needs at least 1 token"),
    ],
)
def test_other_tensors_and_impossible_sizes_are_refused(
    tmp_path: Path, tensors: Any, options: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(tensors, str):
        extra = {tensors: torch.zeros(1)} if tensors else {}
        tensors = part(recorded("elf")[0], "weights.") | extra
    torch.save({"params": tensors}, tmp_path / "checkpoint_1")
    assert main(["convert", "elf", str(tmp_path / "checkpoint_1"), str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err
