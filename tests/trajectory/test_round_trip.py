"""What was written is what is read: values, bits, dtypes, steps, labels."""

import pickle
import tempfile
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import xarray as xr
import zarr
from flax import struct
from hypothesis import given, settings
from hypothesis import strategies as st
from small_run import ENDS, RECORDS, SEEDS, append, begin, expected, rows_of, spec

from attnlab import trajectory
from attnlab.trajectory import RunDirError
from attnlab.trajectory.leaves import flatten, unflatten


def same_bits(found, wanted) -> bool:
    found, wanted = np.asarray(found), np.asarray(wanted)
    return found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()


def test_every_record_comes_back_bit_for_bit(run):
    opened = trajectory.open(run)
    assert opened.records == tuple(RECORDS)
    assert opened.seeds == SEEDS
    for name in ("embed", "mask", "count"):
        assert same_bits(opened.params[name].values, expected("params", name))
    assert same_bits(opened.sinks.bos.values, expected("sinks", "bos"))
    assert same_bits(opened.loss.values, expected("loss", "loss"))
    for record in RECORDS:
        wanted = np.concatenate([rows_of(chunk, record) for chunk in range(len(ENDS))])
        assert np.array_equal(opened.steps(record), wanted)
        assert np.array_equal(opened[record].step.values, wanted)
        assert np.array_equal(opened[record].seed.values, SEEDS)


def test_bfloat16_is_widened_for_xarray_and_kept_by_params_at(run):
    opened = trajectory.open(run)
    wanted = expected("params", "half")
    assert same_bits(opened.params.half.values, wanted.astype(np.float32))
    step = int(opened.steps("params")[3])
    assert same_bits(opened.params_at(step, SEEDS[1])["half"], wanted[1, 3])
    assert float(opened.params.half.fillna(0).mean()) == pytest.approx(float(np.nan_to_num(wanted.astype("f4")).mean()))


def test_a_bare_array_is_a_data_array_and_a_tree_a_dataset(run):
    opened = trajectory.open(run)
    assert isinstance(opened.loss, xr.DataArray)
    assert opened.loss.dims == ("seed", "step")
    assert isinstance(opened.sinks, xr.Dataset)
    assert opened.sinks.bos.dims == ("seed", "step", "layer", "head")
    assert opened["sinks"] is opened.sinks
    assert "sinks" in dir(opened)


@pytest.mark.parametrize("index", [0, -1, slice(2, 5), slice(None, None, -1), [4, 0, 4], np.array([5, 1])])
def test_rows_can_be_indexed_in_every_way(run, index):
    """Indices over rows from several chunks, in any order, with repeats, agree with numpy's."""
    found = trajectory.open(run).params.embed.isel(step=index, seed=[2, 0], embed_0=slice(1, 4)).values
    assert same_bits(found, expected("params", "embed")[[2, 0]][:, index][..., 1:4, :])


def test_selection_by_nearest_step(run):
    opened = trajectory.open(run)
    steps = opened.steps("loss")
    for wanted in (0, 13, 39, 1000):
        near = steps[np.argmin(np.abs(steps - wanted))]
        assert int(opened.loss.sel(step=wanted, method="nearest").step) == near
    chosen = opened.sinks.sel(seed=5, step=[0, 12], method="nearest")
    assert chosen.bos.shape == (2, 2, 3)


def test_params_at(run):
    opened = trajectory.open(run)
    step = int(opened.steps("params")[4])
    one, every = opened.params_at(step, 8), opened.params_at(step)
    for name in RECORDS["params"]:
        wanted = expected("params", name)
        assert same_bits(one[name], wanted[2, 4])
        assert same_bits(every[name], wanted[:, 4])
    one["embed"][:] = 0  # a copy: later reads do not see it
    assert same_bits(opened.params_at(step, 8)["embed"], expected("params", "embed")[2, 4])
    assert same_bits(opened.params_at(1000, 8, method="nearest")["count"], expected("params", "count")[2, -1])
    assert same_bits(opened.params_at(11, 3, record="sinks")["bos"], expected("sinks", "bos")[0, 4])
    assert same_bits(opened.params_at(0, 3, record="loss"), expected("loss", "loss")[0, 0])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(step=3), "step 3 was not recorded.*nearest: 1"),
        (dict(step=1, seed=4), r"seed 4 is not in this run; seeds: \[3, 5, 8\]"),
        (dict(step=1, record="weights"), "no record 'weights'; records: params, sinks, loss, never"),
        (dict(step=1, record="never"), "'never' .* has no snapshot"),
        (dict(step=1, method="pad"), "method = 'pad'; allowed: None, 'nearest'"),
        (dict(step=1, like={"embed": 0}), "only in the record"),
    ],
)
def test_questions_that_have_no_answer(run, arguments, said):
    with pytest.raises(RunDirError, match=said):
        trajectory.open(run).params_at(**arguments)


def test_unknown_attributes_are_attribute_errors(run):
    opened = trajectory.open(run)
    with pytest.raises(AttributeError, match="no record or attribute 'weights'; records: params"):
        _ = opened.weights
    with pytest.raises(RunDirError, match="no record 'weights'"):
        _ = opened["weights"]
    assert not hasattr(opened, "_anything")


def test_a_trajectory_can_be_pickled(run):
    """Analyses run in worker processes."""
    opened = pickle.loads(pickle.dumps(trajectory.open(run)))
    assert same_bits(opened.loss.values, expected("loss", "loss"))


def test_description(run, tmp_path):
    text = repr(trajectory.open(run))
    assert "finished, 4 of 4 chunks, step 40 of 40, 3 seeds" in text
    assert "params: 6 snapshots, steps 0 to 31: embed float32[5, 4]" in text
    assert "... (4 leaves)" in text
    assert "never: 0 snapshots, none yet" in text
    assert "<table>" in trajectory.open(run)._repr_html_()
    writer = begin(tmp_path / "other")
    append(writer, 0)
    assert "unfinished, 1 of 4 chunks, step 10 of 40" in repr(trajectory.open(tmp_path / "other"))


def test_metadata_of_the_run(run):
    opened = trajectory.open(run)
    assert opened.config == {"width": 64}
    assert opened.summary is not None and opened.summary["outcome"] == [0, 0, 1]
    assert [line["last_step"] for line in opened.journal] == list(ENDS)
    assert opened.last_step == 40 and opened.finished
    assert opened.journal[0]["seconds"] == 0.25


def test_plain_zarr_and_xarray_read_the_store(run):
    """No program of ours is needed: padding is at step -1, labels are in the store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of xarray and zarr about what is not ours
        plain = xr.open_zarr(run / "trajectory.zarr", group="sinks", chunks=None)
        params = xr.open_zarr(run / "trajectory.zarr", group="params", chunks=None).load()
        attributes = dict(zarr.open_group(run / "trajectory.zarr", mode="r")["params/half"].attrs)
    assert same_bits(plain.bos.values, expected("sinks", "bos"))
    assert np.array_equal(plain.seed.values, SEEDS)
    kept = params.isel(step=params.step.values >= 0)
    assert np.array_equal(kept.step.values, trajectory.open(run).steps("params"))
    assert same_bits(kept.embed.values, expected("params", "embed"))
    assert np.isnan(params.embed.values[:, params.step.values < 0]).all()
    assert same_bits(kept.half.values.view(ml_dtypes.bfloat16), expected("params", "half"))
    assert attributes == {"bits_of": "bfloat16"}


@settings(max_examples=12)  # each makes a store and some 20 files: 0.2 s
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=4),
    done=st.integers(0, 4),
    data=st.data(),
)
def test_any_schedule(rows, done, data):
    """Whatever number of rows each chunk yields, and wherever the run stopped: the rows are those, in order."""
    done, ends = min(done, len(rows)), [10 * (chunk + 1) for chunk in range(len(rows))]
    plan = trajectory.Plan(tuple(ends), {"a": tuple(a for a, _ in rows), "b": tuple(b for _, b in rows)})
    written = {"a": [], "b": []}
    steps = {"a": [], "b": []}
    with tempfile.TemporaryDirectory() as folder:
        path = trajectory.create(Path(folder) / "run", {})
        writer = trajectory.TrajectoryWriter(path, {"a": spec((2,)), "b": {"x": spec((), np.int16)}}, plan, seeds=2)
        for chunk in range(done):
            count_a, count_b = rows[chunk]
            a = np.arange(2 * count_a * 2, dtype=np.float32).reshape(2, count_a, 2) + chunk
            b = np.arange(2 * count_b, dtype=np.int16).reshape(2, count_b) - chunk
            at = {
                name: sorted(data.draw(st.sets(st.integers(10 * chunk + 1, 10 * chunk + 10), min_size=n, max_size=n)))
                for name, n in (("a", count_a), ("b", count_b))
            }
            writer.append(chunk, {"a": a, "b": {"x": b}}, at)
            for name, value in (("a", a), ("b", b)):
                written[name].append(value)
                steps[name] += at[name]
        opened = trajectory.open(path)
        wanted_a = np.concatenate([np.empty((2, 0, 2), np.float32), *written["a"]], axis=1)
        wanted_b = np.concatenate([np.empty((2, 0), np.int16), *written["b"]], axis=1)
        assert same_bits(opened.a.values, wanted_a)
        assert same_bits(opened.b.x.values, wanted_b)
        assert opened.steps("a").tolist() == steps["a"] and opened.steps("b").tolist() == steps["b"]
        assert trajectory.verify(path).ok


@struct.dataclass
class Block:
    query: jax.Array
    heads: int = struct.field(pytree_node=False, default=2)


def test_trees_of_models_are_named_by_dots_and_come_back(tmp_path):
    """Dataclasses, lists and dicts as jax knows them; `like` gives the same structure back."""
    tree = {"blocks": [Block(jnp.ones((2, 3))), Block(jnp.zeros((2, 3)))], "embed": {"table": jnp.ones(4)}}
    path = trajectory.create(tmp_path / "run", {})
    plan = trajectory.Plan((5,), {"params": (2,)})
    shapes = jax.eval_shape(lambda: tree)
    writer = trajectory.TrajectoryWriter(path, {"params": shapes}, plan, seeds=2)
    stacked = jax.tree.map(lambda leaf: np.stack([np.stack([leaf, leaf + 1])] * 2), tree)
    writer.append(0, {"params": stacked}, {"params": [0, 5]})
    opened = trajectory.open(path)
    assert set(opened.params) == {"blocks.0.query", "blocks.1.query", "embed.table"}
    plain = opened.params_at(5, 1)
    assert np.array_equal(plain["blocks"][1]["query"], np.ones((2, 3)))
    again = opened.params_at(5, 1, like=shapes)
    assert jax.tree.structure(again) == jax.tree.structure(tree)
    assert all(np.array_equal(a, b + 1) for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(tree), strict=True))


def test_flatten_and_unflatten_are_inverse():
    tree = {"a": [{"b": np.ones(2)}, np.zeros(3)], "c": {"d": {"e": np.ones(())}}}
    leaves = flatten(tree)
    assert list(leaves) == [("a", 0, "b"), ("a", 1), ("c", "d", "e")]
    back = unflatten(leaves)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert unflatten(flatten(np.ones(3))) is not None and unflatten({}) == {}


def test_sizes_at_the_edge(tmp_path):
    """Scalars, arrays without entries, records without leaves, one seed, one step."""
    path = trajectory.create(tmp_path / "run", {})
    records = {"scalar": spec(), "empty": {"x": spec((0, 3)), "y": spec((2,))}, "nothing": {}}
    plan = trajectory.Plan((1,), {"scalar": (1,), "empty": (1,), "nothing": (1,)})
    writer = trajectory.TrajectoryWriter(path, records, plan, seeds=1)
    data = {
        "scalar": np.ones((1, 1), np.float32),
        "empty": {"x": np.ones((1, 1, 0, 3), np.float32), "y": np.ones((1, 1, 2), np.float32)},
        "nothing": {},
    }
    writer.append(0, data, {name: [1] for name in records})
    opened = trajectory.open(path)
    assert opened.empty.x.shape == (1, 1, 0, 3) and opened.empty.x.values.size == 0
    assert opened.scalar.item() == 1.0
    assert list(opened.nothing) == [] and opened.steps("nothing").tolist() == [1]
    assert trajectory.verify(path).ok


def test_all_dtypes(tmp_path):
    names = [
        "bool",
        "int8",
        "uint16",
        "int64",
        "float16",
        "float32",
        "float64",
        "complex64",
        "bfloat16",
        "float8_e4m3fn",
    ]
    dtypes = {name: np.dtype(getattr(ml_dtypes, name, name)) for name in names}
    path = trajectory.create(tmp_path / "run", {})
    records = {"all": {name: spec((2,), dtype) for name, dtype in dtypes.items()}}
    data = {name: np.arange(12).reshape(2, 3, 2).astype(dtype) for name, dtype in dtypes.items()}
    plan = trajectory.Plan((5,), {"all": (3,)})
    trajectory.TrajectoryWriter(path, records, plan, seeds=2).append(0, {"all": data}, {"all": [0, 1, 2]})
    found = trajectory.open(path).params_at(1, record="all")
    for name in names:
        assert same_bits(found[name], data[name][:, 1]), name


def test_big_endian_and_strided_input_is_stored_right(tmp_path):
    path = trajectory.create(tmp_path / "run", {})
    writer = trajectory.TrajectoryWriter(path, {"x": spec((2,))}, trajectory.Plan((5,), {"x": (3,)}), seeds=2)
    values = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    writer.append(0, {"x": np.asfortranarray(values).astype(">f4")}, {"x": [1, 2, 3]})
    assert same_bits(trajectory.open(path).x.values, values)
