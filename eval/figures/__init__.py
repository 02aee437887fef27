"""Figures, one module each; matplotlib is imported on demand.

A module that `textflow reproduce` draws has `CAPTION`, `compute(num_texts, seed, inputs)` for its numbers (number of
texts per measurement; random seed for oracle tasks, texts and noise; trained generators to add to the oracle tasks) and
`draw(results, path, caption)` to draw them.
"""
