"""Measurements of each system: `textflow bench WHAT --system NAME`."""

from typing import NamedTuple


class Entry(NamedTuple):
    """One benchmark of a system.

    Args:
        benchmark: module in this folder and class.
        size: fields of the size that the system sets, and their values.
    """

    benchmark: str
    size: dict[str, int] = {}


FLM = {"vocab": 50_258, "length": 256}
SYSTEMS: dict[str, dict[str, Entry]] = {
    "elf": {
        "step": Entry("step.LossStepBenchmark"),
        "train": Entry("train.TrainStepBenchmark"),
        "distill": Entry("distill.DistillationBenchmark"),
        "optimizer": Entry("optimizer.OptimizerBenchmark"),
        "sample": Entry("sample.SamplingBenchmark"),
        "decode": Entry("sample.DecodingBenchmark"),
        "dataloader": Entry("dataloader.DataLoaderBenchmark"),
    },
    "flm": {"step": Entry("flm.FLMStepBenchmark", FLM), "sample": Entry("flm.FLMSamplingBenchmark", FLM)},
    "langflow": {
        "step": Entry("langflow.LangFlowStepBenchmark", FLM | {"rows": 10}),
        "sample": Entry("langflow.LangFlowSamplingBenchmark", FLM | {"rows": 5}),
    },
    "cola": {"sample": Entry("cola.ColaSamplingBenchmark", {"length": 1024, "rows": 2, "dim": 16})},
    "mdlm": {"step": Entry("mdlm.MDLMStepBenchmark", FLM)},
    "duo": {"step": Entry("duo.DuoStepBenchmark", FLM | {"rows": 4})},
}
BENCHMARKS: dict[str, Entry] = {
    what if system == "elf" else f"{system}_{what}": entry
    for system, entries in SYSTEMS.items()
    for what, entry in entries.items()
}


def find_benchmark(system: str, what: str) -> str:
    """Name in BENCHMARKS of what is measured of a system."""
    if what not in SYSTEMS[system]:
        raise ValueError(f"bench {what} does not measure {system}; for {system} there is {', '.join(SYSTEMS[system])}")
    return what if system == "elf" else f"{system}_{what}"
