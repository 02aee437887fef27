"""Tokenizers: SentencePiece trained on the data, and those of the Hugging Face Hub."""
