"""CausalLM: an autoregressive transformer trained by next-token cross-entropy. It scores what others generate, and is
the baseline that writes token by token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler
from transformers import LlamaConfig, LlamaForCausalLM

from textflow.data import Tokenizer
from textflow.metrics import Scorer
from textflow.models.autoregressive import NextToken, remembered
from textflow.models.base import Trainable
from textflow.models.generation import write
from textflow.models.infilling import from_the_left, shown
from textflow.noise import Noise
from textflow.samplers import Sampler
from textflow.training.engines.gather import whole_state
from textflow.types import Batch, Ids, Logits, Mask


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
        sampler: how the next token is chosen.
    """

    def __init__(
        self,
        vocab: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        length: int = 128,
        optimizer: Callable[[Any], Optimizer] = lambda params: AdamW(params, lr=3e-3),
        schedule: Callable[[Optimizer], LRScheduler] = lambda optimizer: ConstantLR(optimizer, factor=1.0),
        ema: float = 0.99,
        sampler: NextToken = NextToken(),
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
        self.sampler = sampler

    @property
    def passes(self) -> int:
        """Network passes of a text, at most: one a token, whatever the steps that are asked for."""
        return min(self.length, self.room)

    @property
    def room(self) -> int:
        """Most tokens that it reads."""
        return int(cast(Any, self.twin).config.max_position_embeddings)

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean -log p(token | tokens before it) over text that has a token before it; of pairs over their targets.

        Args:
            net: what is trained, or its average.
            batch: rows of ids, padded on the right.
        """
        logits = net(input_ids=batch.ids).logits[:, :-1]
        kept = (batch.mask if batch.fixed is None else batch.mask & ~batch.fixed)[:, 1:]
        nll = F.cross_entropy(logits[kept].float(), batch.ids[:, 1:][kept], reduction="sum")
        total = kept.sum()
        return {"loss": nll / total.clamp_min(1), "tokens": total}  # [kept, V] -> scalar; one-token rows give 0

    def sample(self, seeds: list[int], sampler: NextToken | Sampler | None = None, length: int | None = None) -> Ids:
        """ids [B, L] after an EOS, one sample a seed; a text that has ended goes on with EOS.

        Args:
            seeds: one a sample.
            sampler: default: the recipe's.
            length: most tokens; default: the length of training.
        """
        nothing = torch.zeros(len(seeds), self.passes if length is None else length, dtype=torch.long)
        return self.complete(nothing, nothing > 0, seeds, sampler=sampler)

    @torch.no_grad()
    def complete(
        self,
        ids: Ids,
        fixed: Mask,
        seeds: list[int],
        steps: int | None = None,
        sampler: NextToken | Sampler | None = None,
        guidance: float | None = None,
        scale: float | None = None,
    ) -> Ids:
        """ids continued from what is given.

        Args:
            ids: rows of a sample's length.
            fixed: True on what is given, which comes first.
            seeds: one a row.
            steps: are not used: it takes a network pass a token.
            sampler: default: the recipe's.
            guidance: must be left out: nothing guides an autoregressive model.
            scale: must be left out, likewise.
        """
        self.eval()
        chosen, most, net = sampler or self.sampler, ids.shape[1], cast(Any, self.twin)
        if not isinstance(chosen, NextToken):
            raise ValueError(f"an autoregressive model samples by NextToken, not by {type(chosen).__name__}")
        if most > self.room:
            raise ValueError(f"length is {most}, but the model reads at most {self.room} tokens")
        if guidance is not None or scale is not None:
            raise ValueError("an autoregressive model has no guidance scale; leave it out")
        from_the_left(fixed)
        memory = remembered(net)

        def read(last: Ids) -> Logits:
            return net(last, use_cache=True, **memory).logits

        return chosen.sample(read, ids.to(self.device), fixed.to(self.device), self.tokenizer.eos, Noise(seeds))

    def generate(
        self,
        n: int = 1,
        steps: int | None = None,
        seed: int = 0,
        sampler: NextToken | Sampler | None = None,
        guidance: float | None = None,
        length: int | None = None,
        batch_size: int = 64,
        first: int = 0,
    ) -> list[str]:
        """Texts. Sample i depends on the weights, the sampler, seed and i alone.

        Args:
            n: number of texts.
            steps: are not used: it takes a network pass a token.
            seed: of the run.
            sampler: default: the recipe's.
            guidance: must be left out: nothing guides an autoregressive model.
            length: most tokens; default: the length of training.
            batch_size: texts at a time.
            first: number of the first sample.
        """
        if guidance is not None:
            raise ValueError(f"guidance is {guidance}, but an autoregressive model has no guidance scale; leave it out")
        return write(lambda seeds: self.sample(seeds, sampler, length), self.tokenizer, n, seed, batch_size, first)

    def sample_texts(self, n: int) -> list[str]:
        """Texts to look at during training."""
        return shown(self, n)

    def save_pretrained(self, folder: Path, tokenizer: Tokenizer, weights: dict[str, Tensor] | None = None) -> None:
        """Write average weights, config.json and tokenizer/ so that `scorer(folder)` reads them.

        Args:
            folder: made if it is missing.
            tokenizer: the one it was trained with.
            weights: of the average, whole; default: those that this process has.
        """
        plain = LlamaForCausalLM(cast(LlamaForCausalLM, self.twin).config)
        plain.load_state_dict(self.twin.state_dict() if weights is None else weights)
        plain.save_pretrained(folder)
        tokenizer.save(folder / "tokenizer")

    def on_fit_end(self) -> None:
        """Leave RUN/hf beside the run's other files; RUN is where checkpoints go."""
        trainer: Any = self.trainer
        run = next((c.run for c in trainer.checkpoint_callbacks if hasattr(c, "run")), trainer.default_root_dir)
        weights = whole_state(self.twin)  # on all ranks, which may each hold a part
        if trainer.is_global_zero and not trainer.fast_dev_run:
            self.save_pretrained(Path(run) / "hf", trainer.datamodule.tokenizer, weights)


def scorer(name: str | Path, **options: Any) -> Scorer:
    """A Scorer from a Hub name, a folder of `save_pretrained`, or the run folder of a fitted CausalLM.

    Args:
        name: gpt2-large, or a folder.
        options: of Scorer: length, dtype, counting, batch_size, device, revision.
    """
    folder = Path(name) / "hf" if (Path(name) / "hf").is_dir() else Path(name)
    if not folder.is_dir():
        return Scorer(name, **options)
    own = folder / "tokenizer"
    return Scorer(folder, Tokenizer.load(own) if own.is_dir() else None, **options)
