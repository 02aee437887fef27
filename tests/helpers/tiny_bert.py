"""A tiny random BERT with a word tokenizer, in a folder."""

from pathlib import Path

import torch
from transformers import BertConfig, BertTokenizer, PreTrainedModel

from tests.helpers.tiny_scorer import TEXT


def save_bert(folder: Path, kind: type[PreTrainedModel], length: int) -> Path:
    """Save a BERT of texts of up to `length` tokens: BertModel, or with a head BertForMaskedLM."""
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *TEXT.lower().split()]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    kind(BertConfig(vocab_size=len(words), max_position_embeddings=length, **sizes)).save_pretrained(folder)
    return folder
