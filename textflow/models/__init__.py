"""Lightning modules: generators, autoencoders, causal and discrete language models, and how they sample."""
