"""Published Cola-DLM folders become runs; a wrong or truncated one is a one-line error."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import textflow
from tests.helpers.cola_parts import cola_recording, recorded_dit, recorded_vae
from tests.helpers.recordings import error, part
from textflow.cli.app import main
from textflow.models.generator import Generator
from textflow.samplers import Blockwise

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes

Weights = dict[str, Tensor]
Parts = dict[str, Weights]


def same(weights: Parts) -> Parts:
    return weights


def write_checkpoint(folder: Path, change: Callable[[Parts], Parts] = same, **config: Any) -> Path:
    """The two folders of the recorded weights, with the sizes that no tensor tells.

    Args:
        folder: where to write.
        change: changes the tensors, by part.
        config: entries of both config.json to replace; None removes one.
    """
    tensors, sizes = cola_recording()
    own = {"vae": {n: t for n, t in part(tensors, "vae.").items() if n != "recon_loss"}, "dit": part(tensors, "dit.")}
    for name, weights in change(own).items():
        place = folder / f"cola_{name}"
        place.mkdir(parents=True)
        save_file({key: tensor.contiguous() for key, tensor in weights.items()}, place / "model.safetensors")
        content = {key: value for key, value in (sizes[name] | config).items() if value is not None}
        (place / "config.json").write_text(json.dumps(content))
    return folder


def load(run: Path) -> Generator:
    model = textflow.load(run)
    assert isinstance(model, Generator)
    model.text_format = model.text_format._replace(tokenizer=None)  # the published one is on the Hub
    return model


@pytest.mark.parity
def test_a_converted_checkpoint_is_the_published_vae_and_prior(tmp_path: Path) -> None:
    tensors, config = cola_recording()
    source = write_checkpoint(tmp_path / "hub" / "cola_dlm")
    block = config["vae"]["patch_size"] * config["vae"]["block_size"]
    assert main(["convert", "cola", str(source.parent), str(tmp_path / "run"), "--seq-length", str(5 * block)]) == 0
    model = load(tmp_path / "run")
    assert isinstance(model.order, Blockwise) and model.codec.is_trained
    assert model.ema_net.block_size == config["dit"]["block_size"]
    for own, published in (
        (model.codec, recorded_vae(tensors, config)),
        (model.ema_net, recorded_dit(tensors, config)),
    ):
        state = published.state_dict()
        assert state.keys() == own.state_dict().keys()
        assert all(torch.equal(tensor, state[name]) for name, tensor in own.state_dict().items())
    assert error(model.codec.encode(tensors["enc.ids.0"][None])[0], tensors["enc.mean.0"]) < 2e-5
    ids = model.sample([1, 2], 3, length=3 * block).ids
    assert ids.shape == (2, 3 * block) and int(ids.min()) >= 0 and int(ids.max()) < config["vae"]["vocab_size"]


@pytest.mark.parity
def test_rotated_channels_come_from_the_configuration_where_the_file_has_no_frequencies(tmp_path: Path) -> None:
    def bare(parts: Parts) -> Parts:
        return parts | {"dit": {name: t for name, t in parts["dit"].items() if "freqs" not in name}}

    source = write_checkpoint(tmp_path / "hub", bare)
    assert main(["convert", "cola", str(source), str(tmp_path / "run")]) == 0
    net = cast(Any, load(tmp_path / "run").net)
    assert net.rope_width == cola_recording()[1]["dit"]["rope_dim"]


def without(which: str, name: str) -> Callable[[Parts], Parts]:
    return lambda parts: parts | {which: {key: t for key, t in parts[which].items() if key != name}}


def changed(which: str, name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Parts], Parts]:
    return lambda parts: parts | {which: parts[which] | {name: change(parts[which][name])}}


BIAS, GATE, TABLE = "decoder.final_norm.bias", "blocks.0.ada.msa_out.1.bias", "encoder.wte.weight"


@pytest.mark.parametrize(
    ("change", "folder", "expected"),
    [
        (without("vae", BIAS), "cola_vae", "the file lacks decoder.final_norm.bias"),
        (changed("vae", BIAS, lambda t: t[1:]), "cola_vae", f"{BIAS} is ({{vae}} - 1,), but the sizes need ({{vae}},)"),
        (changed("vae", TABLE, lambda t: t[:-1]), "cola_vae", f"{TABLE} is ("),
        (changed("vae", TABLE, lambda t: t[:, 0]), "cola_vae", f"{TABLE} is ("),
        (without("vae", TABLE), "cola_vae", f"lacks {TABLE}"),
        (changed("dit", GATE, lambda t: t * torch.nan), "cola_dit", f"{GATE} has {{dit}} of {{dit}} values"),
        (changed("dit", GATE, lambda t: t[1:]), "cola_dit", f"{GATE} is ({{dit}} - 1,), but the sizes need ({{dit}},)"),
        (without("dit", "txt_in.proj.weight"), "cola_dit", "lacks txt_in.proj.weight"),
        (lambda parts: parts | {"dit": parts["dit"] | {"head.weight": torch.zeros(2)}}, "cola_dit", "head.weight (2,)"),
    ],
)
def test_an_unfit_tensor_is_named_with_its_shape_in_one_line(
    tmp_path: Path,
    change: Callable[[Parts], Parts],
    folder: str,
    expected: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_checkpoint(tmp_path / "hub", change)
    assert main(["convert", "cola", str(source), str(tmp_path / "run")]) == 2
    message, sizes = capsys.readouterr().err, cola_recording()[1]
    for word, size in (("{vae}", sizes["vae"]["dim"]), ("{dit}", sizes["dit"]["txt_dim"])):
        expected = expected.replace(f"{word} - 1", str(size - 1)).replace(word, str(size))
    assert expected in message and str(source / folder) in message and message.count("\n") == 1
    assert not (tmp_path / "run").exists()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda hub: truncate(hub / "cola_dit" / "model.safetensors"), "is not a complete safetensors file"),
        (lambda hub: (hub / "cola_vae" / "config.json").unlink(), "needs config.json and model.safetensors"),
        (lambda hub: (hub / "cola_vae" / "config.json").write_text("{"), "is not JSON"),
        (lambda hub: (hub / "cola_vae" / "config.json").write_text("[]"), "holds a list"),
        (lambda hub: (hub / "cola_vae").rename(hub / "vae"), "does not hold both folders cola_vae and cola_dit"),
    ],
)
def test_a_damaged_folder_is_named_in_one_line(
    tmp_path: Path, damage: Callable[[Path], None], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "hub")
    damage(source)
    assert main(["convert", "cola", str(source), str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert expected in message and str(source) in message and message.count("\n") == 1


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ({"block_size": None}, (), "block_size None"),
        ({"num_heads": 0}, (), "num_heads 0"),
        ({"block_size": "four"}, (), "block_size 'four'"),
        ({}, ("--seq-length", "0"), "seq_length is 0"),
    ],
)
def test_sizes_that_no_tensor_tells_must_be_in_the_configuration(
    tmp_path: Path, config: dict[str, Any], options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "hub", **config)
    assert main(["convert", "cola", str(source), str(tmp_path / "run"), *options]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
