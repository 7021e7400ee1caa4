"""What a walk on the graph means: the edges, the stationary law, the rows, the risks by out-degree."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import GraphWalk

SIZE = 1024
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASK = GraphWalk(length=40)
EDGES = [[5], [4, 7], [1, 4, 7], [0], [3, 6], [0, 1, 4], [2], [3, 4]]  # 8 nodes, out-degrees 1, 2, 3, seed 0

risks_of = jax.jit(TASK.risks)


@pytest.fixture(scope="module")
def batch():
    return jax.jit(TASK.sample, static_argnums=1)(jax.random.key(0), SIZE)


@pytest.mark.parametrize(
    "task",
    [TASK, GraphWalk(seed=5), GraphWalk(7, (1, 3), seed=2), GraphWalk(2, (1,)), GraphWalk(6, (5,)), GraphWalk(9, (1,))],
)
def test_the_graph(task):
    size = task.num_nodes
    assert task.kernel.shape == (size, size) and task.vocab_size == size
    reach = np.eye(size, dtype=bool)
    for _ in range(size):
        reach = reach | (reach.astype(int) @ (task.kernel > 0).astype(int) > 0)
    assert reach.all()  # from every node to every node
    for i in range(size):
        degree = task.degrees[i % len(task.degrees)]
        successors = np.flatnonzero(task.kernel[i])
        assert len(successors) == task.out_degree[i] == degree and i not in successors
        np.testing.assert_array_equal(task.kernel[i][successors], 1 / degree)
    np.testing.assert_allclose(task.stationary @ task.kernel, task.stationary, atol=1e-14)  # float64, 32 terms
    assert task.stationary.sum() == pytest.approx(1.0, abs=1e-14) and (task.stationary > 0).all()
    rows = [-sum(p * np.log(p) for p in row if p > 0) for row in task.kernel]
    assert task.entropy_rate == pytest.approx(float(np.dot(task.stationary, rows)), abs=1e-13)


def test_a_seed_is_a_graph():
    """Golden edges: the graph of a seed must not change with the versions of what made it."""
    edges = [np.flatnonzero(row).tolist() for row in GraphWalk(8, (1, 2, 3), seed=0).kernel]
    assert edges == EDGES
    np.testing.assert_array_equal(GraphWalk(seed=3).kernel, GraphWalk(seed=3, length=7).kernel)
    assert not np.array_equal(GraphWalk(seed=3).kernel, GraphWalk(seed=4).kernel)
    with pytest.raises(ValueError, match="read-only"):
        TASK.kernel[0, 0] = 1.0


def test_successors_are_chosen_uniformly():
    """Over seeds, every other node is as often a successor of node 0."""
    counts = sum(GraphWalk(6, (3, 1), seed=seed).kernel[0] > 0 for seed in range(600))
    assert counts[0] == 0 and stats.chisquare(counts[1:]).pvalue > SURE


def test_walks_follow_the_edges(batch):
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    assert inputs.shape == targets.shape == (SIZE, 40)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])
    assert (TASK.kernel[inputs, targets] > 0).all() and (batch.loss_mask == 1).all()
    assert set(batch.positions) == {"degree_1", "degree_2", "degree_4", "degree_8"}
    for degree in (1, 2, 4, 8):
        np.testing.assert_array_equal(batch.positions[f"degree_{degree}"], TASK.out_degree[inputs] == degree)
    for node in range(32):
        successors = np.flatnonzero(TASK.kernel[node])
        counts = np.array([((inputs == node) & (targets == s)).sum() for s in successors])
        # steps from the same node are independent draws, whatever the walk did before
        assert len(successors) == 1 or stats.chisquare(counts).pvalue > SURE


def test_walks_are_stationary(batch):
    for t in (0, 1, 39):
        counts = np.bincount(np.asarray(batch.inputs)[:, t], minlength=32)
        assert stats.chisquare(counts, SIZE * TASK.stationary).pvalue > SURE


def test_the_oracle_is_the_row(batch):
    small = jax.tree.map(lambda leaf: leaf[:4], batch)
    law = np.asarray(TASK.oracle(small))
    for b, t in np.ndindex(4, 40):
        np.testing.assert_allclose(law[b, t], TASK.kernel[small.inputs[b, t]], atol=1e-7)  # float32 of 1 / degree


def test_risks_by_loops(batch, rng):
    small = jax.tree.map(lambda leaf: leaf[:8], batch)
    logits = rng.standard_normal((8, 40, 32)).astype(np.float32)
    parts = {"loss": [], "excess": [], "l1": []} | {
        f"{part}_degree_{k}": [] for part in ("excess", "l1") for k in (1, 2, 4, 8)
    }
    for b, t in np.ndindex(8, 40):
        row = TASK.kernel[small.inputs[b, t]]
        weight = np.exp(logits[b, t].astype(np.float64))
        law = weight / weight.sum()
        loss = -sum(p * np.log(q) for p, q in zip(row, law, strict=True) if p > 0)
        degree = int((row > 0).sum())
        parts["loss"].append(loss)
        for name in ("excess", f"excess_degree_{degree}"):
            parts[name].append(loss - np.log(degree))
        for name in ("l1", f"l1_degree_{degree}"):
            parts[name].append(np.abs(law - row).sum())
    found = risks_of(jnp.asarray(logits), small)
    assert set(found) == set(parts)
    for name, values in parts.items():
        assert float(found[name]) == pytest.approx(np.mean(values), abs=5e-6)  # float32 sums of 32 terms


def test_the_oracle_attains_the_entropy_rate(batch):
    """Excess 0 in every class; its loss is the entropy rate, within the standard error over walks."""
    small = jax.tree.map(lambda leaf: leaf[:8], batch)
    risks = risks_of(jnp.log(TASK.oracle(small)), small)
    for name, value in risks.items():
        if name != "loss":
            assert float(value) == pytest.approx(0.0, abs=1e-6)  # float32
    per_walk = np.log(TASK.out_degree)[np.asarray(batch.inputs)].mean(axis=1)
    assert float(risks["loss"]) == pytest.approx(per_walk[:8].mean(), abs=1e-6)
    assert per_walk.mean() == pytest.approx(TASK.entropy_rate, abs=4.5 * per_walk.std() / np.sqrt(SIZE))


@pytest.mark.parametrize("name", ["uniform", "unigram", "oracle"])
def test_plateaus(batch, name):
    """On sampled targets: cross entropy and accuracy of the three predictors, within standard errors over walks."""
    rows = {
        "uniform": np.full((32, 32), 1 / 32),
        "unigram": np.tile(TASK.stationary, (32, 1)),
        "oracle": TASK.kernel,
    }[name]
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    chance, top = rows[inputs, targets], rows.max(axis=1)[inputs]
    ties = (rows == rows.max(axis=1, keepdims=True)).sum(axis=1)[inputs]
    plateau = TASK.plateaus[name]
    for values, wanted in ((-np.log(chance), plateau.loss), ((chance == top) / ties, plateau.accuracy)):
        mean = values.mean(axis=1)
        assert mean.mean() == pytest.approx(wanted, abs=4.5 * mean.std() / np.sqrt(SIZE) + 1e-12)


def test_a_class_that_does_not_occur_has_no_risk():
    """Walks of length one are placed by hand: any node, and the node behind it on an edge."""
    nodes = [i for i in range(32) if TASK.out_degree[i] != 8]
    steps = [(node, int(np.flatnonzero(TASK.kernel[node])[0])) for node in nodes]
    walks = np.array([steps[i % len(steps)] for i in range(8 * 40)])
    once = TASK.batch(walks)
    assert not once.positions["degree_8"].any()
    risks = risks_of(jnp.zeros((8, 40, 32)), jax.tree.map(lambda leaf: leaf.reshape(8, 40), once))
    assert np.isnan(risks["excess_degree_8"]) and np.isnan(risks["l1_degree_8"])
    for degree in (1, 2, 4):
        assert float(risks[f"excess_degree_{degree}"]) == pytest.approx(np.log(32 / degree), abs=1e-6)  # float32
        assert float(risks[f"l1_degree_{degree}"]) == pytest.approx(2 * (1 - degree / 32), abs=1e-6)


def test_at_length():
    assert TASK.at_length(256) == dataclasses.replace(TASK, length=256)
    np.testing.assert_array_equal(TASK.at_length(256).kernel, TASK.kernel)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_nodes": 1}, r"GraphWalk\.num_nodes: got 1; allowed is an integer >= 2"),
        ({"length": 0}, r"GraphWalk\.length: got 0"),
        ({"seed": -1}, r"GraphWalk\.seed: got -1; allowed is an integer >= 0"),
        ({"degrees": ()}, r"GraphWalk\.degrees: got \(\)"),
        ({"degrees": (1, 32)}, r"from 1 to num_nodes - 1 = 31"),
        ({"degrees": (0, 2)}, r"GraphWalk\.degrees: got \(0, 2\)"),
        ({"degrees": 3}, r"GraphWalk\.degrees: got 3"),
        ({"num_nodes": 3, "degrees": (1, 2, 1, 2)}, r"at most one out-degree per node, 3"),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        GraphWalk(**changes)
