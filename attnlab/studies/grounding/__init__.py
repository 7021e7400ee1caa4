"""Fixes of hallucination against the exact frontier of a task with a picture, a question and a prior. Loads no jax."""

from __future__ import annotations

from attnlab.studies.base import Preset
from attnlab.studies.grounding.claims import LOGITS, OPTIMUM, REINFORCED, by, claim
from attnlab.studies.grounding.claims_maps import GUIDED, LOOKING, PLANTED
from attnlab.studies.measured import study

SMOKE = (
    claim(
        "smoke.loss", "Training works.", "training loss, first records less last", by("loss_drop"), (0.02, None),
        "any learning at all", source="this project", presets=("smoke",),
    ),
    claim(
        "smoke.finite", "Lines are measured.", "share of finite numbers", by("finite"), (1, 1), "all of them",
        source="this project", presets=("smoke",),
    ),
    claim(
        "smoke.rule", "The best rule is as good as it should be.", "accuracy less the exact one", by("rule_error"),
        (-0.08, 0.08), "512 pictures: four standard errors of .02", source="derived", trust="checked",
        presets=("smoke",),
    ),
)  # fmt: skip

NOTES = """
"""

STUDY = study(
    "grounding",
    "Fixes of hallucination on one frontier",
    "He et al.: Vision-aware Head Divergence, arXiv 2412.13949; and 2503.03321, 2406.15765, 2505.11739, 2501.12206, "
    "2510.22067, 2509.06461, 2502.17422, 2506.10978, 2507.05056.",
    (
        Preset("smoke", "one model for 60 steps, two lines and the frontier on 512 pictures", None, 2),
        Preset("laptop", "two layers of four heads, width 32, 3,000 steps, two questions; 2 CPU cores", None, 5),
        Preset("evening", "the same for 12,000 steps; 2 CPU cores", None, 5),
    ),
    (*OPTIMUM, *REINFORCED, *LOGITS, *GUIDED, *LOOKING, *PLANTED, *SMOKE),
    home=__name__,
    notes=NOTES,
)
