"""A probe over a recorded trajectory: measure afterwards what was not recorded during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from attnlab import config as configs
from attnlab.config import require
from attnlab.trajectory import Trajectory

if TYPE_CHECKING:
    import xarray as xr


def apply(
    trajectory: Trajectory,
    probe: Callable[[Any, Any], Any],
    model: Any = None,
    steps: Sequence[int] | None = None,
    record: str = "params",
) -> xr.Dataset:
    """`probe(model, params)` at every recorded step of every seed, labelled (seed, step, layer, head, ...).

    One program is compiled; one snapshot of all seeds is in memory at a time, the seeds are mapped over on the device.

    Args:
      trajectory: what `attnlab.open(path)` or `run.trajectory` gives.
      probe: what would have been recorded; a function of (model, params) whose result is a dict of arrays will do.
      model: default: the one in the run's manifest.
      steps: a subset of the recorded steps.
      record: the record that holds the parameters.

    Raises:
      ConfigError: the model cannot be rebuilt from the manifest, or the result is no dict.
      RunDirError: no such record or step, or parameters that are not this model's.
    """
    import xarray as xr

    model = model_of(trajectory) if model is None else model
    wanted = trajectory.steps(record) if steps is None else np.asarray(steps, np.int64)
    require(wanted.size > 0, "steps", steps, "one recorded step or more")
    like = jax.eval_shape(model.init, jax.random.key(0))

    @jax.jit
    def measure(params):
        return jax.lax.map(lambda one: probe(model, one), params)

    rows = []
    for step in wanted:
        params = trajectory.params_at(int(step), record=record, like=like)
        rows.append(flat(jax.device_get(measure(params))))
    dims = probe.dims(rows[0]) if hasattr(probe, "dims") else {}  # pyright: ignore[reportFunctionMemberAccess]
    found = {}
    for name, first in rows[0].items():
        axes = dims.get(name) or tuple(f"{name}_{axis}" for axis in range(first.ndim - 1))
        found[name] = xr.Variable(("seed", "step", *axes), np.stack([row[name] for row in rows], axis=1))
    coords = {"seed": np.asarray(trajectory.seeds), "step": wanted}
    return xr.Dataset(found, coords, {"record": record, "run": str(trajectory.path)})


def model_of(trajectory: Trajectory) -> Any:
    """The model in the run's manifest."""
    return _part(trajectory, "model")


def task_of(trajectory: Trajectory) -> Any:
    """The task in the run's manifest."""
    return _part(trajectory, "task")


def _part(trajectory: Trajectory, name: str) -> Any:
    config = trajectory.config
    known = isinstance(config, Mapping) and name in config
    require(known, name, None, f"a {name}", f"The run {trajectory.path} names none in its manifest; give one here.")
    return configs.decode(config[name])


def flat(tree: Any) -> dict[str, np.ndarray]:
    """Nested dicts of arrays as one dict with dotted names."""
    require(isinstance(tree, Mapping), "probe", type(tree).__name__, "one whose result is a dict of arrays")
    found: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": x for inner, x in flat(value).items()}
        else:
            found[str(name)] = np.asarray(value)
    return found
