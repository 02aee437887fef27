"""Cola-DLM with tensors of the published code."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.helpers.recordings import part, recorded
from textflow.codecs import LatentSpace, TextVAE
from textflow.convert.cola_layout import FREQUENCIES, SavedFolder, dit_sizes, map_name, vae_sizes
from textflow.models.generator import Generator
from textflow.nets import ColaDiT
from textflow.objectives import ColaObjective
from textflow.paths import LinearPath
from textflow.readouts import FromCodec
from textflow.samplers import Blockwise
from textflow.schedules import Uniform

PATH = LinearPath(noise_scale=1.0, min_one_minus_t=0.0)


def cola_recording() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and configuration."""
    tensors, meta = recorded("cola")
    return tensors, meta["config"]


def recorded_vae(tensors: dict[str, Tensor], config: dict[str, Any]) -> TextVAE:
    """The published VAE."""
    weights = {name: t for name, t in part(tensors, "vae.").items() if name != "recon_loss"}
    sizes, pad_id = (
        vae_sizes(SavedFolder(Path("vae"), weights, config["vae"])),
        config.get("pad_id"),
    )  # default: the last
    vae = TextVAE(config["vae"]["vocab_size"], **sizes, pad_id=pad_id)
    vae.load_state_dict(weights | {"updates": torch.ones((), dtype=torch.int64)})
    return vae.eval()


def recorded_dit(tensors: dict[str, Tensor], config: dict[str, Any]) -> ColaDiT:
    """The published prior."""
    weights, space = part(tensors, "dit."), LatentSpace(config["vae"]["latent_dim"], config["vae"]["vocab_size"])
    net = ColaDiT(space, **dit_sizes(SavedFolder(Path("dit"), weights, config["dit"])))
    assert net.rope_width == config["dit"]["rope_dim"]
    net.load_state_dict({map_name(n): t for n, t in weights.items() if not n.endswith(FREQUENCIES)})
    return net.eval()


def recorded_generator(tensors: dict[str, Tensor], config: dict[str, Any], **options: Any) -> Generator:
    """Both, as a generator that samples block after block."""
    vae, net = recorded_vae(tensors, config), recorded_dit(tensors, config)
    own: dict[str, Any] = {
        "codec": lambda vocab: vae,
        "net": lambda codec: net,
        "objective": ColaObjective(),
        "path": PATH,
        "readout": FromCodec(repetition_penalty=config.get("repetition_penalty", 1.1)),
        "token_readout": FromCodec(),
        "sampling_schedule": Uniform(),
        "order": Blockwise(guidance=config["guidance"]),
    }
    return Generator(config["vae"]["vocab_size"], **(own | options)).eval()
