"""Published algorithms in their straightforward form: oracles for the tests and baselines for the benchmarks."""
