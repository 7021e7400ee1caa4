"""What each preset trains and distils: softmax, and what is to take its place, on associative recall."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

import toy_tasks as tt
from attnlab import attention
from attnlab.attention import recurrent_catalogue as catalogue
from attnlab.models import Transformer
from attnlab.studies.hedgehog import figures as drawings
from attnlab.studies.hedgehog.kernels import kernel_metrics
from attnlab.studies.hedgehog.students import CONTROLS, STUDENTS, one_chunk
from attnlab.studies.measured import Experiment
from attnlab.training import adamw, distill, swapped

TEACHER = "softmax"
SMALL = tt.MQAR(vocab_size=16, length=16, num_pairs=2)
TASK = tt.MQAR(vocab_size=64, length=48, num_pairs=8)
WIDER = tt.MQAR(vocab_size=256, length=128, num_pairs=16)
DISTIL_STEPS = {"smoke": 20, "laptop": 500, "evening": 5000}
FROM_SCRATCH = {"elu": catalogue.linear, "hedgehog": catalogue.hedgehog}


def recall(task: tt.MQAR, mechanism: Any, steps: int, width: int = 64, head_dim: int = 16) -> Experiment:
    """Two layers without MLP, learned positions, AdamW 4e-3."""
    model = Transformer(
        vocab_size=task.vocab_size,
        length=task.length,
        num_layers=2,
        num_heads=width // head_dim,
        width=width,
        head_dim=head_dim,
        no_mlp=(0, 1),
        mechanism=mechanism,
    )
    return Experiment(task, model, adamw(4e-3), steps)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name: the teacher, and the others from scratch."""
    if preset == "smoke":
        return {TEACHER: recall(SMALL, attention.softmax, 60, width=16, head_dim=8)}
    task, steps, slow = (TASK, 1000, 800) if preset == "laptop" else (WIDER, 4000, 4000)
    runs = {TEACHER: recall(task, attention.softmax, steps)}
    # Taylor pair by pair: the same map as its recurrence, whose state of 273 features costs ten times the time here.
    runs["taylor"] = recall(task, attention.approximate, 1200 if preset == "laptop" else 4000)
    return runs | {name: recall(task, one_chunk(m, 48), slow) for name, m in FROM_SCRATCH.items()}


def students(preset: str) -> dict[str, Any]:
    """Name -> mechanism of the students of a preset."""
    if preset == "smoke":
        return {"hedgehog": STUDENTS["hedgehog"]}
    return STUDENTS if preset == "laptop" else STUDENTS | CONTROLS


def distilled(lab: Any, name: str) -> dict[str, Any]:
    """A student taught by the softmax model of the same seed, all `[S]` unless said.

    `before`, `after`: KL from the teacher's weights, mean over layers and heads; `ratio` of the two; `worst_ratio`,
    that of the head of the largest; `heads_before`, `heads_after` `[S, L, H]`; `curve [S, N]`; `accuracy`
    of the model with the student in the place of softmax; `kept`, the last as a share of the teacher's.
    """

    def run() -> dict[str, Any]:
        e, params = lab.experiments[TEACHER], lab.run(TEACHER).params
        mechanism = one_chunk(students(lab.preset)[name], e.task.length)
        steps = DISTIL_STEPS[lab.preset] if mechanism.init(jax.random.key(0), e.model.dims) else 0
        found = distill(e.task, e.model, params, mechanism, steps=steps, batch_size=e.batch_size)
        heads = {"heads_before": found.before.kl, "heads_after": found.after.kl}
        before, after = (x.mean(axis=(1, 2)) for x in heads.values())
        ratios = (heads["heads_after"] / heads["heads_before"]).max(axis=(1, 2))
        right = accuracy_with(lab, mechanism, found.own)
        return heads | {
            "before": before,
            "after": after,
            "ratio": after / before,
            "worst_ratio": ratios,
            "curve": found.kl,
            "accuracy": right,
            "kept": right / lab.accuracy(TEACHER),
        }

    return lab.once(("distilled", name), run)


def accuracy_with(lab: Any, mechanism: Any, own: Mapping[str, Any]) -> np.ndarray:
    """Accuracy `[S]` of the teacher with another mechanism in all layers, on the fresh sequences of the lab."""
    e, params = lab.experiments[TEACHER], lab.run(TEACHER).params
    model, together = swapped(e.model, params, mechanism, dict(own))
    return lab.accuracy(TEACHER, model=model, params=together)


def untaught(lab: Any) -> dict[str, np.ndarray]:
    """Accuracy of the teacher with the Hedgehog at `W = I` in the place of softmax, `[S]`."""
    e = lab.experiments[TEACHER]
    mechanism = one_chunk(catalogue.hedgehog, e.task.length)
    found = distill(e.task, e.model, lab.run(TEACHER).params, mechanism, steps=0, batch_size=e.batch_size)
    return {"accuracy": accuracy_with(lab, mechanism, found.own)}


def _student(name: str) -> Any:
    return lambda lab: distilled(lab, name)


THEORY = {"kernels": kernel_metrics, "untaught": untaught}
THEORY |= {name: _student(name) for name in (*STUDENTS, *CONTROLS)}


def figures(lab: Any) -> dict[str, Any]:
    """The study's figures."""
    return drawings.figures(lab, {name: distilled(lab, name) for name in students(lab.preset)})
