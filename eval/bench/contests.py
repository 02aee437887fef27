"""Benchmarks by name; each module is imported on demand, since some need more than torch."""

from importlib import import_module

from .benchmark import Benchmark
from .sizes import BenchConfig

BENCHMARKS = {
    "step": "LossStepBenchmark",
    "train": "TrainStepBenchmark",
    "distill": "DistillationBenchmark",
    "optimizer": "OptimizerBenchmark",
    "sample": "SamplingBenchmark",
    "decode": "DecodingBenchmark",
    "dataloader": "DataLoaderBenchmark",
}
MODULES = {
    "decode": "sample",
    "distill": "pd",
    "optimizer": "optim",
    "dataloader": "data",
}  # modules whose name differs from the benchmark's


def make_benchmark(name: str, config: BenchConfig) -> Benchmark:
    """Benchmark with the given name.

    Args:
        name: one of BENCHMARKS.
        config: size, device, precision.
    """
    module = import_module(f".{MODULES.get(name, name)}", __package__)
    return getattr(module, BENCHMARKS[name])(config)
