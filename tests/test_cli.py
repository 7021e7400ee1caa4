"""The command line as its user meets it: quick help, one clear error per mistake, exit statuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnlab import cli

TINY = [
    *("--steps", "6", "--seeds", "2", "--batch-size", "2", "--snapshots", "3"),
    *("--task.length", "8", "--model.width", "8"),
]


def attnlab(*arguments: str) -> int:
    """The exit status of `attnlab ...`."""
    try:
        return cli.main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def test_help_and_list_load_no_jax():
    code = """
import sys
from attnlab import cli
try:
    cli.main(sys.argv[1:])
except SystemExit:
    pass
print("jax" in sys.modules)
"""
    for arguments in (["--help"], ["list"], ["reproduce", "--help"], ["sweep", "--help"], ["list", "active-dormant"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith("False"), arguments


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    assert attnlab("run", *TINY, "--path", str(path)) == 0
    return path


def test_a_run_can_be_opened_verified_reported_and_resumed(trained: Path, capsys: pytest.CaptureFixture[str]):
    for command in ("open", "verify", "report", "resume"):
        assert attnlab(command, str(trained)) == 0, command
    assert "params" in capsys.readouterr().out
    page = (trained / "report.html").read_text()
    assert "<canvas" in page or "canvas" in page
    assert "KQ, layer 0, head 0" in page


def test_an_existing_run_is_never_overwritten(trained: Path, capsys: pytest.CaptureFixture[str]):
    before = {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()}
    assert attnlab("run", *TINY, "--path", str(trained)) == 2
    assert "exists" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in trained.rglob("*") if p.is_file()} == before


def test_a_flipped_byte_and_a_truncated_manifest_are_named(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    chunk = max((p for p in (copy / "trajectory.zarr").rglob("c*") if p.is_file()), key=lambda p: p.stat().st_size)
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    assert attnlab("verify", str(copy)) == 1
    assert chunk.name in capsys.readouterr().out
    manifest = copy / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    for command in ("open", "resume", "report"):
        assert attnlab(command, str(copy)) == 2, command
        assert "manifest.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model.width", "-4"], "width"),
        (["--model.mechanism", "softmux"], "softmux"),
        (["--task.triggers", "§"], "§"),
        (["--task.length", "0"], "length"),
        (["--optimizer.name", "sdg"], "sdg"),
        (["--seeds", "0"], "seeds"),
        (["--steps", "0"], "steps"),
        (["--snapshots", "1"], "snapshots"),
    ],
)
def test_bad_settings_are_one_clear_error(arguments, told, tmp_path, capsys):
    path = tmp_path / "run"
    given = [*TINY]
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        given = [*given[: given.index(name)], *given[given.index(name) + 2 :]] if name in given else given
        given += [name, value]
    assert attnlab("run", *given, "--path", str(path)) == 2
    message = capsys.readouterr().err
    assert told in message and message.count("\n") <= 2 and "Traceback" not in message
    assert not path.exists()


def test_config_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "settings.json"
    for settings, told in (({"stepz": 3}, "stepz"), ({"model": {"widht": 8}}, "width"), ([1], "object")):
        file.write_text(json.dumps(settings))
        assert attnlab("run", *TINY, "--config", str(file), "--path", str(tmp_path / "run")) == 2
        assert told in capsys.readouterr().err
    file.write_text("{")
    assert attnlab("run", "--config", str(file)) == 2
    assert "JSON" in capsys.readouterr().err


def test_a_corpus_of_one_character(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a")
    assert attnlab("run", *TINY, "--task.text", str(corpus), "--path", str(tmp_path / "run")) == 2
    assert "corpus" in capsys.readouterr().err or "character" in capsys.readouterr().err
    assert attnlab("run", *TINY, "--task.text", str(tmp_path / "none.txt")) == 2
    assert "none.txt" in capsys.readouterr().err


def test_unknown_names(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    for arguments, told in (
        (["reproduce", "active-dormat"], "active-dormant"),
        (["reproduce", "active-dormant", "--preset", "huge"], "laptop"),
        (["reproduce", "active-dormant", "--precision", "half"], "full | bfloat16 | highest"),
        (["compare", "--task", "mqar", "--mechanisms", "softmax", "--precision", "half"], "full | bfloat16 | highest"),
        (["run", "--precision", "half"], "full | bfloat16 | highest"),
        (["reproduce", "active-dormant", "--only", "B7"], "A16.backcopy"),
        (["reproduce", "active-dormant", "--expect", "A16.backcopy"], "ID=LO:HI"),
        (["reproduce", "active-dormant", "--expect", "A99=0:1"], "A99"),
        (["open", str(tmp_path / "nothing")], "nothing"),
    ):
        assert attnlab(*arguments) == 2, arguments
        assert told in capsys.readouterr().err, arguments
