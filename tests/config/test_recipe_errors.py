"""A mistake in a recipe or on the command line is explained in one line that names the value that was meant."""

import io
from pathlib import Path

import pytest

from textflow.cli.app import main
from textflow.config import recipe

pytestmark = pytest.mark.integration

SMALL = "recipes/small/elf.yaml"


@pytest.fixture(autouse=True)
def repository_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


def error_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The error of a refused command, one line; only parsed: an accepted command must not train."""
    assert main(["fit", *arguments, "--print_config"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("arguments", "wrong", "meant"),
    [
        (["recipes/quickstar.yaml"], "recipes/quickstar.yaml", "recipes/quickstart.yaml"),
        ([SMALL, "recipes/hardware/gpus.yaml"], "recipes/hardware/gpus.yaml", "recipes/hardware/gpu"),
        ([SMALL, "--data.seq_lenght", "9"], "seq_lenght", "seq_length"),
        ([SMALL, "--model.net.widht", "9"], "widht", "width"),
        ([SMALL, "--trainer.max_step", "9"], "max_step", "max_steps"),
        ([SMALL, "--model.net", "ELV"], "ELV", "ELF"),
        ([SMALL, "--model.sampler", "Reinjekt"], "Reinjekt", "Reinject"),
        ([SMALL, "--data.tokenizer", "SentencePeace"], "SentencePeace", "SentencePiece"),
        ("data: {seq_lenght: 9}", "seq_lenght", "seq_length"),
        ("dta: {seq_length: 9}", "dta", "data"),
        ("model: {init_args: {objective: {init_args: {decode_prb: 0.1}}}}", "decode_prb", "decode_prob"),
        ("model: {class_path: Generater}", "Generater", "Generator"),
    ],
)
def test_a_misspelt_name_is_explained_in_one_line(
    arguments: list[str] | str, wrong: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if isinstance(arguments, str):  # the text of an overlay
        (tmp_path / "mine.yaml").write_text(arguments)
        arguments = [SMALL, str(tmp_path / "mine.yaml")]
    before, _, after = error_line(arguments, capsys).partition("did you mean ")
    assert wrong in before and meant in after


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([SMALL, "recipes/sampler/reinject.yaml", "--model.sampler.form", "papr"], "did you mean 'paper'?"),
        ([SMALL, "--data.split", "trian"], "did you mean 'train'?"),
        ([SMALL, "--data.seq_length", "long"], "data.seq_length is 'long', needs int"),
        (["recipes/small/elf_codec.yaml"], "model needs codec, which the recipe does not give"),
    ],
)
def test_a_wrong_value_is_named_with_the_values_allowed(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in error_line(arguments, capsys)


def test_a_file_in_place_of_a_section_is_answered_with_the_key_that_takes_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = error_line([SMALL, "--data", "mine.txt"], capsys)
    assert "data is 'mine.txt', needs keys and values" in error and "--data.files mine.txt" in error
    error = error_line([SMALL, "--trainer", "mine.txt"], capsys)
    assert "trainer is 'mine.txt'" in error and "--trainer.KEY VALUE" in error and "files" not in error
    error = error_line([SMALL, "--model.net", "mine.txt"], capsys)
    assert "model.net is 'mine.txt', needs a class" in error


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--max_steps", "5"], "unknown key or class 'max_steps'; did you mean 'trainer.max_steps'?"),
        (["--batch_size", "5"], "did you mean 'data.batch_size'?"),
        (["--model.width", "5"], "width is an argument of Autoregressor, CausalLM"),
        (["--model.sampler", "Commit"], "Commit"),
    ],
)
def test_a_known_name_in_a_wrong_place_is_answered_with_its_place(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_line([SMALL, *arguments], capsys)
    assert expected in error
    assert all(f"did you mean '{word.lstrip('-')}'?" not in error for word in arguments)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("trainer: {trainer.max_steps: 5}", "write it at the top of the file, or 'max_steps' below 'trainer'"),
        ("data: {run.folder: x}", "write it at the top of the file, or 'folder' below 'run'"),
        ("run: {seed: 3}", "'seed' is the full name of a key: write it at the top of the file"),
    ],
)
def test_a_full_name_below_a_section_is_answered_with_its_place(
    text: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    error = error_line([SMALL, str(tmp_path / "mine.yaml")], capsys)
    assert place in error and "did you mean" not in error


@pytest.mark.parametrize("text", ["", "# a title alone\n", "---\n"])
def test_an_empty_recipe_is_named(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    assert f"{tmp_path}/mine.yaml is empty; a recipe needs keys" in error_line([str(tmp_path / "mine.yaml")], capsys)


def test_a_recipe_is_read_as_utf8_in_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
    (tmp_path / "mine.yaml").write_text("# caf\u00e9\nseed: 5\n", encoding="utf-8")
    assert recipe.parse([SMALL, str(tmp_path / "mine.yaml")]).seed == 5
