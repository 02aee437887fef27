"""Super-resolution: a network of TensorFlow.js read from its files, and patches of a photograph as latents."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.user_errors import refused
from textflow.external.super_resolution import load_upscaler, read_layers_model

SHAPES = {"a/kernel": [3, 3, 3, 3], "a/bias": [3], "b/kernel": [1, 1, 6, 3], "b/bias": [3]}


def layer(kind: str, name: str, inputs: list[str], **config: Any) -> dict[str, Any]:
    nodes = [[[each, 0, 0, {}] for each in inputs]] if inputs else []
    return {"class_name": kind, "config": {"name": name, **config}, "inbound_nodes": nodes}


def write_network(folder: Path) -> dict[str, Tensor]:
    """A network of one layer of each kind, with random weights."""
    layers = [
        layer("InputLayer", "x", []),
        layer("Conv2D", "a", ["x"], padding="same", activation="linear"),
        layer("Activation", "r", ["a"], activation="relu"),
        layer("Concatenate", "c", ["x", "r"], axis=3),
        layer("Conv2D", "b", ["c"], padding="valid", activation="relu"),
        layer("Add", "s", ["b", "x"]),
        layer("UpSampling2D", "u", ["s"], size=[2, 2]),
    ]
    weights = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    manifest = [{"name": name, "shape": shape, "dtype": "float32"} for name, shape in SHAPES.items()]
    tree = {"modelTopology": {"model_config": {"config": {"layers": layers}}}}
    tree |= {"weightsManifest": [{"paths": ["weights.bin"], "weights": manifest}]}
    (folder / "model.json").write_text(json.dumps(tree))
    np.concatenate([part.numpy().ravel() for part in weights.values()]).astype("<f4").tofile(folder / "weights.bin")
    return weights


def test_a_network_is_rebuilt_from_its_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    w, x = write_network(tmp_path), torch.randn(2, 3, 5, 6)
    kernels = {name: w[f"{name}/kernel"].permute(3, 2, 0, 1) for name in "ab"}
    hidden = F.relu(F.conv2d(x, kernels["a"], w["a/bias"], padding=1))
    expected = x + F.relu(F.conv2d(torch.cat([x, hidden], 1), kernels["b"], w["b/bias"]))
    found = read_layers_model(tmp_path)(x)
    assert found.shape == (2, 3, 10, 12)
    assert_close(found[..., ::2, 1::2], expected)


@pytest.mark.parametrize("damage", ["short", "no file", "no json"])
def test_damaged_files_are_one_line(tmp_path: Path, damage: str) -> None:
    write_network(tmp_path)
    if damage == "short":
        (tmp_path / "weights.bin").write_bytes((tmp_path / "weights.bin").read_bytes()[:-8])
    elif damage == "no file":
        (tmp_path / "weights.bin").unlink()
    else:
        (tmp_path / "model.json").write_text("{")
    refused("holds no network.*fetch it again", read_layers_model, tmp_path)


def test_a_network_of_other_layers_is_refused(tmp_path: Path) -> None:
    write_network(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(path.read_text().replace("UpSampling2D", "Dense"))
    refused("has layers Dense; known are Conv2D", read_layers_model, tmp_path)


def test_patches_of_the_bank_and_measured_ones_lie_in_other_columns(tmp_path: Path) -> None:
    write_network(tmp_path)
    pixels = np.broadcast_to(np.arange(128, dtype=np.uint8)[None, :, None], (128, 128, 3))
    Image.fromarray(pixels.copy()).save(tmp_path / "fixture.png")
    generator = load_upscaler(tmp_path)
    bank, measured = (255 * draw(list(range(300))) for draw in (generator.draw_bank, generator.draw))
    assert bank.shape == measured.shape == (300, 432)
    assert 78 < bank.max() <= 79.01 < 79.99 < measured.min() < 82 and measured.max() > 126
    assert generator.decode(measured[:2] / 255).shape == (2, 3, 24, 24)
    assert_close(generator.draw([7]), generator.draw([6, 7])[1:])
