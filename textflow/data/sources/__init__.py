"""Where documents come from: files, the Hugging Face Hub, pairs and mixtures."""
