"""In-context linear regression (2503.12734) and its baselines. Loads no jax by itself."""

from attnlab.studies.base import Preset, Study
from attnlab.studies.icl_regression.claims import DYNAMICS, EMERGENCE, ESTIMATORS, OTHER_DATA, SIGNS, SMOKE
from attnlab.studies.icl_regression.claims_at_scale import GARG, PUBLISHED, TASKS, VALLEY


def _open_lab(*arguments):
    from attnlab.studies.icl_regression.lab import Lab

    return Lab(*arguments)


def _figures(lab):
    from attnlab.studies.icl_regression.figures import figures

    return figures(lab)


def _scrubbers(lab):
    from attnlab.studies.icl_regression.figures import scrubbers

    return scrubbers(lab)


NOTES = """
To be written.
"""

STUDY = Study(
    name="icl-regression",
    title="In-Context Linear Regression Demystified",
    reference="He, Pan, Chen, Yang: In-Context Linear Regression Demystified, arXiv 2503.12734 (2025).",
    presets=(
        Preset("smoke", "theory in full, tiny batches for 60 steps", None, 2),
        Preset("laptop", "ten runs of one attention layer, up to 20,000 steps of 256 prompts; 2 CPU cores", None, 8),
        Preset("evening", "100,000 steps, two tasks at once, a small GPT; 2 CPU cores", None, 8),
        Preset("paper", "500,000 steps as published, and the stack of Garg et al.; an accelerator", None, 8),
    ),
    checks=(
        *EMERGENCE, *SIGNS, *ESTIMATORS, *DYNAMICS, *OTHER_DATA, *SMOKE, *VALLEY, *TASKS, *GARG, *PUBLISHED,
    ),
    open_lab=_open_lab,
    figures=_figures,
    scrubbers=_scrubbers,
    notes=NOTES,
)  # fmt: skip
