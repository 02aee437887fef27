"""Models that textflow measures and does not train, and the weights and texts that packages carry."""
