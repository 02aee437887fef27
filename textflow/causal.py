"""CausalLM: a small autoregressive transformer trained by next-token cross-entropy; it scores what others generate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import LlamaConfig, LlamaForCausalLM

from textflow.data import Tokenizer
from textflow.metrics import Scorer
from textflow.training import Trainable
from textflow.types import Batch


class CausalLM(Trainable):
    """Llama-shaped causal language model with tied embeddings; fit leaves it in RUN/hf, where any scorer finds it.

    Args:
        vocab: number of tokens; comes from the tokenizer.
        width: of the residual stream; a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        length: most tokens it can read.
        optimizer: makes the optimizer from (name, parameter) pairs.
        schedule: makes the learning-rate schedule, stepped once a step.
        ema: decay of the average weights, 0 to 1.
    """

    def __init__(
        self,
        vocab: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        length: int = 128,
        optimizer: Callable[[Any], Optimizer] = lambda params: AdamW(params, lr=3e-3),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: LambdaLR(optimizer, lambda step: 1.0),
        ema: float = 0.99,
    ) -> None:
        super().__init__(optimizer, schedule, ema)
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} over {heads} heads must give an even whole number; use width {heads * 32}")
        config = LlamaConfig(
            vocab_size=vocab,
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=length,
            tie_word_embeddings=True,
            use_cache=False,
        )
        self.average(LlamaForCausalLM(config))

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean -log p(token | tokens before it) over text that has a token before it.

        Args:
            net: what is trained, or its average.
            batch: rows of ids, padded on the right.
        """
        logits = net(input_ids=batch.ids).logits[:, :-1]
        kept = batch.mask[:, 1:]
        nll = F.cross_entropy(logits[kept].float(), batch.ids[:, 1:][kept], reduction="sum")
        return {"loss": nll / kept.sum().clamp_min(1)}  # [kept, V] -> scalar; a batch of one-token rows gives 0

    def save_pretrained(self, folder: Path, tokenizer: Tokenizer) -> None:
        """Write average weights, config.json and tokenizer/ so that `scorer(folder)` reads them.

        Args:
            folder: made if it is missing.
            tokenizer: the one it was trained with.
        """
        cast(LlamaForCausalLM, self.twin).save_pretrained(folder)
        tokenizer.save(folder / "tokenizer")

    def on_fit_end(self) -> None:
        """Leave RUN/hf beside the run's other files; RUN is where checkpoints go."""
        trainer: Any = self.trainer
        run = next((c.run for c in trainer.checkpoint_callbacks if hasattr(c, "run")), trainer.default_root_dir)
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self.save_pretrained(Path(run) / "hf", trainer.datamodule.tokenizer)


def scorer(name: str | Path, **options: Any) -> Scorer:
    """A Scorer from a Hub name, a folder of `save_pretrained`, or the run folder of a fitted CausalLM.

    Args:
        name: gpt2-large, or a folder.
        options: of Scorer: length, dtype, rule, batch_size, device.
    """
    folder = Path(name) / "hf" if (Path(name) / "hf").is_dir() else Path(name)
    if not folder.is_dir():
        return Scorer(name, **options)
    own = folder / "tokenizer"
    return Scorer(folder, Tokenizer.load(own) if own.is_dir() else None, **options)
