"""What all tasks of recall, state and length promise alike: pure sampling, plain values, clear errors."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import config
from toy_tasks import (
    MQAR,
    TASKS,
    CircuitMixture,
    ColouredObjects,
    Denoising,
    DistractorRecall,
    GraphWalk,
    GridQA,
    Group,
    IndirectObject,
    Induction,
    KVConflict,
    MarkedBag,
    MarkovText,
    NeedleCopy,
    PairedRecall,
    Parity,
    Passkey,
    PiecewiseRegression,
    Plateau,
    RegularLanguage,
    SingleRecall,
    StackedRecall,
    SwapTracking,
    TaskWithOracle,
    WordProblem,
)

S3 = Group("S3")
MADE = (
    MQAR(32, 12, 2),  # keys by Floyd's algorithm, values by sorting
    PairedRecall(6, 5, 3, 2, distinct_values=True),
    Parity("prefix", 6, bos=True),
    GraphWalk(6, (1, 2), 5),
    Denoising(2, 5, 2, ask="prefix"),
    Passkey(1, 3, 2, 6),
    Induction(8, 6, (2, 4)),
    SingleRecall(3, 2, 3),
    StackedRecall(6, 5, 4, 3),
    StackedRecall(6, 5, 4, 3, answer="vectors"),
    DistractorRecall(3, 5, 1, 1, 1),
    WordProblem(S3, 6, "swaps", bos=True),
    SwapTracking(3, 2),
    RegularLanguage(length=6, bos=True),
    PiecewiseRegression(2, 2, 2),
    GridQA(4, 3, 2, (1, 2), two_tokens=True, salient=1),
    NeedleCopy(4, 3, 2, "markov", joint=True),
    IndirectObject(),
    ColouredObjects(label_noise=0.5),
    MarkovText(length=4),
    CircuitMixture(),
    KVConflict(5, 4, 2, role=True, indicator="conflict"),
    MarkedBag(4, 5, 3, 2),
)
DRAWS_NORMALS = (Denoising, DistractorRecall, PiecewiseRegression, GridQA, MarkedBag)
COUNT = 2
# Normal numbers: their polynomials are contracted in a compiled program and not outside of one (a few units of 1e-7)
ROUNDING = 1e-5


def name_of(task) -> str:
    return type(task).__name__


def says_vectors(task) -> bool:
    return not hasattr(task, "vocab_size")


def outputs_width(task) -> int:
    return getattr(task, "num_outputs", task.dim) if says_vectors(task) else task.vocab_size


def same(a, b, exact: bool) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        if exact or not jnp.issubdtype(x.dtype, jnp.floating):
            np.testing.assert_array_equal(x, y)
        else:
            np.testing.assert_allclose(x, y, atol=ROUNDING, rtol=ROUNDING)


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(5), COUNT)


@pytest.fixture(scope="module")
def compiled(keys):
    """Of each task the batches of all keys by `vmap`, under jit, in one program."""
    samples = [functools.partial(task.sample, batch_size=4) for task in MADE]
    return jax.jit(lambda keys: [jax.vmap(sample)(keys) for sample in samples])(keys)


@pytest.fixture(scope="module")
def plain(keys):
    """Of each task the batch of every key, neither compiled nor mapped."""
    return [[task.sample(key, 4) for key in keys] for task in MADE]


def test_they_are_tasks():
    assert {type(task) for task in MADE} < set(TASKS)
    assert all(isinstance(task, TaskWithOracle) for task in MADE)


@pytest.mark.parametrize("place", range(len(MADE)), ids=[name_of(task) for task in MADE])
def test_same_key_same_batch_under_jit_and_vmap(keys, compiled, plain, place):
    task, exact = MADE[place], not isinstance(MADE[place], DRAWS_NORMALS)
    for i, one in enumerate(plain[place]):
        same(jax.tree.map(lambda leaf, i=i: leaf[i], compiled[place]), one, exact)
    one, other = plain[place]
    same(task.sample(keys[0], 4), one, exact=True)
    assert not np.array_equal(one.inputs, other.inputs)  # other keys, other batches
    assert not np.array_equal(one.inputs[0], one.inputs[1])


@pytest.mark.parametrize("task", MADE, ids=name_of)
def test_shapes_and_kinds(plain, task):
    batch = plain[MADE.index(task)][0]
    assert batch.inputs.shape[:2] == batch.targets.shape[:2] == batch.loss_mask.shape == (4, task.length)
    assert batch.loss_mask.dtype == jnp.float32 and float(batch.loss_mask.sum()) > 0
    assert all(where.shape == (4, task.length) and where.dtype == bool for where in batch.positions.values())
    if hasattr(task, "width"):
        assert batch.inputs.dtype == jnp.float32 and batch.inputs.shape[2] == task.width
    else:
        assert batch.inputs.dtype == jnp.int32 and int(batch.inputs.max()) < task.vocab_size


@pytest.mark.parametrize("task", MADE, ids=name_of)
def test_nothing_depends_on_x64_or_on_loose_promotion(keys, plain, task):
    """Same dtypes; and no draw of 64 bits, which would be another draw."""

    def everything(batch):
        best = task.oracle(batch)
        logits = best if says_vectors(task) else jnp.log(best)
        return best, task.risks(logits, batch)

    batch = plain[MADE.index(task)][0]
    narrow = jax.eval_shape(everything, batch)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = jax.eval_shape(everything, batch)
        program = str(jax.make_jaxpr(lambda key: task.sample(key, 4))(keys[0]))
        again = jax.eval_shape(lambda key: task.sample(key, 4), keys[0])
    assert "bit_width=32" in program or isinstance(task, DRAWS_NORMALS)  # `gaussian.normal` hashes by itself
    assert "bit_width=64" not in program
    assert [x.dtype for x in jax.tree.leaves(again)] == [x.dtype for x in jax.tree.leaves(batch)]
    assert jax.tree.map(lambda x: x.dtype, wide) == jax.tree.map(lambda x: x.dtype, narrow)


@pytest.mark.parametrize("task", MADE, ids=name_of)
def test_a_task_is_its_fields(task):
    """It goes to a file and back, equal tasks are equal and hash alike, and no field can be changed."""
    again = config.loads(config.dumps(task))
    assert again == task and hash(again) == hash(task) and type(again) is type(task)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.length = 3
    text = task.describe()
    assert text.splitlines()[-1] == task.reference and f"T = {task.length}" in text.replace("3 + 2", "5")
    assert all(isinstance(plateau, Plateau) and plateau.loss >= 0 for plateau in task.plateaus.values())


@pytest.mark.parametrize("task", MADE, ids=name_of)
def test_errors_of_calls(plain, task):
    batch, width = plain[MADE.index(task)][0], outputs_width(task)
    with pytest.raises(ValueError, match="batch_size: got 0; allowed is an integer >= 1"):
        task.sample(jax.random.key(0), 0)
    wanted = rf"logits: got shape \(4, {task.length}, 99\); allowed is \(4, {task.length}, {width}\); build the model"
    with pytest.raises(ValueError, match=wanted):
        task.risks(jnp.zeros((4, task.length, 99)), batch)


def test_first_use_inside_jit_leaves_no_tracer():
    task = GraphWalk(6, (1, 2), 5)
    jax.eval_shape(lambda key: task.risks(jnp.zeros((4, 5, 6)), task.sample(key, 4)), jax.random.key(0))
    assert task.sample(jax.random.key(0), 4).inputs.shape == (4, 5)
