"""Output of commands: closed pipes, bytes that are not UTF-8, other locales, names with spaces, wrong seeds."""

import ast
import io
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from tests.helpers.user_errors import Fails
from textflow.cli import fit, recipes
from textflow.cli.app import CLOSED_PIPE, main
from textflow.data import Document, TextFiles
from textflow.runtime.signals import STOP_SIGNALS

ROOT = Path(__file__).parents[2]


@pytest.fixture
def closed_pipe() -> Iterator[io.TextIOWrapper]:
    """A stream whose reader is gone, as of `textflow ... | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        yield stream


@pytest.mark.parametrize("argv", [["--help"], ["recipes"], ["sample", "--help"], ["fit", "--help"], ["nonsense"]])
def test_a_command_whose_output_has_no_reader_ends_quietly(
    argv: list[str],
    closed_pipe: io.TextIOWrapper,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stderr" if argv == ["nonsense"] else "stdout", closed_pipe)
    assert main(argv) == CLOSED_PIPE
    closed_pipe.flush()  # as Python does at its end
    assert "".join(capfd.readouterr()) == ""


def test_a_command_whose_output_was_closed_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stdout", "stderr"):  # as Python has them under `>&- 2>&-`
        monkeypatch.setattr(sys, name, None)
    assert (main(["recipes"]), main(["nonsense"])) == (0, 2)
    assert sys.stdout.name == sys.stderr.name == os.devnull


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("argv", [["recipes"], ["fit", "--help"], ["sample", "--help"], ["bench", "--help"]])
def test_an_output_on_a_full_disk_is_one_line(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for buffer in (1, 1 << 20):  # an error of the first line, and of the end
        with open("/dev/full", "w", buffer, encoding="utf-8") as full:
            monkeypatch.setattr(sys, "stdout", full)
            assert main(argv) == 2
            assert capsys.readouterr().err == (
                "textflow: cannot write the output: No space left on device; send it to another place\n"
            )


def test_another_broken_pipe_is_reported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**options: object) -> None:
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr(recipes, "recipes", fail)
    assert main(["recipes"]) == 1 and capsys.readouterr().err == "textflow: a worker is gone\n"


@pytest.mark.parametrize(
    "argv",
    [
        ["sample", "run", "--prompt", "caf\udce9"],
        ["sample", "run", "--infill", "\udcff [MASK:2]"],
        ["eval", "caf\udce9.txt"],
        ["fit", "caf\udce9.yaml"],
        ["fit", "quickstart", "--data.files", "caf\udce9.txt"],
        ["caf\udce9"],
    ],
)
def test_bytes_that_are_not_utf8_are_named_in_one_line(argv: list[str], fails: Fails) -> None:
    fails(argv, "is not UTF-8; give it in UTF-8", "\\x")


def test_utf8_in_an_argument_of_another_locale_names_the_setting(monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    fails(["sample", "run", "--prompt", os.fsencode("caf\u00e9").decode("ascii", "surrogateescape")], "PYTHONUTF8=1")


def test_text_that_a_terminal_cannot_show_ends_no_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("# caf\u00e9 \u2192\n", encoding="utf-8")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    assert main(["recipes", "--folder", str(tmp_path)]) == 0
    assert "caf\\xe9 \\u2192" in shown.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.mark.integration
def test_a_fit_in_a_locale_without_utf8_prints_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "text_encoding", lambda encoding, stacklevel=2: encoding or "ascii")
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "step-00000001.txt").write_text("[1] caf\u00e9\n", encoding="utf-8")
    shown = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", shown)
    fit.print_summary(tmp_path)
    shown.flush()
    assert "caf\u00e9" in shown.buffer.getvalue().decode()  # type: ignore[attr-defined]


def test_every_open_of_text_names_its_encoding() -> None:
    calls = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for folder in ("textflow", "cli", "eval")
        for path in (ROOT / folder).rglob("*.py")
        if not path.parent.is_symlink()
        if any(word in (text := path.read_text(encoding="utf-8")) for word in ("open(", "read_text(", "write_text("))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and opens_text(node)
    ]
    assert calls == []


def opens_text(call: ast.Call) -> bool:
    """True for a call of open, read_text or write_text without an encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    owner = getattr(getattr(call.func, "value", None), "id", "")
    modes = [part.value for part in call.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    if name == "open" and owner in ("os", "inner", "zip", "archive", "Image"):
        return False
    return name in ("read_text", "write_text") or (name == "open" and not any("b" in mode for mode in modes))


@pytest.mark.parametrize("verb", [["sample", "run"], ["eval", "run"], ["diagnose", "run"], ["reproduce", "fig5"]])
def test_a_negative_seed_is_named(verb: list[str], fails: Fails) -> None:
    fails([*verb, "--seed", "-1"], "--seed is -1; at least 0 is needed")


def test_a_negative_seed_of_a_recipe_is_named(fails: Fails) -> None:
    fails(["fit", "quickstart", "--seed", "-1"], "seed is -1, needs a whole number from 0")


def test_a_suggested_command_quotes_a_name_with_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "my run"
    (run / "samples").mkdir(parents=True)
    (run / "samples" / "step-00000001.txt").write_text("[1] a\n")
    fit.print_summary(run)
    assert f"textflow sample '{run}' -n 16    Score: textflow eval '{run}'\n" in capsys.readouterr().out


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_that_announces_the_end_of_a_job_ends_a_command_quietly(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recipes, "recipes", lambda: signal.raise_signal(number))
    assert main(["recipes"]) == 128 + number and capsys.readouterr().err == ""
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_command_runs_on_after_a_signal_that_it_ignores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipes, "recipes", lambda: signal.raise_signal(signal.SIGHUP))
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        assert main(["recipes"]) == 0
    finally:
        signal.signal(signal.SIGHUP, previous)


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_a_fit_that_tokenises(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object, **options: object) -> Iterator[Document]:
        signal.raise_signal(number)
        yield Document("a", "b")

    monkeypatch.setattr(TextFiles, "documents", stop)
    assert main(["fit", str(write_recipe(tmp_path)), "--codec", "null"]) == 128 + number
