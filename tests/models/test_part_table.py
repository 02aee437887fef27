"""Every part with every system: it runs, or is refused in one line, and textflow/README.md says which."""

import pytest

from tests.helpers.part_table import every_part, outcome, table, written
from tests.helpers.systems import SYSTEMS, make
from textflow.discrete import DuoSampler, MDLMSampler
from textflow.distill import FlowMap
from textflow.schedules import DecodeError, Gumbel, LogitNormal, RandomGrid, Uniform

pytestmark = pytest.mark.integration
KINDS = list(dict.fromkeys(part.kind for part in every_part()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_part_runs_with_a_system_or_is_refused_in_one_line(system: str, kind: str) -> None:
    reasons = {part.name: outcome(part, system) for part in every_part() if part.kind == kind}
    assert [name for name, why in reasons.items() if "\n" in why or len(why) > 300] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_can_be_sampled_and_scored(system: str) -> None:
    assert [part.name for part in every_part() if part.kind == "metric" and outcome(part, system)] == []


def test_the_table_in_the_readme_is_what_was_found() -> None:
    assert written() == table(), "run: python -m tests.helpers.part_table"


def test_a_sampler_of_another_process_and_a_schedule_of_latents_are_refused() -> None:
    with pytest.raises(ValueError, match="MDLMSampler undoes the process Absorbing, but DuoObjective corrupts"):
        make("Duo", sampler=MDLMSampler())
    with pytest.raises(ValueError, match="DuoSampler undoes the process UniformProcess"):
        make("MDLM", sampler=DuoSampler())
    with pytest.raises(ValueError, match="DecodeError is measured on latents"):
        make("MDLM", sampling_schedule=DecodeError())


def test_a_schedule_of_other_times_than_the_paths_is_refused() -> None:
    with pytest.raises(
        ValueError, match="Gumbel draws log signal-to-noise ratios, but the path LinearPath runs from 0"
    ):
        make("ELF", sampling_schedule=Gumbel())
    with pytest.raises(ValueError, match=r"LogitNormal draws times in \[0, 1\], but the path VariancePreserving"):
        make("LangFlow", objective=FlowMap(time_schedule=LogitNormal()))
    with pytest.raises(ValueError, match="RandomGrid draws log signal-to-noise .* discrete diffusion model run from 0"):
        make("Duo", sampling_schedule=RandomGrid(Uniform(-5.0, 5.0)))
    make("LangFlow", sampling_schedule=RandomGrid(Uniform(-5.0, 5.0)))
