"""The run that most tests here read."""

import shutil
from pathlib import Path

import pytest
from small_run import ENDS, append, begin


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once. To be read only."""
    path = tmp_path_factory.mktemp("original") / "run"
    writer = begin(path)
    for chunk in range(len(ENDS)):
        append(writer, chunk)
    writer.finish({"outcome": [0, 0, 1]})
    return path


@pytest.fixture(scope="session")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with its first chunk, made once. To be copied."""
    path = tmp_path_factory.mktemp("begun") / "run"
    append(begin(path), 0)
    return path


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as one likes."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture
def unfinished(run: Path) -> Path:
    """The same without its end: all chunks are there, the summary is not."""
    (run / "summary.json").unlink()
    return run
