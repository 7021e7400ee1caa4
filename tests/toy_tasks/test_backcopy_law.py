"""The closed forms against the published numbers, against an independent slow recursion, and against samples."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toy_tasks import (
    BigramBackcopy,
    absorbing_cycles,
    closed_classes,
    expected_risks,
    occupation,
    stationary_law,
)

# ---- an independent statement of the task: loops over pairs of states, no shared code


def pair_laws(rows, triggers, steps, shift, mix_p):
    """`Pr[z_i = x, z_{i+1} = y]`, `[steps, V0+1, V0+1]`, with `z_0 = bos` (last); `rows` is `[V0+1, V0]`."""
    size = len(rows)
    kernel = np.pad(rows, ((0, 0), (0, 1)))
    matrix = np.zeros((size, size, size, size))
    for x in range(size):
        for y in range(size):
            matrix[x, y, y] = kernel[y]
            if y in triggers:
                matrix[x, y, y] = mix_p * (kernel[x] if shift else np.eye(size)[x]) + (1 - mix_p) * kernel[y]
    matrix = matrix.reshape(size**2, size**2)
    start = np.zeros((size, size))
    start[-1] = kernel[-1]
    return np.stack([(start.ravel() @ np.linalg.matrix_power(matrix, i)).reshape(size, size) for i in range(steps)])


def entropy(law):
    return -sum(p * np.log(p) for p in np.ravel(law) if p > 0)


# ---- numbers of the paper's setting, k = 3, T = 256


@pytest.fixture(scope="module")
def paper() -> BigramBackcopy:
    return BigramBackcopy.tiny_shakespeare(num_triggers=3, length=256)


def test_published_expectations(paper):
    expected = expected_risks(paper)
    exact = 5e-5  # the specification prints four decimals
    assert expected.trigger_fraction == pytest.approx(0.2565, abs=exact)
    assert expected.bigram == pytest.approx(2.2165, abs=exact)
    assert expected.bigram_code == pytest.approx(2.2222, abs=exact)
    assert expected.overall == pytest.approx(1.6549, abs=exact)
    assert expected.backcopy == 0.0


def test_published_expectations_of_five_triggers():
    expected = expected_risks(BigramBackcopy.tiny_shakespeare(num_triggers=5, length=256))
    values = (expected.trigger_fraction, expected.bigram_code, expected.bigram, expected.overall)
    assert values == pytest.approx((0.3208, 2.1344, 2.1276, 1.4527), abs=5e-5)


def test_predictors_without_memory_against_pooled_entropies(paper):
    """The numbers 2.682, 2.331 and 3.363 of the specification are those of one batch; these are the expectations."""
    expected = expected_risks(paper)
    assert expected.plateau == pytest.approx(2.6722, abs=5e-5)
    assert expected.plateau_by_trigger == pytest.approx({" ": 2.6971, "e": 2.7965, "t": 2.2754}, abs=5e-5)
    assert (expected.order_one, expected.unigram) == pytest.approx((2.3376, 3.3674), abs=5e-5)
    assert expected.overall < expected.order_one < expected.unigram


# ---- the recursion against the independent one, on random kernels


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    zeros=st.booleans(),
    triggers=st.sampled_from([(0,), (2, 1)]),
    shift=st.booleans(),
    mix_p=st.sampled_from([0.0, 0.3, 1.0]),
    bos=st.booleans(),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_occupation_and_risks_equal_the_slow_recursion(seed, zeros, triggers, shift, mix_p, bos, smoothing):
    rng = np.random.default_rng(seed)
    kernel = rng.dirichlet(np.ones(4), size=4)
    if zeros:
        kernel[3] = [0.5, 0.5, 0.0, 0.0]
    marginal = rng.dirichlet(np.ones(4))
    steps = 6
    task = BigramBackcopy.from_matrix(
        kernel,
        marginal,
        triggers=triggers,
        length=steps,
        bos=bos,
        smoothing=smoothing,
        variant="bigram_shift" if shift else "backcopy",
        mix_p=mix_p,
    )
    first = np.where(np.isin(range(4), triggers), 0, marginal)
    rows = np.vstack([(1 - smoothing) * kernel + smoothing / 4, first / first.sum()])
    slow = pair_laws(rows, triggers, steps + 1, shift, mix_p)
    slow = slow[:-1] if bos else slow[1:]
    # float64: six products of terms below one
    np.testing.assert_allclose(occupation(task).pairs, slow, atol=1e-14, rtol=0)

    expected = expected_risks(task)
    at_triggers, mass = 0.0, 0.0
    for x in range(5):
        for t in triggers:
            special = rows[x] if shift else np.eye(5)[x]
            law = mix_p * np.pad(special, (0, 5 - len(special))) + (1 - mix_p) * np.pad(rows[t], (0, 1))
            weight = sum(joint[x, t] for joint in slow[:-1])
            at_triggers, mass = at_triggers + weight * entropy(law), mass + weight
    plain = [x for x in range(4) if x not in triggers]
    at_plain = sum(slow[:, x].sum() * entropy(rows[x]) for x in plain)
    at_bos = entropy(rows[-1]) if bos else 0.0
    # entropies of order one summed over six positions, float64
    assert expected.backcopy * mass == pytest.approx(at_triggers, abs=1e-12)
    assert expected.bigram == pytest.approx(at_plain / slow[:, plain].sum(), abs=1e-12)
    assert expected.overall == pytest.approx((at_triggers + at_plain + at_bos) / steps, abs=1e-12)
    assert expected.plateau == pytest.approx(
        sum(slow[:, t].sum() * entropy(slow[:, t].sum(0) / slow[:, t].sum()) for t in triggers) / mass, abs=1e-12
    )


# ---- the law of the samples


def test_published_expectations_hold_in_samples(paper):
    """Acceptance A1: 20 batches of 128 sequences of 256 inputs."""
    sample = jax.jit(paper.sample, static_argnums=1)
    fraction, bigram, overall = [], [], []
    for key in jax.random.split(jax.random.key(1), 20):
        batch = sample(key, 128)
        trigger = np.asarray(batch.positions["trigger"])
        fraction.append(trigger[:, 1:].mean())
        risks = paper.oracle_risks(batch)
        bigram.append(float(risks["bigram"]))
        overall.append(float(risks["overall"]))
        assert not (trigger[:, 1:] & trigger[:, :-1]).any()
    # tolerances of the specification; about five standard errors of 2,560 sequences for the fraction
    assert np.mean(fraction) == pytest.approx(0.2565, abs=0.003)
    assert np.mean(bigram) == pytest.approx(2.2165, abs=0.01)
    assert np.mean(overall) == pytest.approx(1.6549, abs=0.01)


VARIANTS = [
    {},
    {"bos": False},
    {"num_triggers": 5, "smoothing": 0.05},
    {"variant": "bigram_shift"},
    {"variant": "bigram_shift", "first_token": "marginal", "mix_p": 0.4},
    {"mix_p": 0.5},
    {"num_triggers": 0},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_samples_follow_the_occupation_law(options):
    """Every position's law, and the mean oracle entropy, within their standard errors. Sequences are independent."""
    task = BigramBackcopy.tiny_shakespeare(**({"length": 24} | options))
    size = 4096
    batch = task.sample(jax.random.key(7), size)
    law = occupation(task).current[:, : task.num_characters + task.bos]
    counts = np.stack([np.bincount(z, minlength=task.vocab_size) for z in np.asarray(batch.inputs).T])
    assert (counts[law == 0] == 0).all()
    checked = (law * size >= 25) & (law < 1)
    z = ((counts - law * size) / np.sqrt(size * np.maximum(law * (1 - law), 1e-9)))[checked]
    # about 700 cells: the largest of as many normals exceeds 5.5 with probability 3e-5, of Poisson counts of mean 25
    # (a cell at the least expectation kept) with 1e-3
    assert np.abs(z).max() < 5.5
    per_sequence = np.asarray(jax.vmap(lambda row: task.oracle_risks(task.batch(row[None]))["overall"])(_tokens(batch)))
    error = (per_sequence.mean() - expected_risks(task).overall) / (per_sequence.std() / np.sqrt(size))
    assert abs(error) < 4.5  # a normal exceeds it with probability 7e-6


def _tokens(batch):
    return np.concatenate([batch.inputs, batch.targets[:, -1:]], axis=1)


def test_transitions_follow_the_kernel():
    """Given the current ordinary character, successors are independent draws of its row: a chi-square per row."""
    task = BigramBackcopy.tiny_shakespeare(length=256)
    batch = task.sample(jax.random.key(3), 512)
    chosen = np.asarray(batch.positions["bigram"])
    counts = np.zeros((task.vocab_size, task.vocab_size))
    np.add.at(counts, (np.asarray(batch.inputs)[chosen], np.asarray(batch.targets)[chosen]), 1)
    expected = counts.sum(1, keepdims=True) * task.kernel
    assert (counts[expected == 0] == 0).all()
    usual = expected >= 10  # the rest of each row is put together in one cell
    rest = np.where(usual, 0, expected).sum(1), np.where(usual, 0, counts).sum(1)
    chi, degrees = 0.0, 0
    for row in range(task.vocab_size):
        e, c = expected[row][usual[row]], counts[row][usual[row]]
        if rest[0][row] >= 10:
            e, c = np.append(e, rest[0][row]), np.append(c, rest[1][row])
        elif len(e):  # condition on the cells kept
            e = e * c.sum() / e.sum()
        if len(e) > 1:
            chi, degrees = chi + ((c - e) ** 2 / e).sum(), degrees + len(e) - 1
    assert degrees > 500
    # chi-square with many degrees is normal, variance 2 per degree; beyond 4.5 with probability 7e-6
    assert abs(chi - degrees) / np.sqrt(2 * degrees) < 4.5


# ---- the long run


def test_the_absorbing_cycle_of_shakespeare(paper):
    (cycle,) = absorbing_cycles(paper)
    assert (cycle.ordinary, cycle.triggers) == (("3",), (" ",))
    assert paper.kernel[paper.encode("3")[0], paper.encode(" ")[0]] == 1.0
    assert cycle.share == pytest.approx(0.008, abs=5e-4)  # the specification: 0.8 % of the sequences
    tokens = np.asarray(paper.sample(jax.random.key(5), 2048).inputs)
    three, space = paper.encode("3 ")
    for sequence in tokens[(tokens == three).any(1)]:
        tail = sequence[np.argmax(sequence == three) :]
        assert (tail[::2] == three).all() and (tail[1::2] == space).all()
    inside = ((tokens[:, -1] == three) | ((tokens[:, -1] == space) & (tokens[:, -2] == three))).mean()
    assert abs(inside - cycle.share) < 4.5 * np.sqrt(cycle.share / 2048)  # a binomial's standard error


@pytest.mark.parametrize("options", [{"smoothing": 1e-3}, {"drop": "3"}, {"variant": "bigram_shift"}, {"mix_p": 0.9}])
def test_what_removes_the_cycle(options):
    task = BigramBackcopy.tiny_shakespeare(**options)
    assert absorbing_cycles(task) == []
    (only,) = closed_classes(task)
    assert only.share == pytest.approx(1.0, abs=1e-9)  # float64 sums


def test_closed_classes_of_a_reducible_kernel():
    kernel = np.array(
        [[0.2, 0.3, 0.0, 0.0, 0.5], [0.3, 0.3, 0, 0, 0.4], [0, 0, 0.5, 0.5, 0], [0, 0, 0.5, 0.5, 0], [0.2] * 5]
    )
    task = BigramBackcopy.from_matrix(kernel, np.full(5, 0.2), tuple("abcdt"), triggers="t", length=10)
    found = closed_classes(task)
    assert [(c.ordinary, c.triggers) for c in found] == [(("a", "b"), ("t",)), (("c", "d"), ())]
    assert [c.share for c in found] == pytest.approx([0.5, 0.5], abs=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_stationary_law_is_the_limit_of_the_recursion(seed):
    kernel = np.random.default_rng(seed).dirichlet(np.ones(5), size=5)
    kernel = 0.8 * kernel + 0.04  # every entry >= 0.04, so that the chain forgets its start
    task = BigramBackcopy.from_matrix(kernel, triggers=(4, 0), length=2000, bos=False)
    law = stationary_law(task)
    last = occupation(task).current[-1]
    ordinary = ~task.is_trigger[:5]
    # s(x) <= 0.92 and every other state is met within a few steps: after 2000 the start is forgotten to rounding
    np.testing.assert_allclose(law.ordinary[ordinary], last[:5][ordinary], atol=1e-10)
    assert law.trigger_fraction == pytest.approx(last[[4, 0]].sum(), abs=1e-10)
    average = expected_risks(task)
    found = (law.trigger_fraction, law.bigram, law.overall, law.plateau)
    # the average over T positions differs from the limit by (time to forget) / T
    expected = (average.trigger_fraction, average.bigram, average.overall, average.plateau)
    assert found == pytest.approx(expected, abs=0.02)
