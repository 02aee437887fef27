"""Document sources: files, the Hugging Face Hub, pairs and mixtures."""
