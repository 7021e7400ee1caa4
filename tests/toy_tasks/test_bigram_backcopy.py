"""What the task means: who follows whom, what is never emitted, what stays the same under jit and vmap."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_tasks import TASKS, BigramBackcopy, TaskWithOracle


@pytest.fixture(scope="module")
def task() -> BigramBackcopy:
    return BigramBackcopy.tiny_shakespeare(num_triggers=3, length=64)


@pytest.fixture(scope="module")
def batch(task):
    return task.sample(jax.random.key(0), 1024)


def test_it_is_a_task(task):
    assert isinstance(task, TaskWithOracle)
    assert BigramBackcopy in TASKS


def test_vocabulary(task):
    assert (task.vocab_size, task.num_characters, task.bos_id) == (66, 65, 65)
    assert task.characters == tuple(sorted(task.characters))
    assert [task.characters[t] for t in task.triggers] == [" ", "e", "t"]
    five = BigramBackcopy.tiny_shakespeare(num_triggers=5)
    assert [five.characters[t] for t in five.triggers] == [" ", "e", "t", "o", "a"]
    assert BigramBackcopy.tiny_shakespeare(delimiter=True).vocab_size == 67
    assert BigramBackcopy.tiny_shakespeare(bos=False).bos_id is None
    assert BigramBackcopy.tiny_shakespeare(triggers="zq").triggers == tuple(task.encode("zq"))
    np.testing.assert_array_equal(task.encode(task.decode([3, 1, 43])), [3, 1, 43])
    assert task.decode([65, 1]) == "<s> "


def test_kernel_rows_are_laws(task):
    for made in (task, BigramBackcopy.tiny_shakespeare(delimiter=True), BigramBackcopy.tiny_shakespeare(bos=False)):
        assert made.kernel.shape == (made.vocab_size, made.vocab_size)
        np.testing.assert_allclose(made.kernel.sum(1), 1.0, rtol=1e-14)  # float64 sums of 65 terms
        assert (made.kernel[:, made.num_characters :] == 0).all()


def test_shapes_and_classes(task, batch):
    assert batch.inputs.shape == batch.targets.shape == batch.loss_mask.shape == (1024, 64)
    np.testing.assert_array_equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    positions = {name: np.asarray(mask) for name, mask in batch.positions.items()}
    assert set(positions) == {"trigger", "ordinary", "bos", "bigram"}
    np.testing.assert_array_equal(positions["trigger"], np.isin(batch.inputs, task.triggers))
    np.testing.assert_array_equal(positions["ordinary"], ~positions["trigger"])
    np.testing.assert_array_equal(positions["bos"], np.arange(64)[None] == np.zeros((1024, 1)))
    np.testing.assert_array_equal(positions["bigram"], positions["ordinary"] & ~positions["bos"])
    assert (batch.inputs[:, 0] == task.bos_id).all() and (batch.inputs[:, 1:] < 65).all()
    assert (batch.loss_mask == 1).all()


def test_triggers_copy_the_token_before_and_never_meet(batch):
    trigger = np.asarray(batch.positions["trigger"])
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    assert not trigger[:, :2].any()  # bos, and a first character that is never a trigger
    assert not (trigger[:, 1:] & trigger[:, :-1]).any()
    assert trigger.sum() > 10_000
    np.testing.assert_array_equal(targets[:, 1:][trigger[:, 1:]], inputs[:, :-1][trigger[:, 1:]])
    assert not np.isin(targets[trigger], task_triggers := np.unique(inputs[trigger])).any(), task_triggers


def test_transitions_of_probability_zero_never_happen(task, batch):
    chosen = np.asarray(batch.positions["ordinary"])
    used = task.kernel[np.asarray(batch.inputs)[chosen], np.asarray(batch.targets)[chosen]]
    assert (used > 0).all()


def test_without_bos_the_first_character_comes_first():
    task = BigramBackcopy.tiny_shakespeare(length=16, bos=False)
    batch = task.sample(jax.random.key(0), 512)
    assert batch.inputs.shape == batch.targets.shape == (512, 16)
    assert task.vocab_size == 65 and (batch.inputs < 65).all()
    assert not batch.positions["trigger"][:, 0].any() and not batch.positions["bos"].any()
    np.testing.assert_array_equal(batch.positions["bigram"], batch.positions["ordinary"])


def test_bigram_shift_continues_the_token_before():
    """A kernel that steps through a ring, with a trigger now and then: after it, the step of the token before."""
    ring = 0.8 * np.roll(np.eye(6), 1, axis=1)
    ring[:, 5] += 0.2
    task = BigramBackcopy.from_matrix(ring, triggers=(5,), variant="bigram_shift", length=40)
    batch = task.sample(jax.random.key(0), 64)
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    at = np.asarray(batch.positions["trigger"])[:, 1:] & (inputs[:, :-1] != 5)
    before, after = inputs[:, :-1][at], targets[:, 1:][at]
    assert ((after == before + 1) | (after == 5)).all() and at.sum() > 100
    oracle = np.asarray(task.oracle(batch))[:, 1:][at]
    np.testing.assert_allclose(oracle[:, :6], ring[before], atol=1e-7)  # float32 of the same numbers


def test_mixing_interpolates_the_oracle():
    options = {"num_triggers": 3, "length": 32}
    half = BigramBackcopy.tiny_shakespeare(**options, mix_p=0.5)
    batch = half.sample(jax.random.key(0), 64)
    whole, none = (BigramBackcopy.tiny_shakespeare(**options, mix_p=p).oracle(batch) for p in (1.0, 0.0))
    np.testing.assert_allclose(half.oracle(batch), (whole + none) / 2, atol=1e-7)  # float32 rounding
    np.testing.assert_array_equal(none, jnp.asarray(half.kernel, jnp.float32)[batch.inputs])
    trigger = np.asarray(batch.positions["trigger"])
    copied = np.asarray(batch.targets)[:, 1:] == np.asarray(batch.inputs)[:, :-1]
    share = copied[trigger[:, 1:]].mean()
    assert 0.45 < share < 0.70  # half, and the plain draws that happen to repeat; not all, as the plain task


def test_no_triggers_is_a_markov_chain():
    task = BigramBackcopy.tiny_shakespeare(num_triggers=0, length=16)
    batch = task.sample(jax.random.key(0), 32)
    assert not batch.positions["trigger"].any()
    np.testing.assert_allclose(task.kernel[task.num_characters, :65], task.marginal, rtol=1e-14)
    np.testing.assert_array_equal(task.oracle(batch), jnp.asarray(task.kernel, jnp.float32)[batch.inputs])


def test_smoothing_mixes_with_uniform(task):
    smooth = BigramBackcopy.tiny_shakespeare(smoothing=0.2)
    np.testing.assert_allclose(smooth.kernel[:65, :65], 0.8 * task.kernel[:65, :65] + 0.2 / 65, rtol=1e-14)
    np.testing.assert_array_equal(smooth.first_law, task.first_law)


def test_one_position():
    batch = BigramBackcopy.tiny_shakespeare(length=1).sample(jax.random.key(0), 3)
    assert batch.inputs.shape == (3, 1) and (batch.inputs == 65).all() and (batch.targets < 65).all()


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_same_key_same_batch_under_jit_and_vmap(task):
    keys = jax.random.split(jax.random.key(2), 3)
    plain = [task.sample(key, 5) for key in keys]
    assert equal(plain[0], task.sample(keys[0], 5)) and not equal(plain[0], plain[1])
    assert equal(plain[0], jax.jit(task.sample, static_argnums=1)(keys[0], 5))
    together = jax.vmap(lambda key: task.sample(key, 5))(keys)
    for i, one in enumerate(plain):
        assert equal(one, jax.tree.map(lambda leaf, i=i: leaf[i], together))


def test_nothing_depends_on_x64_or_on_loose_promotion(task):
    def everything(task):
        batch = task.sample(jax.random.key(0), 2)
        law = task.oracle(batch)
        return batch, law, task.ideal_attention(batch), task.oracle_risks(batch), task.risks(law, batch)

    plain = everything(task)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        wide = everything(task)
    assert [x.dtype for x in jax.tree.leaves(plain)] == [x.dtype for x in jax.tree.leaves(wide)]
    assert equal(plain[:3], wide[:3])


def test_first_use_inside_jit_leaves_no_tracer():
    task = BigramBackcopy.tiny_shakespeare(length=4)
    jax.jit(lambda key: task.oracle_risks(task.sample(key, 2)))(jax.random.key(0))
    assert task.sample(jax.random.key(0), 2).inputs.shape == (2, 4)


def test_a_task_is_its_fields():
    task = BigramBackcopy.tiny_shakespeare(length=32, smoothing=0.01, delimiter=True)
    fields = {f.name: getattr(task, f.name) for f in dataclasses.fields(task)}
    text = json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()})
    again = BigramBackcopy(**json.loads(text))
    assert again.triggers == task.triggers and again.names == task.names
    assert equal(again.sample(jax.random.key(0), 4), task.sample(jax.random.key(0), 4))


def test_fields_cannot_be_changed(task):
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.length = 3
    with pytest.raises(ValueError, match="read-only"):
        task.transition[0, 0] = 1.0


def test_ideal_attention_reads_what_the_oracle_needs(task, batch):
    attention = np.asarray(task.ideal_attention(batch))[:8]
    trigger = np.asarray(batch.positions["trigger"])[:8]
    np.testing.assert_array_equal(attention.sum(-1), 1.0)
    np.testing.assert_array_equal(np.triu(attention, 1), 0.0)
    rows, places = np.nonzero(trigger)
    assert (attention[rows, places, places - 1] == 1).all()
    assert (attention[~trigger][:, 0] == 1).all()


def test_describe_says_what_it_is(task):
    text = task.describe()
    assert "T = 64" in text and "' ' (0.152)" in text and "arXiv 2410.13835" in text
    assert "triggers: none" in BigramBackcopy.tiny_shakespeare(num_triggers=0).describe()
