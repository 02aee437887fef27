"""Published systems at a tiny size, of which any part can be replaced. A new system is one function and one entry."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import torch

from tests.helpers.trained_codecs import (
    BLOCKS,
    LENGTH,
    VOCAB,
    WIDTHS,
    masked_resampler,
    texts,
    trained_resampler,
    trained_vae,
)
from tests.helpers.word_tokenizer import Words
from textflow.codecs import EmbeddingTable, OneHot
from textflow.discrete import (
    DuoObjective,
    DuoSampler,
    LoopholingDiT,
    MaskedDecoding,
    MDLMObjective,
    MDLMSampler,
    TokenDiT,
)
from textflow.models.base import Trainable
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.fitted_schedules import fit_schedules
from textflow.models.generation import TextGenerator
from textflow.models.generator import Generator
from textflow.models.repetition import require_self_conditioning
from textflow.models.text_format import TextFormat
from textflow.nets import ELF, DiT, LangFlow, UNetBERT
from textflow.nets.cola import ColaDiT
from textflow.objectives import ELFObjective, FastDiSS, FLMObjective, LangFlowObjective, SquaredError
from textflow.objectives.cola import ColaObjective
from textflow.paths import LinearPath, TangentPath
from textflow.paths.variance_preserving import VariancePreserving
from textflow.readouts import ContextualRounding, FromCodec, FromPosterior
from textflow.samplers import ACE, Blockwise, FlowMapChurn
from textflow.schedules import Gumbel, LogitNormal, OneHotDecodeError


def elf(two_time: bool = False, **parts: Any) -> Generator:
    """ELF (2605.10938) on frozen embeddings."""
    own: dict[str, Any] = {
        "codec": lambda vocab: EmbeddingTable(vocab, 8),
        "net": lambda codec: ELF(codec, **WIDTHS, bottleneck=8, two_time=two_time),
        "objective": ELFObjective(LogitNormal()),
    }
    return Generator(VOCAB, **(own | parts))


def langflow(two_time: bool = False, **parts: Any) -> Generator:
    """LangFlow (2604.11748): embeddings that are learned with the net, noise levels that are learned too."""
    own: dict[str, Any] = {
        "codec": lambda vocab: EmbeddingTable(vocab, WIDTHS["width"], trainable=True),
        "net": lambda codec: LangFlow(
            codec, WIDTHS["depth"], WIDTHS["heads"], cond_width=8, dropout=0.0, two_time=two_time
        ),
        "objective": LangFlowObjective(Gumbel(trainable=True), ramp_steps=0),
        "path": VariancePreserving(),
        "readout": FromPosterior(),
        "token_readout": FromPosterior(),
    }
    return Generator(VOCAB, **(own | parts))


def fastdiss(**options: Any) -> Generator:
    """FastDiSS (2604.05551) on LangFlow."""
    objective = LangFlowObjective(Gumbel(trainable=True), 0.5, ramp_steps=0, self_conditioning=FastDiSS(0.1, 0.1))
    return langflow(**({"objective": objective} | options))


def flm(two_time: bool = False, **parts: Any) -> Generator:
    """FLM (2602.16813): one-hot latents, cross-entropy, the schedule of decode errors."""
    own: dict[str, Any] = {
        "codec": OneHot,
        "net": lambda codec: DiT(codec, **WIDTHS, cond_width=8, two_time=two_time, time_schedule=OneHotDecodeError()),
        "objective": FLMObjective(OneHotDecodeError()),
        "path": LinearPath(noise_scale=1.0, min_one_minus_t=0.0, eps=1e-5),
        "readout": FromPosterior(),
        "token_readout": FromPosterior(),
    }
    return Generator(VOCAB, **(own | parts))


def cola(two_time: bool = False, **parts: Any) -> Generator:
    """Cola-DLM (2605.06548): latents of a text autoencoder, block after block."""
    if two_time:
        raise ValueError("the net ColaDiT has no `two_time`: it is not conditioned on the end of a step")
    own: dict[str, Any] = {
        "codec": lambda vocab: deepcopy(trained_vae()),
        "net": lambda codec: ColaDiT(codec, **BLOCKS, depth=1),
        "objective": ColaObjective(),
        "path": LinearPath(noise_scale=1.0),
        "readout": FromCodec(),
        "token_readout": FromCodec(),
        "order": Blockwise(),
    }
    return Generator(VOCAB, **(own | parts))


def cosmos(two_time: bool = False, **parts: Any) -> Generator:
    """Cosmos (2506.21170): fewer latents than tokens, on the tangent path."""
    own: dict[str, Any] = {
        "codec": lambda vocab: deepcopy(trained_resampler()),
        "net": lambda codec: UNetBERT(codec, width=16, depth=2, heads=2, dropout=0.0, two_time=two_time),
        "objective": SquaredError(self_cond_prob=0.5),
        "path": TangentPath(1.0),
        "readout": FromCodec(),
        "token_readout": FromCodec(),
    }
    return Generator(VOCAB, **(own | parts))


def codar(**options: Any) -> Generator:
    """CoDAR (2603.02547): a latent per token, read by a decoder that commits token after token."""
    own: dict[str, Any] = {
        "codec": lambda vocab: EmbeddingTable(vocab, 8),
        "readout": ContextualRounding(16, 1, 2),
    }
    return cosmos(**(own | options))


def diladiff(**options: Any) -> Generator:
    """DiLaDiff (2605.23605): latents, and a masked diffusion of tokens that is conditioned on them."""
    own: dict[str, Any] = {
        "codec": lambda vocab: deepcopy(masked_resampler()),
        "readout": MaskedDecoding(steps=4),
        "sampler": FlowMapChurn(0.8),
    }
    return cosmos(**(own | options))


def discrete(
    own: dict[str, Any], two_time: bool = False, net: type[TokenDiT] = TokenDiT, **parts: Any
) -> DiscreteDiffusion:
    """Diffusion over tokens, whose network is not conditioned on the end of a step."""
    return DiscreteDiffusion(VOCAB, lambda states: net(states, **WIDTHS, cond_width=8), **(own | parts))


def mdlm(**options: Any) -> DiscreteDiffusion:
    """MDLM (2406.07524)."""
    return discrete({"objective": MDLMObjective(), "sampler": MDLMSampler()}, **options)


def duo(**options: Any) -> DiscreteDiffusion:
    """Duo (2506.10892)."""
    return discrete({"objective": DuoObjective(), "sampler": DuoSampler()}, **options)


def loopholing(**options: Any) -> DiscreteDiffusion:
    """Loopholing (2510.19304) on MDLM."""
    return mdlm(net=LoopholingDiT, **options)


SYSTEMS: dict[str, Callable[..., TextGenerator]] = {
    "ELF": elf,
    "LangFlow": langflow,
    "FastDiSS": fastdiss,
    "FLM": flm,
    "Cola": cola,
    "Cosmos": cosmos,
    "CoDAR": codar,
    "DiLaDiff": diladiff,
    "MDLM": mdlm,
    "Duo": duo,
    "Loopholing": loopholing,
}


def make(system: str, **options: Any) -> Any:
    """A system with random weights.

    Args:
        system: its name.
        options: parts to replace, by argument of the model; `two_time` conditions the net on the end of a step.
    """
    torch.manual_seed(0)
    model = SYSTEMS[system](**options)
    for p in model.net.parameters():
        p.data.add_(torch.randn_like(p))  # many a last layer starts at 0
    model.ema_net.load_state_dict(model.net.state_dict())
    model.text_format = TextFormat(Words([f"w{i}" for i in range(VOCAB)]), LENGTH)
    return ready(model).eval()


def ready(model: Trainable) -> Trainable:
    """The model with its schedules fitted, as a fit does before its first step, and with any direction for ACE."""
    if isinstance(model, Generator):
        fit_schedules(model, texts(), model.unfitted_schedules())
        if isinstance(model.sampler, ACE):
            require_self_conditioning(model)
            model.sampler.direction = torch.eye(model.codec.dim)[0]
    return model
