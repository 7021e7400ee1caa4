"""attnlab: the laboratory for attention theory in JAX/Flax.

A task makes batches, a model reads them, training writes a trajectory, analysis reads it, theory predicts it, a study
compares the two and says a verdict, a report shows it. Names are loaded when first used, so importing is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attnlab import analysis, attention, kernels, report
    from attnlab.cpu import use_all_cores
    from attnlab.models import BackcopyReduced, LinearAttention, RegressionAttention, Transformer
    from attnlab.report.quick import show
    from attnlab.studies.compare import compare
    from attnlab.studies.sweep import resume_sweep, sweep
    from attnlab.training import (
        Cell,
        Run,
        adam,
        adamw,
        at,
        every,
        grid,
        log_spaced,
        params,
        precision,
        resume,
        run,
        sgd,
    )
    from attnlab.trajectory import open, verify

__version__ = "0.1.0"

_HOMES = {
    "attnlab.analysis": ("analysis",),
    "attnlab.attention": ("attention",),
    "attnlab.report": ("report",),
    "attnlab.cpu": ("use_all_cores",),
    "attnlab.kernels": ("kernels",),
    "attnlab.models": ("BackcopyReduced", "LinearAttention", "RegressionAttention", "Transformer"),
    "attnlab.report.quick": ("show",),
    "attnlab.studies.compare": ("compare",),
    "attnlab.studies.sweep": ("resume_sweep", "sweep"),
    "attnlab.training": (
        *("Cell", "Run", "adam", "adamw", "at", "every", "grid"),
        *("log_spaced", "params", "precision", "resume", "run", "sgd"),
    ),
    "attnlab.trajectory": ("open", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = [
    "BackcopyReduced",
    "Cell",
    "LinearAttention",
    "RegressionAttention",
    "Run",
    "Transformer",
    "adam",
    "adamw",
    "analysis",
    "at",
    "attention",
    "compare",
    "every",
    "grid",
    "kernels",
    "log_spaced",
    "open",
    "params",
    "precision",
    "report",
    "resume",
    "resume_sweep",
    "run",
    "sgd",
    "show",
    "sweep",
    "use_all_cores",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'attnlab' has no attribute {name!r}")
    module = import_module(_HOME_OF[name])
    return module if _HOME_OF[name] == f"attnlab.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)
