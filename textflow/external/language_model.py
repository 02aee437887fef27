"""Causal and masked language models of transformers, loaded to be measured."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from textflow.metrics.pretrained import find_gguf
from textflow.runtime.atomic import describe_error
from textflow.types import Ids, Latents, Logits

Kind: TypeAlias = Literal["causal", "masked"]
TokenIds: TypeAlias = Int[Tensor, " L"]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model with its tokenizer, in eval mode and float32.

    Args:
        name: Hub name or folder.
        model: model that gives a token's logits from the text before it (causal) or around it (masked).
        tokenizer: its tokenizer.
        kind: causal or masked.
    """

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind

    @property
    def head(self) -> nn.Module:
        """Last layer, which maps the final hidden state to logits."""
        head: nn.Module = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        return head

    @property
    def mask_id(self) -> int:
        """Id of the mask."""
        own = self.tokenizer.mask_token_id
        return int(self.model.config.mask_token_id if own is None else own)

    def encode(self, texts: list[str], length: int) -> list[TokenIds]:
        """Ids of each text with the special tokens that the model expects, at most `length` and at most its context.

        Raises:
            ValueError: for ids that the model has no embedding for, those of another vocabulary.
        """
        length = min(length, getattr(self.model.config, "max_position_embeddings", None) or length)
        rows = [self.add_bos(row)[:length] for row in self.tokenizer(texts, verbose=False)["input_ids"]]
        highest, known = max((max(row) for row in rows if row), default=0), int(self.model.config.vocab_size)
        if highest >= known:
            raise ValueError(
                f"the tokenizer of {self.name} gives the token {highest}, but its model has {known} tokens: it"
                " belongs to another vocabulary; copy the model's own tokenizer into the folder"
            )
        return [torch.tensor(row, device=self.model.device) for row in rows]

    def add_bos(self, row: list[int]) -> list[int]:
        """Ids after a beginning-of-text token, for a causal model that has one."""
        bos = self.tokenizer.bos_token_id
        return row if self.kind == "masked" or bos is None or row[:1] == [bos] else [bos, *row]

    def is_text(self, ids: TokenIds) -> Tensor:
        """True on tokens that are not special ones, [L]."""
        special = torch.tensor(self.tokenizer.all_special_ids, device=ids.device)
        return ~torch.isin(ids, special)

    def states(self, ids: Ids) -> tuple[Latents, Logits]:
        """Final hidden states, the input of the last layer, and logits of rows of one length."""
        return final_states(self.model, ids)


@torch.no_grad()
def final_states(model: PreTrainedModel, ids: Ids) -> tuple[Latents, Logits]:
    """Final hidden states of a model of transformers, the input of its last layer, and logits."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    with recorded_input(head) as inputs:
        logits: Logits = model(input_ids=ids).logits
    return inputs[0], logits


@contextmanager
def recorded_input(layer: nn.Module) -> Iterator[list[Latents]]:
    """The inputs of a layer during the calls inside."""
    inputs: list[Latents] = []
    handle = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        yield inputs
    finally:
        handle.remove()


def load_language_model(name: str, device: torch.device | str = "cpu", trusts_code: bool = False) -> LanguageModel:
    """Load a causal or masked language model.

    Args:
        name: Hub name, folder of `save_pretrained`, or folder with one GGUF file.
        device: torch device.
        trusts_code: run the repository's own code, for models that are not part of transformers.
    """
    refuse_image_model(name)
    gguf = find_gguf(name)
    place, options = (name, dict[str, Any]()) if gguf is None else (str(gguf.parent), {"gguf_file": gguf.name})
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=trusts_code, **options)
        kind, auto_class = find_kind(config)
        model = auto_class.from_pretrained(place, dtype=torch.float32, trust_remote_code=trusts_code, **options)
        tokenizer = AutoTokenizer.from_pretrained(place, trust_remote_code=trusts_code, **options)
        return LanguageModel(name, model.to(device).eval(), tokenizer, kind)
    except WrongKindError as error:
        raise ValueError(f"{name} {error}") from error
    except Exception as error:  # damaged files raise many error types
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{name} needs code of its repository, which would be run; if you trust it, set TEXTFLOW_TRUST={name}"
            ) from error
        advice = "give a Hub name such as gpt2, a folder of save_pretrained, or one of a GGUF file (such as"
        advice += " checkpoints/smollm2 after textflow fetch smollm2)"
        if gguf is not None:
            advice = f"{gguf.name} needs pip install 'textflow[gguf]', and to be whole"
        raise ValueError(f"no language model at {name}: {describe_error(error)}; {advice}") from error


class WrongKindError(ValueError):
    """The configuration is that of another kind of model."""


def find_kind(config: PretrainedConfig) -> tuple[Kind, Any]:
    """Kind of a configuration, and the class of transformers that loads it."""
    names = " ".join(config.architectures or [])
    if "MaskedLM" in names:
        return "masked", AutoModelForMaskedLM
    if getattr(config, "auto_map", None) and getattr(config, "mask_token_id", None) is not None:
        return "masked", AutoModel  # masked diffusion by a repository's own code, such as LLaDA
    is_causal = not names or any(word in names for word in ("CausalLM", "LMHead"))
    if is_causal and config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return "causal", AutoModelForCausalLM
    raise WrongKindError(
        f"holds a {names or config.model_type}, which predicts no tokens; give a ...ForCausalLM or one"
        " of ...ForMaskedLM"
    )


def refuse_image_model(name: str) -> None:
    """Raise a ValueError for a folder of diffusers, which holds an image model."""
    config = Path(name) / "config.json"
    if config.is_file():
        try:
            kind = json.loads(config.read_text(encoding="utf-8")).get("_class_name")
        except (ValueError, AttributeError):
            return  # from_pretrained reports it
        if kind:
            raise ValueError(f"{name} holds a {kind} of diffusers, which reads images and no text; give image:{name}")
