"""The study of memories: reads are what NumPy loops read, laws are theory's, the smoke preset runs end to end."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest

from attnlab.report import count_statuses
from attnlab.studies import find
from attnlab.studies.associative_memory import conditioning, ladder, memories
from attnlab.studies.reproduce import FIGURES, REPORT, read_verdicts, reproduce
from theory import catalogue

STUDY = find("associative-memory")


def test_the_table_of_claims_is_sound() -> None:
    ids = [c.claim.id for c in STUDY.checks]
    assert len(set(ids)) == len(ids)
    names = {p.name for p in STUDY.presets}
    for check in STUDY.checks:
        assert check.claim.source and len(check.claim.tolerance_reason) > 4
        assert {*check.claim.presets, *check.reported} <= names and (check.claim.presets or check.reported)


def read_by_loop(name: str, keys: np.ndarray, values: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Reads of one draw `[n, K]`, pair by pair in float64."""
    width = keys.shape[1]
    state = np.zeros((width, width))
    for _ in range(2 if name == "delta_2" else 1):
        for k, v in zip(keys, values, strict=True):
            if name == "hebb":
                state += np.outer(k, v)
            elif name == "oja":
                state += np.outer(k - state @ v, v)
            else:
                state += np.outer(k, v - state.T @ k)
    if name == "ridge":
        state = np.linalg.solve(keys.T @ keys + 1e-3 * np.eye(width), keys.T @ values)
    if name in ("hebb", "oja", "delta", "delta_2", "ridge"):
        return queries @ state
    root = np.sqrt(width)
    if name == "softmax":
        weights = np.exp(root * queries @ keys.T)
    else:

        def phi(x: np.ndarray) -> np.ndarray:
            x = root * x
            if name == "elu":
                return np.where(x > 0, x + 1, np.exp(np.minimum(x, 0)))
            both = np.exp(2 * np.concatenate([x, -x], axis=1))
            return both / both.sum(axis=1, keepdims=True)

        weights = phi(queries) @ phi(keys).T
    return weights / weights.sum(axis=1, keepdims=True) @ values


@pytest.mark.parametrize("name", list(memories.MEMORIES))
def test_reads_are_those_of_a_loop(name: str, rng: np.random.Generator) -> None:
    draws, pairs, width, written = 2, 6, 8, 5
    keys, values = rng.standard_normal((2, draws, pairs, width))
    keys, values = (a / np.linalg.norm(a, axis=-1, keepdims=True) for a in (keys, values))
    read = memories.reader(memories.MEMORIES[name], draws, pairs, width)
    found = read(*(jax.numpy.asarray(a, "float32") for a in (keys, values, keys)), written)
    for row in range(draws):
        wanted = read_by_loop(name, keys[row, :written], values[row, :written], keys[row])
        # float32; ridge 1e-3 has a condition number of up to 1e3, solved with one refinement
        np.testing.assert_allclose(found[row], wanted, atol=1e-3 if name == "ridge" else 1e-5)


def test_judged_reads(rng: np.random.Generator) -> None:
    values = np.tile(np.eye(3), (2, 1, 1))
    reads = 2 * values
    reads[1, 0] = [0.0, 1.0, 0.0]
    judged = memories.judge_reads(reads, values)
    assert judged.right.tolist() == [[True] * 3, [False, True, True]]
    assert judged.cosine[1, 0] == 0 and judged.cosine[0, 0] == 1
    assert judged.fidelity[0] == pytest.approx(1 / np.sqrt(2.5)), "mean overlap 1, mean energy 2.5"


def test_conditioning_is_trial_by_trial() -> None:
    experiment = conditioning.EXPERIMENTS["blocking"]
    learned = conditioning.learn(conditioning.RULES["delta"].mechanism, experiment)
    assert learned.shape == (experiment.trials + 1, 2) and not learned[0].any()
    assert learned[1] == pytest.approx([conditioning.RATE, 0.0])
    assert learned[-1] == pytest.approx(catalogue.rescorla_wagner(experiment, conditioning.RATE), abs=1e-6)


def test_ladder_answers_are_linear_in_the_labels() -> None:
    """The delta rung with its schedule, and Mesa, on one prompt by float64 loops."""
    prompts = ladder.Prompts(ladder.NOISY, 2)
    rate, ridge = np.sqrt(ladder.schedule(ladder.NOISY)), 0.1 * ladder.DIM
    assert rate[0] ** 2 == pytest.approx(1 / (ladder.DIM + 2 + ridge)), "the first step of the best schedule"
    delta = ladder.Recurrent("delta", ladder.Delta(beta=ladder.FixedBeta(1.0)))
    found = ladder.apply(delta, prompts, k=rate, v=rate)
    w = np.zeros(ladder.DIM)
    for at in range(ladder.LENGTHS[-1]):
        x, y = prompts.x[0, at].astype(float), float(prompts.y[0, at])
        w += rate[at] ** 2 * x * (y - w @ x)
        assert found[0, at] == pytest.approx(w @ prompts.query[0], abs=1e-4)  # float32 through 64 updates


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "memory"
    reproduce(STUDY, "smoke", path=folder, progress=False)
    return folder


def test_smoke_passes_and_draws(smoke: Path) -> None:
    verdicts = read_verdicts(smoke)
    assert count_statuses(verdicts)["passed"] == len(STUDY.shown("smoke")) == len(verdicts)
    assert (smoke / REPORT).stat().st_size > 50_000
    for name in ("cosine", "accuracy", "age", "conditioning", "ladder"):
        assert (smoke / FIGURES / f"{name}.png").stat().st_size > 5_000


def test_evening_trains_one_layer_per_mechanism() -> None:
    from attnlab.studies.associative_memory.experiments import experiments, mechanisms

    assert experiments("laptop") == {}
    found = experiments("evening")
    assert set(found) == set(mechanisms(48)) and found["softmax"].steps == 4000
    shapes = jax.eval_shape(found["delta"].model.init, jax.random.key(0))["blocks"]["0"]["attn"]
    assert shapes["query"].shape == (64, 1, 16) and "mlp" not in shapes
