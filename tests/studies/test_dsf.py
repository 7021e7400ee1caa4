"""The study of attention and state space models as one recurrence: its table, its runs, the smoke preset end to end."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

import toy_tasks as tt
from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.dsf.experiments import experiments
from attnlab.studies.dsf.identities import hand_set
from attnlab.studies.reproduce import FIGURES, REPORT, read_verdicts, reproduce

STUDY = find("dsf")


def test_the_table_of_claims_is_sound() -> None:
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    names = {p.name for p in STUDY.presets}
    for check in STUDY.checks:
        assert check.claim.source and len(check.claim.tolerance_reason) > 4
        assert {*check.claim.presets, *check.reported} <= names and (check.claim.presets or check.reported)


def test_runs_are_what_they_say() -> None:
    found = experiments("laptop")
    for name, e in found.items():
        params = jax.eval_shape(e.model.init, jax.random.key(0))
        if name.startswith("beta"):
            assert e.task == tt.Parity("prefix", 24) and "mlp" in params["blocks"]["0"]
            continue
        width = int(name.rsplit("_", 1)[1])
        assert set(params["blocks"]) == {"0", "1"}
        for block in params["blocks"].values():
            assert block["attn"]["query"].shape == (64, 1, width) and "mlp" not in block
    betas = {name: found[name].model.mechanism.rule.beta.limit for name in ("beta_1", "beta_2")}
    assert betas == {"beta_1": 1.0, "beta_2": 2.0}


def test_paper_is_the_published_task() -> None:
    found = experiments("paper")
    assert found["linear_64_T512"].task == tt.MQAR.figure_2(512)
    assert {e.task.length for e in found.values()} == {64, 128, 256, 512}
    for e in found.values():
        jax.eval_shape(e.model.apply, jax.eval_shape(e.model.init, jax.random.key(0)), np.zeros((1, 64), np.int32))


@pytest.mark.parametrize("rate", [0.5, 1.0, 1.7, 2.0])
def test_hand_set_states(rate: float, rng: np.random.Generator) -> None:
    bits = rng.integers(0, 2, (3, 12))
    wanted = np.cumprod(1 - rate * bits, axis=1)
    # float32: a factor is 1 - k k with k = sqrt(rate) rounded, 2 rate + 3 roundings of 6e-8, twelve factors
    np.testing.assert_allclose(hand_set(bits, rate), wanted, atol=5e-6)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "dsf"
    reproduce(STUDY, "smoke", path=folder, progress=False)
    return folder


def test_smoke_passes_and_draws(smoke: Path) -> None:
    verdicts = read_verdicts(smoke)
    assert count_statuses(verdicts)["passed"] == len(STUDY.shown("smoke")) == len(verdicts)
    assert (smoke / REPORT).stat().st_size > 50_000
    for name in ("orders", "recall", "training", "parity"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000
