"""Masked reconstruction: latents are trained together with the masked diffusion of tokens that they condition
(DiLaDiff)."""

from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from textflow.codecs import Codec, FeatureResampler
from textflow.codecs.cosmos import Features
from textflow.discrete.diladiff import DiLaDiffCodec
from textflow.objectives import FeatureReconstruction, LatentAugmentation
from textflow.types import Batch, Latents


class MaskedReconstruction(FeatureReconstruction):
    """-log p(token | unmasked tokens, z) at masked tokens, a mean over them in nats, with times uniform on [0, 1] and
    without the weights of the bound (DiLaDiff, 2605.23605, stage 2).

    Args:
        augmentation: damage to features and latents; default: that of DiLaDiff.
        mdlm: run folder of an MDLM, or hf:OWNER/NAME, whose averaged weights the decoder starts from and whose
            embeddings stay; default: the decoder is trained from the start.
        latent_dropout: fraction of rows in training that do not see their latents, in [0, 1): they train a decoder
            that starts from no MDLM [ours].
    """

    trains: ClassVar[type] = DiLaDiffCodec

    def __init__(
        self,
        augmentation: LatentAugmentation = LatentAugmentation(0.5, 0.7, 0.7, 0.75),
        mdlm: str | None = None,
        latent_dropout: float = 0.0,
    ) -> None:
        super().__init__(augmentation, feature_weight=0.0)
        if not 0 <= latent_dropout < 1:
            raise ValueError(f"latent_dropout is {latent_dropout}; needs a fraction in [0, 1)")
        self.mdlm, self.latent_dropout = mdlm, latent_dropout

    def build(self, codec: Codec) -> None:
        super().build(codec)
        assert isinstance(codec, DiLaDiffCodec), "super has checked it"
        if self.mdlm is not None:
            codec.decoder.backbone.embed.requires_grad_(False)

    def initialize(self, codec: Codec) -> None:
        if self.mdlm is None:
            return
        assert isinstance(codec, DiLaDiffCodec), "build has checked it"
        file = Path(self.mdlm) / "model.safetensors"
        if not file.is_file():
            raise ValueError(f"mdlm is {self.mdlm!r}, but {file} does not exist; give the folder of a fitted MDLM run")
        weights = {name.removeprefix("net."): part for name, part in load_file(file).items() if "backbone." in name}
        own = {name: part for name, part in codec.decoder.state_dict().items() if name.startswith("backbone.")}
        shapes = [{name: part.shape for name, part in parts.items()} for parts in (own, weights)]
        if wrong := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
            raise ValueError(
                f"the MDLM {self.mdlm} does not fit model.codec.decoder: {len(wrong)} weights differ, such as "
                f"{wrong[0]}; give it the width, depth and tokenizer of the MDLM"
            )
        codec.decoder.load_state_dict(weights, strict=False)

    def decoder_losses(self, codec: FeatureResampler, batch: Batch, h: Features, z: Latents) -> dict[str, Tensor]:
        assert isinstance(codec, DiLaDiffCodec), "build has checked it"
        ids, process = batch.ids, codec.diffusion.process
        t = torch.rand(len(ids), dtype=torch.float64, device=ids.device)
        uniform = torch.rand(ids.shape, dtype=torch.float64, device=ids.device)
        noisy = process.corrupt(ids, torch.full_like(ids, codec.vocab_size), uniform, t)
        masked = (noisy == codec.vocab_size) & batch.mask
        rows = torch.rand(len(ids), device=ids.device) >= self.latent_dropout if codec.training else None
        hidden = codec.decoder(noisy, codec.diffusion.network_sigma(t), z, rows)
        logits = codec.decoder.lm_logits(hidden[masked])[:, :-1].float()  # [n, V]
        count = masked.sum()
        loss = F.cross_entropy(logits, ids[masked], reduction="sum") / count.clamp_min(1)
        hits = (logits.detach().argmax(-1) == ids[masked]).sum() / count.clamp_min(1)
        return {"loss": loss, "tokens": count, "accuracy": hits}
