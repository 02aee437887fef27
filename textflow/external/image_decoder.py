"""Image autoencoders of diffusers, loaded to be measured; needs textflow[images]."""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from textflow.diagnostics.bootstrap import Sums
from textflow.diagnostics.perturbation import MeasureFn
from textflow.external.error_response import ErrorProbe, ErrorResponse
from textflow.runtime.atomic import describe_error
from textflow.runtime.visible import visible_files
from textflow.types import Latents, Mask

Images = Float[Tensor, "B C H W"]
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True, eq=False)
class ImageDecoder:
    """An autoencoder of images, in eval mode and float32.

    Args:
        name: Hub name or folder.
        model: autoencoder of diffusers.
    """

    name: str
    model: Any

    @torch.no_grad()
    def encode(self, images: Images) -> Float[Tensor, "B d h w"]:
        """Latents of images, without noise: the mode of their law where there is one."""
        out = self.model.encode(images)
        latents: Tensor = out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latent
        return latents

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "B d h w"]) -> Images:
        """Images of latents."""
        images: Tensor = self.model.decode(latents).sample
        return images


def import_diffusers() -> ModuleType:
    """The package diffusers, or an error that names the extra."""
    try:
        import diffusers
    except ImportError as error:
        raise ValueError("image models need the package diffusers: pip install 'textflow[images]'") from error
    return diffusers


def load(auto_class: Any, name: str) -> Any:
    """A model of diffusers, from safetensors alone."""
    return auto_class.from_pretrained(name, torch_dtype=torch.float32, use_safetensors=True)


def load_image_decoder(name: str, device: torch.device | str = "cpu") -> ImageDecoder:
    """Load an autoencoder by Hub name or from a folder of `save_pretrained`."""
    diffusers = import_diffusers()
    needed = "needed is an autoencoder of diffusers, such as a folder of AutoencoderKL"
    try:
        kind = diffusers.AutoModel.load_config(name).get("_class_name")
        auto_class = getattr(diffusers, str(kind), None) if str(kind).startswith("Autoencoder") else None
        model = None if auto_class is None else load(auto_class, name)
    except Exception as error:  # damaged files raise many error types
        raise ValueError(f"no image decoder at {name}: {describe_error(error)}; {needed}") from error
    if model is None:
        raise ValueError(f"{name} holds {kind or 'no model of diffusers'}; {needed}; hf:{name} takes language models")
    return ImageDecoder(name, model.to(device).eval())


def read_images(folder: Path, size: int, n: int) -> list[Images]:
    """The first n images of a folder as squares [1, 3, size, size] in [-1, 1].

    Args:
        folder: folder of PNG, JPEG, WebP or BMP files, or one such file.
        size: width and height in pixels; the middle of an image is cut out.
        n: largest number of images.
    """
    files = visible_files(folder) if folder.is_dir() else [folder]
    found = [file for file in files if file.suffix.lower() in SUFFIXES][:n]
    if not found:
        raise ValueError(f"{folder} holds no images, and an image decoder takes no text; give a folder of PNG or JPEG")
    return [read_image(file, size) for file in found]


def read_image(file: Path, size: int) -> Images:
    """The middle of an image as [1, 3, size, size] in [-1, 1]."""
    try:
        with Image.open(file) as image:
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side)).resize((size, size))
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"{file} is not an image that can be read ({error}); give PNG or JPEG") from error
    return torch.from_numpy(np.asarray(square).copy()).permute(2, 0, 1)[None] / 127.5 - 1  # [H, W, 3] -> [1, 3, H, W]


def image_response(decoder: ImageDecoder, images: list[Images], seeds: list[int]) -> list[ErrorResponse]:
    """Squared error of the decoded image along the empirical posterior's residual, and its DABI [ours].

    Args:
        decoder: image decoder.
        images: images of one size, [1, C, H, W] each; half of them are the bank.
        seeds: random seed of each image.
    """
    grids = [decoder.encode(image.to(decoder.model.device)) for image in images]
    shape = grids[0].shape[1:]
    rows = [grid.flatten(2).mT for grid in grids]  # [1, d, h, w] -> [1, h w, d]

    def squared_error(x: Latents, mask: Mask) -> MeasureFn:
        clean = decoder.decode(x.mT.reshape(1, *shape))

        def measure(z: Latents) -> list[Sums]:
            error = decoder.decode(z.mT.reshape(1, *shape)) - clean
            return [(error.double() ** 2).mean((1, 2, 3)).cpu() * z.shape[1]]

        return measure

    samples = [(x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)) for x in rows]
    return ErrorProbe(samples, squared_error, seeds, counts_events=False).empirical()


def image_size(decoder: ImageDecoder) -> int:
    """Pixels that an autoencoder was trained on; 256 if its configuration does not say."""
    return int(getattr(decoder.model.config, "sample_size", None) or 256)
