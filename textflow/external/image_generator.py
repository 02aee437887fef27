"""Image generators whose weights `textflow fetch` gets: latents of their prior, and the decoder of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from textflow.diagnostics.bootstrap import Sums
from textflow.diagnostics.perturbation import MeasureFn
from textflow.external.error_response import ErrorProbe, ErrorResponse
from textflow.external.image_decoder import Images
from textflow.noise import Noise, sample_seeds
from textflow.runtime.atomic import describe_error
from textflow.types import Latents, Mask

Rows = Float[Tensor, "B d"]
DCGAN_DIM = 100  # width of the latents of a DCGAN
EYE_COLOURS = 8  # classes of the generator of eyes
EYE_COLOUR = 2  # brown: the class of every measured eye
STYLE_DIM = 512  # width of the latents of MobileStyleGAN
BANK_SIZE = 8192  # latents of the prior in the bank
GROUP = 16  # images decoded together
DRAWS = 2  # random errors of each image and control


@dataclass(frozen=True, eq=False)
class ImageGenerator:
    """A generator of images.

    Args:
        dim: width of the normal noise that latents are made of.
        latents: normal noise [B, dim] -> latents [B, d].
        decode: latents [B, d] -> images [B, C, H, W].
        bank_latents: as `latents`, for the bank of the empirical posterior; default: the same.
    """

    dim: int
    latents: Callable[[Rows], Rows]
    decode: Callable[[Rows], Images]
    bank_latents: Callable[[Rows], Rows] | None = None

    @torch.no_grad()
    def draw(self, seeds: list[int]) -> Rows:
        """Latents of the prior, one a seed."""
        return self.latents(Noise(seeds).normal(self.dim))

    @torch.no_grad()
    def draw_bank(self, seeds: list[int]) -> Rows:
        """Latents of the bank, one a seed."""
        return (self.bank_latents or self.latents)(Noise(seeds).normal(self.dim))


def read_weights(file: Path, key: str | None = None) -> dict[str, Tensor]:
    """State dict of a torch file, which is read without running code.

    Args:
        file: file that torch.save wrote.
        key: key of the state dict in the file; default: the file is one.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        return dict(content if key is None else content[key])
    except Exception as error:  # damaged files raise many error types
        raise ValueError(f"{file} holds no weights of a generator: {describe_error(error)}; fetch it again") from error


def make_dcgan(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """The generator of a DCGAN (1511.06434) in eval mode: transposed convolutions of kernel 4, the first of stride 1
    and the others of stride 2, each but the last with batch norm and ReLU; then tanh.

    Args:
        weights: state dict whose keys are PREFIX.NUMBER.NAME, in the order of the layers; sizes are theirs.
    """
    groups: dict[int, dict[str, Tensor]] = {}
    for key, tensor in weights.items():
        *_, number, name = key.split(".")
        groups.setdefault(int(number), {})[name] = tensor
    layers: list[nn.Module] = []
    for _, part in sorted(groups.items()):
        shape = part["weight"].shape
        if len(shape) == 4:
            stride, padding = (1, 0) if not layers else (2, 1)
            layer: nn.Module = nn.ConvTranspose2d(shape[0], shape[1], 4, stride, padding, bias="bias" in part)
        else:
            layer = nn.BatchNorm2d(len(part["weight"]))
        layer.load_state_dict(part)
        layers += [layer] if len(shape) == 4 else [layer, nn.ReLU()]
    return nn.Sequential(*layers, nn.Tanh()).eval().requires_grad_(False)


def load_faces(folder: Path) -> ImageGenerator:
    """The DCGAN of faces, 64 x 64 pixels (`textflow fetch gan-face`)."""
    net = make_dcgan(read_weights(folder / "weights.tar", "netG_state_dict"))
    return ImageGenerator(DCGAN_DIM, lambda z: z, lambda z: net(z[..., None, None]))


def load_eyes(folder: Path) -> ImageGenerator:
    """The conditional DCGAN of painted eyes, 128 x 128 pixels, in one colour (`textflow fetch eye`)."""
    net = make_dcgan(read_weights(folder / "generator_model_state.pth"))
    colour = torch.eye(EYE_COLOURS)[EYE_COLOUR]

    def decode(z: Rows) -> Images:
        return net(torch.cat([z, colour.expand(len(z), -1)], 1)[..., None, None])

    return ImageGenerator(DCGAN_DIM, lambda z: z, decode)


def load_mobilestylegan(folder: Path) -> ImageGenerator:
    """MobileStyleGAN (2104.04767) of faces, 1024 x 1024 pixels; latents are its styles w (`textflow fetch
    mobilestylegan`, textflow[openvino])."""
    mapping, synthesis = (read_network(folder / f"{name}Network.xml") for name in ("Mapping", "Synthesis"))
    return ImageGenerator(STYLE_DIM, mapping, lambda w: synthesis(w).clamp(-1, 1))


def read_network(file: Path) -> Callable[[Tensor], Tensor]:
    """A network in OpenVINO's IR, one row at a time, in float32; its .bin lies beside the .xml."""
    openvino = import_openvino()
    options = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled: Any = openvino.Core().compile_model(str(file), "CPU", options)
    except Exception as error:  # damaged files raise many error types
        raise ValueError(f"{file} holds no network: {describe_error(error)}; fetch it again") from error

    def run(rows: Tensor) -> Tensor:
        return torch.cat([torch.from_numpy(compiled(row[None].numpy())[0].copy()) for row in rows])

    return run


def import_openvino() -> ModuleType:
    """The package openvino, or an error that names the extra."""
    try:
        import openvino
    except ImportError as error:
        raise ValueError("MobileStyleGAN needs the package openvino: pip install 'textflow[openvino]'") from error
    return openvino


@torch.no_grad()
def generator_response(generator: ImageGenerator, n: int, seed: int, lengths: tuple[float, ...]) -> list[ErrorResponse]:
    """Squared error of the decoded image along the empirical posterior's residual, and its DABI [ours].

    The error is given over the variance of the images: 1 is the error of the mean image, 2 that of another image.

    Args:
        generator: image generator.
        n: number of images; the bank has 8,192 others.
        seed: random seed.
        lengths: lengths of the noise, in standard deviations of the latents.
    """
    bank, x = generator.draw_bank(sample_seeds(seed, n, BANK_SIZE)), generator.draw(sample_seeds(seed, 0, n))
    samples = [(part[:, None], torch.ones(len(part), 1, dtype=torch.bool)) for part in torch.split(x, GROUP)]
    images = {id(part): generator.decode(part[:, 0]) for part, _ in samples}
    spread = image_variance(list(images.values()))

    def squared_error(x: Latents, mask: Mask) -> MeasureFn:
        clean = images[id(x)]

        def measure(z: Latents) -> list[Sums]:
            errors = zip(generator.decode(z[:, 0]), clean, strict=True)
            return [torch.stack([(a - b).double().square().mean() for a, b in errors]) / spread]

        return measure

    probe_seeds = sample_seeds(seed, n + BANK_SIZE, n)
    return ErrorProbe(samples, squared_error, probe_seeds, False, DRAWS, bank, lengths).empirical()


def image_variance(groups: list[Images]) -> float:
    """Variance of a pixel over images, its mean over the pixels."""
    n = sum(map(len, groups))
    mean = torch.stack([group.sum(0, dtype=torch.float64) for group in groups]).sum(0) / n
    return sum(float((image - mean).square().mean()) for group in groups for image in group) / n
