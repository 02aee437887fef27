"""CausalLM: an autoregressive transformer, the scorer of generated texts and the autoregressive baseline."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ConstantLR

from textflow.data import Tokenizer
from textflow.metrics import Scorer
from textflow.models.autoregressive import Autoregressive, empty_kv_cache
from textflow.models.base import LRSchedulerFn, OptimizerFn
from textflow.models.generation import TextGenerator, refuse_guidance
from textflow.models.infilling import require_prefix_prompt
from textflow.noise import Noise
from textflow.runtime.distributed import rank_and_world_size
from textflow.samplers import Sampler
from textflow.training.engines.gather import full_state_dict
from textflow.types import Batch, Ids, Logits, Mask

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM


class CausalLM(TextGenerator):
    """Llama-shaped causal language model with tied embeddings; fit writes it to RUN/hf, which any scorer can load.

    Args:
        vocab_size: number of tokens; comes from the tokenizer.
        width: width of the residual stream, an even multiple of `heads`.
        depth: number of blocks.
        heads: number of attention heads.
        max_length: most tokens of its context.
        optimizer: makes the optimizer from (name, parameter) pairs.
        lr_scheduler: makes the learning-rate schedule, stepped after every optimizer step.
        ema_decay: decay of the moving average, in [0, 1).
        sampler: sampling rule of the next token.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        max_length: int = 128,
        optimizer: OptimizerFn = lambda params: AdamW(params, lr=3e-3),
        lr_scheduler: LRSchedulerFn = lambda optimizer: ConstantLR(optimizer, factor=1.0),
        ema_decay: float = 0.99,
        sampler: Autoregressive = Autoregressive(),
    ) -> None:
        super().__init__(optimizer, lr_scheduler, ema_decay)
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} over {heads} heads must give an even whole number; use width {heads * 32}")
        from transformers import LlamaConfig, LlamaForCausalLM  # for this model alone; the import is slow

        config = LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            intermediate_size=8 * width // 3,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=max_length,
            tie_word_embeddings=True,
            use_cache=False,
        )
        self.set_net(LlamaForCausalLM(config))
        self.sampler = sampler

    @property
    def max_calls(self) -> int:
        """Most network passes of a text: one a token, for any number of steps."""
        return min(self.text_format.seq_length, self.max_length)

    @property
    def max_length(self) -> int:
        """Most tokens of its context."""
        return int(cast("LlamaForCausalLM", self.ema_net).config.max_position_embeddings)

    def losses(self, net: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Mean -log p(token | tokens before it) over text, for pairs over the targets. Where each row is a text from
        its start, the first token is predicted from EOS, as in sampling; where texts are packed it is left out.

        Args:
            net: the net or its moving average.
            batch: token ids, padded on the right, and masks.
        """
        inputs, targets, valid = batch.ids, batch.ids[:, 1:], batch.loss_mask()[:, 1:]
        if not self.text_format.packed:
            inputs = F.pad(batch.ids[:, :-1], (1, 0), value=self.tokenizer.eos)
            targets, valid = batch.ids, batch.loss_mask()
        logits = net(input_ids=inputs).logits[:, : targets.shape[1]]
        nll = F.cross_entropy(logits[valid].float(), targets[valid], reduction="sum")
        total = valid.sum()
        return {"loss": nll / total.clamp_min(1), "tokens": total}  # [valid, V] -> scalar; one-token rows give 0

    def sample(
        self, seeds: list[int], sampler: Autoregressive | Sampler | None = None, length: int | None = None
    ) -> Ids:
        """Token ids [B, L] that follow an EOS, one sample per seed; finished texts are padded with EOS.

        Args:
            seeds: random seeds, one a sample.
            sampler: sampling rule; default: the recipe's.
            length: most tokens of a text; default: that of training.
        """
        empty = torch.zeros(len(seeds), self.max_calls if length is None else length, dtype=torch.long)
        return self.complete(empty, empty > 0, seeds, sampler=sampler)

    def sample_ids(
        self, seeds: list[int], num_steps: int, self_cond_guidance: float | None = None, **options: Any
    ) -> Ids:
        refuse_guidance("an autoregressive model", self_cond_guidance)
        return self.sample(seeds, **options)

    @torch.no_grad()
    def complete(
        self,
        ids: Ids,
        prompt_mask: Mask,
        seeds: list[int],
        num_steps: int = 32,
        sampler: Autoregressive | Sampler | None = None,
        self_cond_guidance: float | None = None,
        cfg_scale: float | None = None,
    ) -> Ids:
        """Token ids [B, L] that continue prompts, which come first in their rows.

        Args:
            num_steps: unused, since each token takes one network pass.
            self_cond_guidance: must be None: an autoregressive model has no guidance scale.
            cfg_scale: must be None: the model has no guidance.

        The other arguments are those of `TextGenerator.complete` and `sample`.
        """
        self.eval()
        sampler, length = sampler or self.sampler, ids.shape[1]
        if not isinstance(sampler, Autoregressive):
            raise ValueError(f"an autoregressive model samples by Autoregressive, not by {type(sampler).__name__}")
        if length > self.max_length:
            raise ValueError(f"length is {length}, but the model's context has at most {self.max_length} tokens")
        refuse_guidance("an autoregressive model", self_cond_guidance, cfg_scale)
        require_prefix_prompt(prompt_mask)
        cache = empty_kv_cache(self.ema_net)

        def next_logits(last: Ids) -> Logits:
            return self.ema_net(last, use_cache=True, **cache).logits

        ids, prompt_mask = ids.to(self.device), prompt_mask.to(self.device)
        return sampler.sample(next_logits, ids, prompt_mask, self.tokenizer.eos, Noise(seeds))

    def save_pretrained(self, folder: Path, tokenizer: Tokenizer, weights: dict[str, Tensor] | None = None) -> None:
        """Write config.json, tokenizer/ and the averaged weights (default: those of this process) into a folder, which
        `load_scorer(folder)` loads."""
        from transformers import LlamaForCausalLM

        plain = LlamaForCausalLM(cast(LlamaForCausalLM, self.ema_net).config)
        plain.load_state_dict(self.ema_net.state_dict() if weights is None else weights)
        plain.save_pretrained(folder)
        tokenizer.save(folder / "tokenizer")

    def on_fit_end(self, run: Path) -> None:
        """Write RUN/hf."""
        weights = full_state_dict(self.ema_net)  # called on all ranks, since each may hold a shard
        if rank_and_world_size()[0] == 0 and self.data is not None:
            self.save_pretrained(run / "hf", self.data.tokenizer, weights)


def load_scorer(name: str | Path, **options: Any) -> Scorer:
    """A Scorer from a Hub name, a folder of `save_pretrained`, or the run folder of a fitted CausalLM.

    Args:
        name: name on the Hub, such as gpt2-large, or a folder.
        options: further arguments of Scorer.
    """
    folder = Path(name) / "hf" if (Path(name) / "hf").is_dir() else Path(name)
    if not folder.is_dir():
        return Scorer(name, **options)
    own = folder / "tokenizer"
    return Scorer(folder, Tokenizer.load(own) if own.is_dir() else None, **options)
