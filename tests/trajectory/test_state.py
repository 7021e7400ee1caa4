"""Resumable state comes back bit for bit, and no trap of orbax is left open."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import struct

from attnlab.trajectory import DamagedFileError, RunDirError, state, verify


@struct.dataclass
class Train:
    params: dict
    opt: optax.OptState
    keys: jax.Array
    step: jax.Array


def make(number: float = 0.0) -> Train:
    params = {
        "w": jax.random.normal(jax.random.key(0), (3, 4)) + number,
        "half": (jnp.arange(5.0) / 3).astype(jnp.bfloat16),
        "mask": jnp.array([True, False]),
        "odd": jnp.array([jnp.nan, -0.0, jnp.inf, 1e-42], jnp.float32),
        "empty": jnp.zeros((0, 3)),
    }
    floats = {name: params[name] for name in ("w", "half")}
    return Train(params, optax.adamw(1e-3).init(floats), jax.random.split(jax.random.key(7), 3), jnp.int32(number))


def bits(leaf) -> tuple:
    if jnp.issubdtype(getattr(leaf, "dtype", np.dtype(int)), jax.dtypes.prng_key):
        return str(leaf.dtype), np.asarray(jax.random.key_data(leaf)).tobytes()
    return str(leaf.dtype), leaf.shape, np.asarray(leaf).tobytes()


def same(a, b) -> bool:
    return jax.tree.structure(a) == jax.tree.structure(b) and [*map(bits, jax.tree.leaves(a))] == [
        *map(bits, jax.tree.leaves(b))
    ]


def test_every_leaf_bit_for_bit(tmp_path, recwarn):
    """Dataclasses, optax's tuples, typed keys, bfloat16, nan; targets by eval_shape. No warning, nothing printed."""
    saved = make(3)
    assert state.latest(tmp_path / "state") is None and state.steps(tmp_path / "state") == []
    assert 0 < state.save(tmp_path / "state", 3, saved) < 60
    for like in (jax.eval_shape(make), saved):
        found = state.restore(tmp_path / "state", 3, like)
        assert same(found, saved)
        assert isinstance(found.opt[0], type(saved.opt[0]))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    assert not recwarn.list


def test_the_newest_two_are_kept(tmp_path):
    for step in (1, 5, 12, 100):
        state.save(tmp_path / "state", step, make(step))
    assert state.steps(tmp_path / "state") == [12, 100] and state.latest(tmp_path / "state") == 100
    assert {entry.name for entry in (tmp_path / "state").iterdir()} == {"12", "100"}
    assert same(state.restore(tmp_path / "state", 12, jax.eval_shape(make)), make(12))


def test_numpy_scalars_and_plain_values(tmp_path):
    """orbax refuses numpy scalars: they are saved as arrays. Python's own come back as they were."""
    tree = {
        "a": np.float32(1.5),
        "b": np.int64(2**40),
        "c": np.arange(3.0),
        "d": 0.1,
        "e": 7,
        "f": True,
        "g": "x",
        "h": None,
    }
    state.save(tmp_path / "state", 0, tree)
    found = state.restore(tmp_path / "state", 0, tree)
    assert {name: found[name] for name in "defgh"} == {name: tree[name] for name in "defgh"}
    for name in "abc":
        assert isinstance(found[name], np.ndarray) and bits(found[name]) == bits(np.asarray(tree[name]))


@pytest.mark.parametrize("bad", [object(), np.array([object()]), np.datetime64("2020-01-01")])
def test_what_cannot_be_saved_is_named_before_orbax_sees_it(tmp_path, bad):
    with pytest.raises(RunDirError, match=r"state\['a'\]\[0\] is .*allowed are arrays, typed PRNG keys"):
        state.save(tmp_path / "state", 1, {"a": [bad]})
    assert not list(tmp_path.iterdir())


def test_saving_twice_or_back_in_time_is_refused(tmp_path):
    state.save(tmp_path / "state", 5, {"a": jnp.ones(2)})
    for step in (5, 4):
        with pytest.raises(RunDirError, match=f"holds the state of step 5; step {step} must be above it"):
            state.save(tmp_path / "state", step, {"a": jnp.ones(2)})
    with pytest.raises(RunDirError, match=r"\['a'\] is float32\[2\] in the files, float32\[3\] here"):
        state.save(tmp_path / "state", 6, {"a": jnp.ones(3)})
    state.save(tmp_path / "state", 6, {"a": jnp.zeros(2)})
    state.drop_after(tmp_path / "state", 5)
    assert state.steps(tmp_path / "state") == [5]
    state.save(tmp_path / "state", 6, {"a": jnp.zeros(2)})
    state.drop_after(tmp_path / "state", -1)
    assert state.latest(tmp_path / "state") is None
    state.save(tmp_path / "state", 1, {"a": jnp.zeros(2)})


@pytest.mark.parametrize(
    ("like", "said"),
    [
        ({"a": jnp.ones(3)}, r"\['a'\] is float32\[2\] in the files, float32\[3\] here"),
        ({"a": jnp.ones(2, jnp.bfloat16)}, r"\['a'\] is float32\[2\] in the files, bfloat16\[2\] here"),
        (
            {"b": jnp.ones(2)},
            r"\['a'\] is float32\[2\] in the files, not there here; \['b'\] is not there in the files",
        ),
        ({"a": 1.0}, r"float here"),
        ({"a": jnp.ones(2), "b": jnp.ones(1)}, "not there in the files"),
    ],
)
def test_targets_that_do_not_fit(tmp_path, like, said):
    """orbax by itself would cast, cut or pad."""
    state.save(tmp_path / "state", 1, {"a": jnp.ones(2)})
    with pytest.raises(RunDirError, match=said):
        state.restore(tmp_path / "state", 1, like)
    with pytest.raises(RunDirError, match=r"holds no state of step 2; steps: \[1\]"):
        state.restore(tmp_path / "state", 2, like)


def test_a_damaged_state_is_not_restored(tmp_path):
    for step in (1, 2):
        state.save(tmp_path / "state", step, make(step))
    file = max((f for f in (tmp_path / "state" / "2").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    with pytest.raises(DamagedFileError, match=r"is not what was written.*resume from one of the steps \[1\]"):
        state.restore(tmp_path / "state", 2, jax.eval_shape(make))
    assert same(state.restore(tmp_path / "state", 1, jax.eval_shape(make)), make(1))
    notes = tmp_path / "state.json"
    notes.write_text(notes.read_text().replace("float32", "float64"))
    with pytest.raises(DamagedFileError, match=r"state\.json is edited or damaged.*delete it to resume without"):
        state.restore(tmp_path / "state", 1, jax.eval_shape(make))
    notes.unlink()
    assert same(state.restore(tmp_path / "state", 1, jax.eval_shape(make)), make(1))


def test_shardings(tmp_path):
    """A state saved from two devices comes back to one, to two, or as asked."""
    devices = jax.devices()
    assert len(devices) >= 2, "the tests run on two virtual devices, see tests/conftest.py"
    mesh = jax.sharding.Mesh(np.array(devices[:2]), ("seed",))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("seed"))
    saved = {"w": jax.device_put(jnp.arange(8.0).reshape(4, 2), split), "n": jnp.int32(3)}
    state.save(tmp_path / "state", 1, saved)
    one = state.restore(tmp_path / "state", 1, jax.eval_shape(lambda: {"w": jnp.zeros((4, 2)), "n": jnp.int32(0)}))
    two = state.restore(tmp_path / "state", 1, saved)
    assert len(one["w"].devices()) == 1 and two["w"].sharding == split
    assert same(one, two) and np.array_equal(one["w"], np.arange(8.0).reshape(4, 2))


CHILD = """
    import sys
    import jax.numpy as jnp
    from attnlab.trajectory import state
    directory, first = sys.argv[1], int(sys.argv[2])
    for step in range(first, 10_000):
        state.save(directory, step, {"w": jnp.full((64, 1000), float(step)), "step": jnp.int32(step)})
        print(step, flush=True)
"""


def test_sigkill_while_saving(tmp_path):
    """The newest finished state is whole after each kill, saving goes on, and stale temporary folders disappear."""
    directory, first = tmp_path / "run" / "state", 0
    like = {"w": jnp.zeros((64, 1000)), "step": jnp.int32(0)}
    for pause in (0.03, 0.09):  # a save takes about 0.1 s; more kills were made by hand, each costs 4 s
        command = [sys.executable, "-c", textwrap.dedent(CHILD), str(directory), str(first)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(2)]
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout.read().split()]
        process.wait()
        process.stdout.close()
        latest = state.latest(directory)
        assert latest is not None and told[-1] <= latest <= told[-1] + 1
        for step in state.steps(directory):
            found = state.restore(directory, step, like)
            assert int(found["step"]) == step and bool((found["w"] == step).all())
        first = latest + 1
    state.save(directory, first, like)
    assert {entry.name for entry in directory.iterdir()} == {str(step) for step in state.steps(directory)}
    states = [problem for problem in verify(tmp_path / "run").problems if problem.file.startswith("state")]
    assert not states


def test_a_save_that_fails_ends_at_once(tmp_path):
    """What orbax raises gets out, the next save works, and the process ends without waiting for the one that failed."""
    code = """
        import sys, time
        import jax.numpy as jnp
        from orbax.checkpoint._src.serialization import jax_array_handlers as handlers
        from attnlab.trajectory import state

        def fail(*arguments, **named):
            raise OSError(28, "No space left on device")

        real = handlers.check_array_values
        for step, check in enumerate([real, fail, real, fail]):
            handlers.check_array_values = check
            try:
                state.save(sys.argv[1], step, {"w": jnp.full(3, step)})
            except OSError as error:
                print(step, error)
        print(time.time())
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    last = time.time() - float(done.stdout.split()[-1])
    assert last < 20, f"{last} s to end, against less than 1 if nothing waits and 300 if orbax does"
    assert "1 [Errno 28] No space left" in done.stdout and "3 [Errno 28]" in done.stdout
    assert state.steps(tmp_path / "state") == [0, 2]
    assert int(state.restore(tmp_path / "state", 2, {"w": jnp.zeros(3, jnp.int32)})["w"][0]) == 2


def test_half_removed_old_states_do_not_count(tmp_path):
    """orbax removes old states file by file; a kill in between leaves some of their files."""
    for step in (1, 2, 3):
        state.save(tmp_path / "state", step, {"a": jnp.ones(2)})
    (tmp_path / "state" / "1").mkdir()
    (tmp_path / "state" / "1" / "_CHECKPOINT_METADATA").write_text("{}")
    assert state.steps(tmp_path / "state") == [2, 3]
    state.save(tmp_path / "state", 4, {"a": jnp.ones(2)})
    assert state.steps(tmp_path / "state") == [3, 4]
    notes = json.loads((tmp_path / "state.json").read_text())
    assert set(notes["states"]) == {"3", "4"}


def test_quiet(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state.save(tmp_path / "state", 1, make())
        state.restore(tmp_path / "state", 1, jax.eval_shape(make))
    assert capfd.readouterr() == ("", "")
