"""Every recipe parses and can be built; a user's slip is answered in one line that names what was meant."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from textflow.cli.app import main
from textflow.cli.recipes import read_title
from textflow.config import distillation, overlays, recipe
from textflow.data import DataModule
from textflow.models.base import Trainable

ROOT = Path(__file__).parents[2]
TREES = {str(p.relative_to(ROOT)): yaml.safe_load(p.read_text()) for p in sorted((ROOT / "recipes").rglob("*.yaml"))}
INNER = {str(Path(name).parent / tree["codec"]) for name, tree in TREES.items() if "codec" in tree}
STUDENTS = [name for name, tree in TREES.items() if "teacher" in tree]  # laid over a teacher's recipe
CHANGES = [name for name in TREES if Path(name).parent == Path("recipes/student")]  # laid over a student's
LAID = STUDENTS + CHANGES
WHOLE = [name for name in TREES if Path(name).parent == Path("recipes") and name not in [*INNER, *LAID]]
OVERLAYS = [name for name in TREES if name not in [*WHOLE, *INNER, *LAID]]
TINY = ["--data.tokenizer", "SentencePiece", "--data.tokenizer.vocab_size", "320"]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def built(config: Namespace) -> tuple[DataModule, Trainable]:
    """Data and model, without text and without memory."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    data = parser.instantiate(Namespace(data=config.data)).data
    with torch.device("meta"):
        return data, recipe.load_model(recipe.dump(config), data.vocab_size)[0]


def test_there_are_recipes_of_every_kind() -> None:
    assert {"recipes/quickstart.yaml", "recipes/elf_b.yaml", "recipes/scorer.yaml"} <= set(WHOLE)
    assert "recipes/quickstart_codec.yaml" in INNER and "recipes/hardware/cpu.yaml" in OVERLAYS


@pytest.mark.parametrize("name", TREES)
def test_a_recipe_starts_with_its_title(name: str) -> None:
    assert read_title(Path(name))


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_parses_and_can_be_built(name: str) -> None:
    config = recipe.load_recipe([name, *TINY])
    data, model = built(config)
    assert data.vocab_size == 320 and data.row_format.seq_length == config.data.seq_length
    assert type(model).__name__ == config.model.class_path.split(".")[-1]
    assert any({320, 321} & {*p.shape} for p in model.net.parameters()) and all(p.is_meta for p in model.parameters())
    assert config.run.folder == f"checkpoints/{Path(name).stem}"


@pytest.mark.parametrize("name", [name for name in WHOLE if "codec" in TREES[name]])
def test_the_codecs_recipe_of_a_recipe_can_be_built(name: str) -> None:
    config = recipe.load_recipe([name, *TINY])
    inner = recipe.codec_recipe(config, Path("elsewhere"))
    _, codec = built(inner)
    _, model = built(config)
    assert {k: v.shape for k, v in codec.net.state_dict().items()} == {
        k: v.shape for k, v in model.codec.state_dict().items()
    }
    assert inner.data == config.data and inner.run.folder == "elsewhere"


@pytest.mark.parametrize("base", ["recipes/quickstart.yaml"])
@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_changes_what_it_says_and_nothing_else(name: str, base: str) -> None:
    before, after = recipe.load_recipe([base]), recipe.load_recipe([base, name])
    flat = dict(overlays.flatten(yaml.safe_load(recipe.dump(after))))
    for key, value in overlays.flatten(TREES[name]):
        assert str(flat[key]).endswith(str(value)), key
    old = dict(overlays.flatten(yaml.safe_load(recipe.dump(before))))
    changed = {key for key in {*old, *flat} if old.get(key) != flat.get(key)}
    said = {key for key, _ in overlays.flatten(TREES[name])}
    assert all(any(key == one or key.startswith(f"{one}.") for one in said | parents(said)) for key in changed)


def test_graphs_meet_fixed_shapes() -> None:
    config = recipe.load_recipe(["recipes/elf_b.yaml", "recipes/speed/cuda_graphs.yaml"])
    inner = config.model.init_args
    assert (inner.net.init_args.compile_blocks, inner.objective.init_args.row_assignment) == ("graphs", "stratified")


@cache
def teachers(base: str) -> str:
    """The resolved recipe of a teacher."""
    return recipe.dump(recipe.load_recipe([base, *TINY]))


def student(name: str, folder: Path, *over: str) -> list[Namespace]:
    """The rounds of a student's recipe over its teacher's, which was not trained."""
    base = "recipes/elf_b.yaml" if "elf_b" in name else "recipes/quickstart.yaml"
    (folder / "recipe.yaml").write_text(teachers(base))
    return [
        own
        for *_, own in distillation.round_recipes(distillation.student_recipe([name, *over, "--teacher", str(folder)]))
    ]


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_recipe_can_be_built_over_its_teachers(name: str, tmp_path: Path) -> None:
    for own, (steps, substeps) in zip(student(name, tmp_path), TREES[name]["rounds"], strict=True):
        model: Any = built(own)[1]
        assert getattr(model.objective, "steps", steps) == steps
        assert getattr(model.objective.target, "substeps", substeps) == substeps
        assert own.run.folder.startswith(TREES[name]["run"]["folder"]) and own.run.wandb_group == Path(name).stem


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_students_says_what_it_changes(name: str, tmp_path: Path) -> None:
    plain, changed = (student("recipes/quickstart_pd.yaml", tmp_path, *over)[-1] for over in ([], [name]))
    flat = [dict(overlays.flatten(yaml.safe_load(recipe.dump(own)))) for own in (plain, changed)]
    for key, value in overlays.flatten(TREES[name]):
        assert key == "rounds" or str(flat[1].get(key)).endswith(str(value)), key  # what is null is not written
    said = {".".join(key.split(".")[:2]) for key, _ in overlays.flatten(TREES[name])} | {"model.objective"}
    differing = {key for key in {*flat[0], *flat[1]} if flat[0].get(key) != flat[1].get(key)}
    assert differing and {".".join(key.split(".")[:2]) for key in differing} <= said | {"rounds"}
    assert built(changed)


def parents(keys: set[str]) -> set[str]:
    """The parts that an overlay replaces: source and tokenizer bring their own arguments."""
    return {part for part in ("data.source", "data.tokenizer") if any(key.startswith(part) for key in keys)}


@pytest.mark.parametrize("name", WHOLE)
def test_a_saved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    text = recipe.dump(recipe.load_recipe([name, "--seed", "7"]))
    saved = tmp_path / "recipe.yaml"
    saved.write_text(text)
    assert recipe.dump(recipe.load_recipe([str(saved)])) == text
    assert overlays.differences(text, text) == [] and yaml.safe_load(text)["seed"] == 7


@pytest.mark.parametrize(
    ("words", "wrong", "meant"),
    [
        (["recipes/quickstar.yaml"], "recipes/quickstar.yaml", "recipes/quickstart.yaml"),
        (
            ["recipes/quickstart.yaml", "recipes/hardware/gpus.yaml"],
            "recipes/hardware/gpus.yaml",
            "recipes/hardware/gpu",
        ),
        (["recipes/quickstart.yaml", "--data.seq_lenght", "9"], "seq_lenght", "seq_length"),
        (["recipes/quickstart.yaml", "--model.net.widht", "9"], "widht", "width"),
        (["recipes/quickstart.yaml", "--trainer.max_step", "9"], "max_step", "max_steps"),
        (["recipes/quickstart.yaml", "--model.net", "ELV"], "ELV", "ELF"),
        (["recipes/quickstart.yaml", "--model.sampler", "Reinjekt"], "Reinjekt", "Reinject"),
        (["recipes/quickstart.yaml", "--data.tokenizer", "SentencePeace"], "SentencePeace", "SentencePiece"),
    ],
)
def test_a_slip_is_answered_in_one_line(
    words: list[str], wrong: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *words, "--print_config"]) == 2  # parses only: what slips through must not train
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    before, _, after = error.partition("did you mean ")
    assert wrong in before and meant in after, error


@pytest.mark.parametrize(
    ("text", "wrong", "meant"),
    [
        ("data: {seq_lenght: 9}", "seq_lenght", "seq_length"),
        ("dta: {seq_length: 9}", "dta", "data"),
        ("model: {init_args: {objective: {init_args: {decode_prb: 0.1}}}}", "decode_prb", "decode_prob"),
        ("model: {class_path: Generater}", "Generater", "Generator"),
    ],
)
def test_a_slip_in_a_file_is_answered_in_one_line(
    text: str, wrong: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(text)
    assert main(["fit", "recipes/quickstart.yaml", str(overlay), "--print_config"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    before, _, after = error.partition("did you mean ")
    assert wrong in before and meant in after, error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["recipes/quickstart.yaml", "recipes/sampler/reinject.yaml", "--model.sampler.form", "papr"],
            "did you mean 'paper'?",
        ),
        (["recipes/quickstart.yaml", "--data.split", "trian"], "did you mean 'train'?"),
        (["recipes/quickstart.yaml", "--data.seq_length", "long"], "data.seq_length is 'long', needs int"),
        (["recipes/quickstart_codec.yaml"], "model needs codec, which the recipe does not give"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_needed(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
