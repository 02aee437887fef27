"""Published algorithms in their straightforward form: oracles for the tests and baselines for the benchmarks.

Cola-DLM's sampling without kept keys and values is `Blockwise(cache=False)`, and has no file here.
"""
