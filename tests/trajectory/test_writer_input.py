"""Bad input is one clear error, and nothing is changed by it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_run import DIMS, PLAN, RECORDS, SEEDS, append, begin, data_of, resume, rows_of, spec, store_bytes

from attnlab import trajectory
from attnlab.trajectory import Plan, RunDirError, TrajectoryWriter


@pytest.mark.parametrize(
    ("records", "dims", "said"),
    [
        ({"steps": spec()}, {}, "record name 'steps'.*becomes an attribute"),
        ({"a b": spec()}, {}, "record name 'a b'.*Python identifier"),
        ({"_x": spec()}, {}, "without a leading underscore"),
        ({"r": {"seed": spec()}}, {}, "leaf path 'seed' cannot be stored"),
        ({"r": {"a/b": spec()}}, {}, "contain a slash"),
        ({"r": {"__x": spec()}}, {}, "start with '__'"),
        ({"r": {"..": spec()}}, {}, "dots only"),
        ({"r": {"wq": spec(), "wQ": spec()}}, {}, "'wq' and 'wQ' are the same file where case does not count"),
        ({"r": {"a.b": spec(), "a": {"b": spec()}}}, {}, "two leaves have the same dotted path"),
        ({"r": {"x": 1.0}}, {}, "leaf 'x' is a float; a leaf must be an array"),
        ({"r": {"k": jax.eval_shape(lambda: jax.random.key(0))}}, {}, r"jax\.random\.key_data"),
        ({"r": {"x": spec((), np.dtype("U3"))}}, {}, "dtype <U3 cannot be stored; allowed: bool, int8"),
        ({"r": {"x": spec((2, 3))}}, {"r": {"x": ("a",)}}, r"dims = \('a',\) for shape \(2, 3\); needed: 2 different"),
        ({"r": {"x": spec((2, 3))}}, {"r": {"x": ("a", "a")}}, "needed: 2 different names"),
        ({"r": {"x": spec((2,))}}, {"r": {"x": ("step",)}}, "none of them 'seed', 'step'"),
        (
            {"r": {"x": spec((2,)), "y": spec((3,))}},
            {"r": {"x": ("a",), "y": ("a",)}},
            "'a' has size 2 in 'x' and 3 in 'y'",
        ),
        ({"r": {"x": spec((2,)), "y": spec((3,))}}, {"r": {"x": ("y",)}}, "'y' is a leaf and a dimension of 'x'"),
        ({"r": {"x": spec()}}, {"q": {}}, r"dims names the records \['q'\], which are not recorded; recorded: \['r'\]"),
        ({"r": {"x": spec((40_000, 4_000))}}, {}, "has 5120000000 bytes, more than 2147483647; record fewer rows"),
    ],
)
def test_records_that_cannot_be_stored(tmp_path, records, dims, said):
    path = trajectory.create(tmp_path / "run", {})
    plan = Plan((10,), {name: (4,) for name in records})
    with pytest.raises(RunDirError, match=said):
        TrajectoryWriter(path, records, plan, seeds=2, dims=dims)
    assert [entry.name for entry in path.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize(
    ("ends", "rows", "said"),
    [
        ((), {}, "at least one chunk"),
        ((10, 10), {}, "step numbers >= 0 that rise"),
        ((-5, 10), {}, "step numbers >= 0 that rise"),
        ((10, 20), {"r": (1,)}, r"plan\.rows\['r'\] = \(1,\): needed is one number >= 0 for each of 2 chunks"),
        ((10,), {"r": (-1,)}, "needed is one number >= 0"),
    ],
)
def test_plans_that_make_no_sense(ends, rows, said):
    with pytest.raises(RunDirError, match=said):
        Plan(ends, rows)


def test_plan_and_records_must_agree(tmp_path):
    path = trajectory.create(tmp_path / "run", {})
    with pytest.raises(RunDirError, match=r"plan\.rows has the records \['a'\], the schema \['b'\]"):
        TrajectoryWriter(path, {"b": spec()}, Plan((1,), {"a": (1,)}), seeds=1)
    for seeds in (0, (1, 1)):
        with pytest.raises(RunDirError, match="at least one, and no label twice"):
            TrajectoryWriter(path, {"a": spec()}, Plan((1,), {"a": (1,)}), seeds=seeds)
    with pytest.raises(trajectory.DamagedFileError, match=r"manifest\.json is missing"):
        TrajectoryWriter(tmp_path / "none", {"a": spec()}, Plan((1,), {"a": (1,)}), seeds=1)


def change(place: str, value):
    def apply(data: dict, steps: dict) -> None:
        where, name = place.split(".")
        {"data": data, "steps": steps, "params": data["params"]}[where][name] = value

    return apply


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (
            change("params.embed", np.zeros((3, 1, 5, 4), np.float32)),
            r"leaf 'embed' is float32\[3, 1, 5, 4\], expected float32\[3, 2, 5, 4\]",
        ),
        (change("params.embed", np.zeros((3, 2, 5, 4))), r"leaf 'embed' is float64\[3, 2, 5, 4\], expected float32"),
        (change("params.extra", np.zeros(3)), r"missing leaves \[\], unknown leaves \['extra'\]"),
        (change("data.params", {}), r"missing leaves \['count', 'embed', 'half', 'mask'\]"),
        (change("data.sinks", None), "record 'sinks'"),
        (change("data.other", np.zeros(3)), r"has data of \['other'\]; the records are"),
        (change("steps.sinks", [0, 1, 2]), r"steps of record 'sinks' = \[0, 1, 2\]: needed are 4 rising whole numbers"),
        (change("steps.sinks", [0, 1, 1, 2]), "rising whole numbers"),
        (change("steps.sinks", [0, 1, 2, 2.5]), "rising whole numbers"),
        (change("steps.sinks", [0, 1, 2, 11]), "between 0 and 10"),
        (change("steps.loss", None), "needed are 1 rising"),
    ],
)
def test_chunks_that_do_not_fit(tmp_path, bad, said):
    writer = begin(tmp_path / "run")
    data, steps = data_of(0), {record: rows_of(0, record) for record in RECORDS}
    bad(data, steps)
    before = store_bytes(tmp_path / "run")
    with pytest.raises(RunDirError, match=said):
        writer.append(0, data, steps)
    assert store_bytes(tmp_path / "run") == before and writer.chunks_done == 0
    append(writer, 0)
    assert trajectory.verify(tmp_path / "run").ok


def test_chunks_in_order_and_steps_that_rise(tmp_path):
    writer = begin(tmp_path / "run")
    with pytest.raises(RunDirError, match="chunk 1 is not the next one: 0 of 4 are in"):
        append(writer, 1)
    append(writer, 0)
    append(writer, 1)
    data, steps = data_of(2), {record: rows_of(2, record) for record in RECORDS}
    steps["sinks"] = np.asarray([14, 15, 16, 17])
    with pytest.raises(RunDirError, match="above 14, between 20 and 30"):
        writer.append(2, data, steps)
    for chunk in (2, 3):
        append(writer, chunk)
    with pytest.raises(RunDirError, match="chunk 4 is not the next one"):
        writer.append(4, {}, {})
    writer.finish({})
    with pytest.raises(RunDirError, match="the run is finished"):
        writer.finish({})


def test_records_without_rows_may_be_left_out(tmp_path):
    writer = begin(tmp_path / "run")
    data, steps = data_of(0), {record: rows_of(0, record) for record in RECORDS}
    del data["never"], steps["never"]
    writer.append(0, data, steps)
    assert trajectory.open(tmp_path / "run").never.x.shape == (3, 0, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(seeds=4), r"seeds \(3, 5, 8\) and \(0, 1, 2, 3\)"),
        (dict(dims={}), "record 'sinks'"),
        (dict(plan=Plan((10, 20, 30, 41), PLAN.rows)), "chunk ends"),
        (dict(plan=Plan(PLAN.ends, {**PLAN.rows, "loss": (1, 1, 1, 1)})), "record 'loss'"),
        (dict(records={**RECORDS, "loss": spec((), np.float64)}), "record 'loss'"),
    ],
)
def test_going_on_with_other_settings(tmp_path, change, said):
    append(begin(tmp_path / "run"), 0)
    same = dict(records=RECORDS, plan=PLAN, seeds=SEEDS, dims=DIMS)
    records, plan, seeds, dims = {**same, **change}.values()
    with pytest.raises(RunDirError, match=f"was begun with other settings.*{said}"):
        TrajectoryWriter(tmp_path / "run", records, plan, seeds=seeds, dims=dims)
    assert resume(tmp_path / "run").chunks_done == 1


def test_jax_arrays_are_taken(tmp_path):
    path = trajectory.create(tmp_path / "run", {})
    writer = TrajectoryWriter(path, {"x": jax.eval_shape(lambda: jnp.ones(2))}, Plan((5,), {"x": (1,)}), seeds=1)
    writer.append(0, {"x": jnp.ones((1, 1, 2))}, {"x": [3]})
    assert trajectory.open(path).x.values.tolist() == [[[1.0, 1.0]]]
