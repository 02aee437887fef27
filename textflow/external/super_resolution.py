"""An image decoder of super-resolution whose weights `textflow fetch` gets: its latents are patches of a photograph."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from textflow.external.image_decoder import Images, read_image
from textflow.external.image_generator import ImageGenerator, Rows
from textflow.runtime.atomic import describe_error

PHOTO, PATCH = 128, 12  # pixels of the photograph, and of a patch
BANK_COLUMNS = 80  # columns of the photograph whose patches are the bank; the other columns are measured
LayerFn = Callable[[list[Tensor], Mapping[str, Any], Mapping[str, Tensor]], Tensor]


def convolve(inputs: list[Tensor], config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Tensor:
    """A convolution of stride 1; kernels are stored [height, width, in, out]."""
    kernel, padding = weights["kernel"].permute(3, 2, 0, 1), config["padding"]
    return activate(F.conv2d(inputs[0], kernel, weights["bias"], padding=padding), config["activation"])


def activate(x: Tensor, name: str) -> Tensor:
    """An activation by its name in TensorFlow."""
    return {"linear": lambda x: x, "relu": F.relu}[name](x)


LAYERS: dict[str, LayerFn] = {
    "Conv2D": convolve,
    "Activation": lambda inputs, config, _: activate(inputs[0], config["activation"]),
    "Concatenate": lambda inputs, *_: torch.cat(inputs, 1),
    "Add": lambda inputs, *_: torch.stack(inputs).sum(0),
    "UpSampling2D": lambda inputs, config, _: F.interpolate(inputs[0], scale_factor=config["size"][0]),
}


def read_layers_model(folder: Path) -> Callable[[Tensor], Tensor]:
    """A network that TensorFlow.js saved as model.json and one file of float32 weights, from its layers in LAYERS.

    Raises:
        ValueError: for a damaged file, or a network of other layers.
    """
    try:
        tree = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        layers = tree["modelTopology"]["model_config"]["config"]["layers"]
        weights = read_weights(folder, tree["weightsManifest"][0])
        kinds = {layer["class_name"] for layer in layers[1:]}
        nodes = [(layer["config"], [node[0] for node in layer["inbound_nodes"][0]]) for layer in layers[1:]]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"{folder} holds no network: {describe_error(error)}; fetch it again") from error
    if other := sorted(kinds - LAYERS.keys()):
        raise ValueError(f"{folder / 'model.json'} has layers {', '.join(other)}; known are {', '.join(LAYERS)}")
    rules = [LAYERS[layer["class_name"]] for layer in layers[1:]]

    def run(images: Tensor) -> Tensor:
        values: dict[str, Tensor] = {layers[0]["config"]["name"]: images}
        for rule, (config, inputs) in zip(rules, nodes, strict=True):
            name = config["name"]
            values[name] = rule([values[each] for each in inputs], config, weights.get(name, {}))
        return values[layers[-1]["config"]["name"]]

    return run


def read_weights(folder: Path, manifest: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Weights of each layer by their names, kernel and bias."""
    found: dict[str, dict[str, Tensor]] = {}
    values, start = np.fromfile(folder / manifest["paths"][0], dtype="<f4"), 0
    for entry in manifest["weights"]:
        layer, name = entry["name"].split("/")
        size = prod(entry["shape"])
        found.setdefault(layer, {})[name] = torch.from_numpy(values[start : start + size].reshape(entry["shape"]))
        start += size
    if start != len(values):
        raise ValueError(f"{len(values)} weights, where model.json has {start}")
    return found


def load_upscaler(folder: Path) -> ImageGenerator:
    """Super-resolution by 2 of patches of 12 x 12 pixels, a residual dense network (`textflow fetch upscaler`).

    Its latents are pixels of the photograph of the package, in [0, 1]; those of the bank and those that are measured
    lie in different columns.
    """
    net, photo = read_layers_model(folder), (read_image(folder / "fixture.png", PHOTO)[0] + 1) / 2

    def decode(z: Rows) -> Images:
        return net(255 * z.view(len(z), 3, PATCH, PATCH)) / 255

    bank, measured = photo[:, :, :BANK_COLUMNS], photo[:, :, BANK_COLUMNS:]
    return ImageGenerator(2, partial(take_patches, measured), decode, partial(take_patches, bank))


def take_patches(photo: Tensor, noise: Float[Tensor, "B 2"]) -> Rows:
    """Patches [B, 3 * 12 * 12] of a photograph [3, H, W] at places that are uniform if the noise [B, 2] is normal."""
    rows, columns = (photo.shape[axis] - PATCH + 1 for axis in (1, 2))
    places = (torch.special.ndtr(noise.double()) * torch.tensor([rows, columns])).long()
    return torch.stack([photo[:, i : i + PATCH, j : j + PATCH].flatten() for i, j in places.tolist()])
