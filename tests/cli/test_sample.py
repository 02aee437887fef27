"""The file of `textflow sample` and its resumption."""

import json
from pathlib import Path
from typing import Any

import pytest

from textflow.cli.app import main
from textflow.cli.sample import count_written, open_locked, write_samples
from textflow.models.text_format import TextFormat
from textflow.samplers import Euler
from textflow.schedules import LogitNormal, Uniform

WEIGHTS = {"checkpoint_hash": "0123456789abcdef", "time_grid": {"class": "Uniform"}}
SETTINGS = {**WEIGHTS, "seed": 0, "steps": 4, "sampler": "Euler()", "self_cond_guidance": None, "length": None}


class NumberedTexts:
    """A model whose texts are numbered."""

    sampler, sampling_schedule, text_format = Euler(), Uniform(), TextFormat(seq_length=4)
    tokenizer, complete, default_steps = None, None, 32

    def generate(self, n: int, *rest: Any) -> list[str]:
        return [f"text {i}" for i in range(rest[-1], rest[-1] + n)]


def file(folder: Path, texts: list[str], tail: bytes = b"", **changed: object) -> Path:
    out = folder / "samples.jsonl"
    rows = [{"index": i, "text": text, **SETTINGS, **changed} for i, text in enumerate(texts)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    out.write_bytes(lines.encode() + tail)
    return out


def fails(out: Path, message: str, n: int = 4) -> None:
    """Require that `write_samples` raises an error and does not change the file."""
    before = out.read_bytes()
    with pytest.raises(ValueError, match=message) as results:
        write_samples(NumberedTexts(), [], n, SETTINGS, 2, out)
    assert "--out" in str(results.value) and out.read_bytes() == before


def test_a_missing_file_is_created_with_its_folder_and_dev_null_is_written(tmp_path: Path) -> None:
    out = tmp_path / "new" / "samples.jsonl"
    assert count_written(out, SETTINGS) == 0
    write_samples(NumberedTexts(), [], 3, SETTINGS, 2, out)
    assert count_written(out, SETTINGS) == 3 and [path.name for path in out.parent.iterdir()] == [out.name]
    write_samples(NumberedTexts(), [], 2, SETTINGS, 2, Path("/dev/null"))


def test_complete_lines_are_counted_and_only_a_new_line_ends_a_line(tmp_path: Path) -> None:
    out = file(tmp_path, ["one", "two\nlines", "three"])
    before = out.read_bytes()
    assert count_written(out, SETTINGS) == 3 and out.read_bytes() == before
    out = file(tmp_path, ["a\u2028b\u0085c\u2029d", "\r\x0b\x0c\x1c"])
    before = out.read_bytes()
    assert count_written(out, SETTINGS) == 2 and out.read_bytes() == before


def test_an_incomplete_last_line_is_removed(tmp_path: Path) -> None:
    tail = '{"index": 2, "text": "caf\u00e9'.encode()[:-1]
    undisturbed = file(tmp_path, ["one", "two"]).read_bytes()
    out = file(tmp_path, ["one", "two"], tail)
    assert count_written(out, SETTINGS) == 2 and out.read_bytes() == undisturbed


@pytest.mark.integration
def test_a_file_truncated_anywhere_is_resumed_to_the_same_texts(tmp_path: Path) -> None:
    undisturbed = file(tmp_path, [f"text {i}" for i in range(3)]).read_bytes()
    for size in range(len(undisturbed)):
        out = tmp_path / "samples.jsonl"
        out.write_bytes(undisturbed[:size])
        write_samples(NumberedTexts(), [], 3, SETTINGS, 2, out)
        assert out.read_bytes() == undisturbed, size


OTHERS: list[dict[str, Any]] = [
    *({"steps": 8}, {"seed": 1}, {"sampler": "Heun()"}, {"self_cond_guidance": 2.0}),
    *({"checkpoint_hash": "fedcba9876543210"}, {"checkpoint_hash": None}, {"time_grid": {"class": "LogitNormal"}}),
]


def test_texts_of_other_settings_or_weights_are_not_continued(tmp_path: Path) -> None:
    for changed in OTHERS:
        (key, value), out = next(iter(changed.items())), file(tmp_path, ["one"], **changed)
        fails(out, f"jsonl:1 was sampled with other settings .{key} .* -> .*another file")
        with pytest.raises(ValueError) as results:
            count_written(out, SETTINGS)
        assert f"{key} {value} -> {SETTINGS[key]}" in str(results.value)


FOREIGN = [
    *(b"hello\n", b"[1]\n", b'{"text": "no number"}\n', b'{"a": 1}\n', b"caf\xe9\n", b"\n"),
    *(b"one line without an end", b'{"a": 1}', b"[", b"\0\0", b'{"index": 1, "text": "of another place'),
]


@pytest.mark.parametrize("n", [0, 4])
@pytest.mark.parametrize("original", FOREIGN)
def test_a_file_of_another_kind_is_not_touched(tmp_path: Path, original: bytes, n: int) -> None:
    out = tmp_path / "precious.txt"
    out.write_bytes(original)
    fails(out, "is not a file of textflow samples; choose another file with --out", n)
    fails(file(tmp_path, ["one"], b"my own notes"), "is not a file of textflow samples")


def test_a_text_at_the_index_of_another_is_named(tmp_path: Path) -> None:
    out = file(tmp_path, ["one", "two", "three"])
    first, second, third = out.read_bytes().splitlines(keepends=True)
    for lines, message in (([first, third], "2 holds text 2 where text 1"), ([first, first, second], "2 holds text 0")):
        out.write_bytes(b"".join(lines))
        fails(out, f"jsonl:{message}.*two commands")


def test_two_commands_do_not_write_into_one_file(tmp_path: Path) -> None:
    out = file(tmp_path, ["text 0"])
    (tmp_path / "other.jsonl").symlink_to(out)
    with open_locked(out):
        fails(out, "another `textflow sample` is writing into")
        fails(tmp_path / "other.jsonl", "another `textflow sample` is writing into")
    write_samples(NumberedTexts(), [], 2, SETTINGS, 2, out)
    assert count_written(out, SETTINGS) == 2


def test_a_file_is_not_resumed_with_other_weights_or_times(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr("textflow.cli.sample.load_text_model", lambda *where: NumberedTexts())
    weights, out = tmp_path / "model.safetensors", tmp_path / "samples.jsonl"
    argv = ["sample", str(tmp_path), "--out", str(out), "-n"]
    weights.write_bytes(b"one")
    assert main([*argv, "1"]) == 0 and main([*argv, "2"]) == 0
    before = out.read_bytes()
    weights.write_bytes(b"another")
    assert main([*argv, "3"]) == 2 and "checkpoint_hash" in capsys.readouterr().err
    weights.write_bytes(b"one")
    monkeypatch.setattr(NumberedTexts, "sampling_schedule", LogitNormal())
    assert main([*argv, "3"]) == 2
    assert "time_grid {'class': 'Uniform', 't_min': 0.0, 't_max': 1.0} -> " in capsys.readouterr().err
    assert out.read_bytes() == before and before.count(b"\n") == 2
