"""The Hedgehog study: smoke runs end to end, the laptop preset trains what it says, kernels are those of NumPy."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.hedgehog.experiments import experiments, students
from attnlab.studies.hedgehog.kernels import DRAWS, KEYS, WIDTH, kernel_metrics
from attnlab.studies.reproduce import FIGURES, REPORT, read_verdicts, reproduce

STUDY = find("hedgehog-distillation")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hedgehog") / "smoke"
    reproduce(STUDY, "smoke", path=folder, progress=False)
    return folder


def test_smoke_passes_and_draws(smoke: Path):
    verdicts = read_verdicts(smoke)
    assert len(verdicts) == len(STUDY.shown("smoke"))
    counts = count_statuses(verdicts)
    assert counts["failed"] == 0 and counts["passed"] > 20
    assert (smoke / REPORT).exists()
    for name in ("distillation", "swapped", "kernels"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000


def test_claims_say_where_they_come_from():
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    assert all(c.claim.source and c.claim.statement for c in STUDY.checks)


def test_kernels_are_those_of_numpy():
    """One draw in plain NumPy, float64."""
    found = kernel_metrics()
    q, k = (np.asarray(x, np.float64) for x in jax.random.normal(jax.random.key(0), (2, DRAWS, KEYS, WIDTH))[:, 0])
    scores = q @ k.T / 4

    def elu(x):
        return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))

    def hedgehog(x):
        both = np.exp(2 * np.concatenate([x, -x], axis=1))
        return both / both.sum(axis=1, keepdims=True)

    raw = {"softmax": np.exp(scores), "elu": elu(q) @ elu(k).T, "hedgehog": hedgehog(q) @ hedgehog(k).T}
    raw["taylor"] = 1 + scores + scores**2 / 2
    rows = {name: weights / weights.sum(axis=1, keepdims=True) for name, weights in raw.items()}
    for name, p in rows.items():
        evenness = -(p * np.log(p)).sum(axis=1).mean() / np.log(KEYS)
        divergence = (rows["softmax"] * np.log(rows["softmax"] / p)).sum(axis=1).mean()
        both = list(zip(p, scores, strict=True))
        ranks = [np.corrcoef(np.argsort(np.argsort(a)), np.argsort(np.argsort(s)))[0, 1] for a, s in both]
        expected = {"evenness": evenness, "kl": divergence, "order": np.mean(ranks)}
        for what, value in expected.items():
            # float32 features of up to 153 terms; a swap of two nearly equal weights moves a rank
            np.testing.assert_allclose(found[f"{name}.{what}"][0], value, rtol=1e-3, atol=1e-5)


def test_the_laptop_preset_is_what_it_says():
    runs = experiments("laptop")
    assert set(runs) == {"softmax", "taylor", "elu", "hedgehog"}
    for e in runs.values():
        assert (e.task.num_pairs, e.task.length, e.task.vocab_size) == (8, 48, 64)
        assert (e.model.num_layers, e.model.num_heads, e.model.dims.head_dim, e.model.no_mlp) == (2, 4, 16, (0, 1))
    assert set(students("laptop")) == {"hedgehog", "hedgehog_split", "elu_learned", "relu_learned", "taylor"}
    assert STUDY.preset("laptop").seeds >= 3
