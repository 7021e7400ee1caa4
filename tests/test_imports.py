"""Who may import whom: the rooms of the design, read from the source of every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

import attnlab

ROOT = Path(__file__).parents[1]
LEAVES = {"attnlab.keys", "attnlab.config", "attnlab.tape", "attnlab.edits", "attnlab.cpu", "attnlab.hosts"}
PROTOCOL = "toy_tasks.base"
EVERYTHING = {"attnlab", "toy_tasks", "theory"}

# What a room may import of ours, besides itself. Arrow: attention -> models -> trajectory -> training -> analysis ->
# report -> studies -> accelerators -> cli; left never imports right. Training comes after trajectory, as it writes one.
MAY_IMPORT = {
    "toy_tasks": set(),
    "theory": {"toy_tasks"},
    **{leaf: LEAVES for leaf in LEAVES},
    "attnlab.attention": LEAVES,
    "attnlab.kernels": LEAVES | {"attnlab.attention"},
    "attnlab.models": LEAVES | {"attnlab.attention", PROTOCOL},
    "attnlab.nnx": LEAVES | {"attnlab.attention", "attnlab.models"},
    "attnlab.trajectory": LEAVES,
    "attnlab.training": LEAVES | {"attnlab.attention", "attnlab.models", "attnlab.trajectory", PROTOCOL},
    "attnlab.analysis": LEAVES | {"attnlab.attention", "attnlab.models", "attnlab.trajectory", PROTOCOL},
    "attnlab.report": LEAVES | {"attnlab.trajectory", "attnlab.analysis"},
    "attnlab.studies": EVERYTHING,
    "attnlab.accelerators": EVERYTHING,
    "attnlab.cli_options": LEAVES,
    "attnlab.cli": EVERYTHING,
}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def room_of(module: str) -> str | None:
    return next((room for room in MAY_IMPORT if within(module, room)), None)


def exists(module: str) -> bool:
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(module: str, is_package: bool, source: str) -> Iterator[str]:
    """Every module of ours that `source` imports, anywhere in it, by statement or by `import_module("name")`."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
            for alias in node.names:
                home = attnlab._HOME_OF.get(alias.name) if base == "attnlab" else None
                inner = f"{base}.{alias.name}"
                yield home or (inner if exists(inner) else base)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


def offences(module: str, is_package: bool, source: str) -> list[str]:
    room = room_of(module)
    assert room is not None, f"{module} is in no room of the design; give it one in {__file__}"
    allowed = MAY_IMPORT[room] | {room}
    found = [name for name in imports(module, is_package, source) if any(within(name, ours) for ours in EVERYTHING)]
    return [f"{module} imports {name}" for name in found if not any(within(name, ok) for ok in allowed)]


def sources() -> list[tuple[str, bool, Path]]:
    found = []
    for package in sorted(EVERYTHING):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            found.append((".".join(parts[:-1] if is_package else parts), is_package, path))
    return found


def test_every_module_imports_what_its_room_may() -> None:
    """`attnlab/__init__.py` loads names when they are used, and is the one file that may name every room."""
    modules = [(m, p, path) for m, p, path in sources() if m != "attnlab"]
    assert len(modules) > 30
    found = [line for module, is_package, path in modules for line in offences(module, is_package, path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "culprit"),
    [
        ("toy_tasks.base", "import theory", "theory"),
        ("toy_tasks.base", "from attnlab.config import require", "attnlab.config"),
        ("theory.base", "def f():\n    import attnlab.models", "attnlab.models"),
        ("theory.base", "from attnlab import Transformer", "attnlab.models"),
        ("attnlab.attention.maps", "from attnlab.models import layers", "attnlab.models.layers"),
        ("attnlab.attention.maps", "from ..models import layers", "attnlab.models.layers"),
        ("attnlab.attention.maps", "from .. import models", "attnlab.models"),
        ("attnlab.models.layers", "import toy_tasks.alias", "toy_tasks.alias"),
        ("attnlab.training.loop", "import toy_tasks", "toy_tasks"),
        ("attnlab.training.loop", "from toy_tasks import BigramBackcopy", "toy_tasks"),
        ("attnlab.training.loop", "from attnlab.analysis import sinks", "attnlab.analysis.sinks"),
        ("attnlab.analysis.base", "from attnlab import run", "attnlab.training"),
        ("attnlab.analysis.base", "import theory", "theory"),
        ("attnlab.report.html", "from attnlab.models import Transformer", "attnlab.models"),
        ("attnlab.report.html", 'import importlib\nimportlib.import_module("theory")', "theory"),
        ("attnlab.config", "import attnlab.attention", "attnlab.attention"),
        ("attnlab.trajectory.reader", "from attnlab.cli import main", "attnlab.cli"),
    ],
)
def test_the_test_finds_offences(module, source, culprit) -> None:
    assert offences(module, False, source) == [f"{module} imports {culprit}"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("theory.base", "import toy_tasks"),
        ("attnlab.training.loop", "from toy_tasks.base import Task"),
        ("attnlab.training.loop", "from attnlab import Transformer, keys"),
        ("attnlab.models.layers", "from . import factored\nfrom ..attention import softmax\nimport jax"),
        ("attnlab.studies.base", "import theory, toy_tasks, attnlab.report"),
    ],
)
def test_the_test_allows_what_is_allowed(module, source) -> None:
    assert offences(module, False, source) == []


def test_a_module_outside_all_rooms_is_noticed() -> None:
    with pytest.raises(AssertionError, match=r"attnlab\.utils is in no room"):
        offences("attnlab.utils", False, "")


def test_importing_the_library_loads_neither_nnx_nor_plots() -> None:
    """They cost a second and more, and only some need them."""
    program = (
        "import sys, attnlab, attnlab.edits, attnlab.models, attnlab.training, attnlab.trajectory, theory, toy_tasks\n"
        "print(*(name for name in ('flax.nnx', 'matplotlib', 'IPython') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_theory_needs_no_jax() -> None:
    program = "import sys, theory; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False"]
