"""A first look at any run: the scrubber over its attention, KQ and OV maps, and its HTML report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from attnlab import analysis
from attnlab.config import require
from attnlab.report.figures import dynamics
from attnlab.report.html import write_report
from attnlab.report.notebook import show as show_widget
from attnlab.report.scrubber import Panel, Scrubber, log_spaced_indices
from attnlab.trajectory import Trajectory
from attnlab.trajectory import open as open_trajectory
from attnlab.trajectory.files import is_remote

LARGEST_VOCABULARY = 128  # wider circuits are unreadable as a picture and heavy as a file
CURVES = ("backcopy", "excess_bigram", "loss", "overall")
_VECTORS = "Read its activations with model.apply(params, inputs, tape=('*',))."


def scrubber(trajectory: Trajectory, model: Any = None, task: Any = None, frames: int = 40) -> Scrubber:
    """Attention, KQ and OV maps of a run over training, with its losses.

    A model that reads tokens needs a record of parameters (KQ and OV between tokens) or of `analysis.attention_maps`
    (attention), under any name. A model with `circuits(params)` needs the record `params`; its KQ and OV are between
    coordinates of its vectors, the unidentified columns of KQ shown as 0.

    Args:
      trajectory: the run.
      model, task: those of the run; default: rebuilt from its manifest.
      frames: at most this many steps, evenly in log.

    Raises:
      ValueError: neither is recorded. ConfigError: a model of vectors without `circuits`: it has no such maps.
    """
    model = analysis.model_of(trajectory) if model is None else model
    task = analysis.task_of(trajectory) if task is None else task
    if hasattr(model, "circuits"):
        return _regression(trajectory, model, frames)
    require(getattr(model, "vocab_size", None) is not None, "model", model, "one that reads tokens", _VECTORS)
    names = tuple(getattr(task, "names", None) or map(str, range(model.vocab_size)))
    maps, params = _record(trajectory, "weights"), _record(trajectory, "unembed") or _record(trajectory, "wv")
    if maps is None and params is None:
        raise ValueError(
            f"{trajectory.path}: neither attention maps nor parameters are recorded (records: "
            f"{', '.join(trajectory.records)}). Train with record={{'params': al.log_spaced(40), "
            "'maps': al.log_spaced(40, of=al.analysis.attention_maps(task))}}."
        )
    common = set.intersection(*(set(trajectory.steps(r).tolist()) for r in (maps, params) if r is not None))
    steps = np.array(sorted(common))
    steps = steps[log_spaced_indices(steps, frames)]
    panels = [] if maps is None else _attention(trajectory, maps, steps, names)
    if params is not None and len(names) <= LARGEST_VOCABULARY:
        panels += _circuits(trajectory, params, steps, model, names)
    at, curves = _curves(trajectory)
    return Scrubber(steps=steps, seeds=trajectory.seeds, panels=panels, curves=curves, curve_steps=at)


def show(run: Any, **options: Any) -> Any:
    """Scrub a run in a notebook: attention, KQ and OV over training.

    Args:
      run: a `Run`, a `Trajectory`, the path of a run directory, or a `Scrubber`.
      options: passed to `scrubber`.
    """
    if isinstance(run, Scrubber):
        return show_widget(run)
    return show_widget(scrubber(_as_trajectory(run), **options))


def _beside(run: Path) -> Path:
    return Path(f"{run.name}.html") if is_remote(run) else run / "report.html"


def run_report(path: str | Path, out: str | Path | None = None) -> Path:
    """Write `report.html` into a run directory (or to `out`): curves, scrubber, configuration, versions.

    Of a run in an object store it is `<name>.html` in the current folder.
    """
    trajectory = _as_trajectory(path)
    figures = {}
    for record in trajectory.records:
        data = _dataset(trajectory, record)
        scalars = {
            name: np.asarray(data[name]) for name in CURVES if name in data and data[name].dims == ("seed", "step")
        }
        scalars = {name: values for name, values in scalars.items() if np.isfinite(values[:, 1:]).any()}
        if scalars and data.sizes["step"] > 2:
            shown = {name: values[:, 1:] for name, values in scalars.items()}
            log_y = tuple(name for name, values in shown.items() if np.nanmin(values) > 0)
            figures[f"Record `{record}`"] = dynamics(np.asarray(data.step)[1:], shown, log_y=log_y, title=record)
    environment = trajectory.manifest["environment"]
    summary = trajectory.summary or {}
    return write_report(
        _beside(trajectory.path) if out is None else out,
        title=f"Run {trajectory.path.name}",
        summary=f"Step {trajectory.last_step}, {len(trajectory.seeds)} seeds.",
        figures=figures,
        scrubbers={"Attention, KQ and OV over training": scrubber(trajectory)} if _has_maps(trajectory) else {},
        config={"config": trajectory.config, "summary": summary},
        versions={k: v for k, v in environment["packages"].items() if v} | {"python": environment["python"]},
        commands=[f"attnlab report {path}"],
    )


def _has_maps(trajectory: Trajectory) -> bool:
    """Whether `scrubber` can show the model of this run."""
    model = analysis.model_of(trajectory)
    return hasattr(model, "circuits") or getattr(model, "vocab_size", None) is not None


def _as_trajectory(run: Any) -> Trajectory:
    if isinstance(run, Trajectory):
        return run
    return run.trajectory if hasattr(run, "trajectory") else open_trajectory(run)


def _dataset(trajectory: Trajectory, record: str) -> Any:
    """A record as a Dataset, also if it is a single array."""
    data = trajectory[record]
    return data if hasattr(data, "data_vars") else data.to_dataset(name=record)


def _record(trajectory: Trajectory, leaf: str) -> str | None:
    """The first record that has a leaf of this name."""
    return next((record for record in trajectory.records if leaf in _dataset(trajectory, record)), None)


def _attention(trajectory: Trajectory, record: str, steps: np.ndarray, names: tuple[str, ...]) -> list[Panel]:
    data = trajectory[record]
    chosen = data["weights"].sel(step=steps)  # [S, N, n, L, H, T, T]
    tokens = np.asarray(data["tokens"].isel(step=0, seed=0))
    panels = []
    for sequence in range(chosen.shape[2]):
        labels = [names[t] for t in tokens[sequence]]
        for layer in range(chosen.shape[3]):
            for head in range(chosen.shape[4]):
                frames = np.asarray(chosen[:, :, sequence, layer, head])
                if np.isfinite(frames).all():
                    name = f"attention, sequence {sequence + 1}, layer {layer}, head {head}"
                    panels.append(Panel(name, frames, labels, labels, row_title="query", col_title="key"))
    return panels


def _circuits(
    trajectory: Trajectory, record: str, steps: np.ndarray, model: Any, names: tuple[str, ...]
) -> list[Panel]:
    readers = {
        "KQ": (analysis.kq_tokens, "key token", "query token"),
        "OV": (analysis.ov_tokens, "attended token", "output token"),
    }
    places = [(layer, head) for layer in range(model.num_layers) for head in range(model.num_heads)]
    places = [(layer, head) for layer, head in places if layer not in getattr(model, "no_attention", ())]

    @jax.jit
    @jax.vmap
    def read(params: Any) -> dict[str, Any]:
        return {
            f"{name}, layer {layer}, head {head}": reader(model, params, layer, head).dense()
            for name, (reader, _, _) in readers.items()
            for layer, head in places
        }

    found = [jax.device_get(read(trajectory.params_at(int(step), record=record))) for step in steps]
    panels = []
    for name in sorted(found[0]):
        _, row, column = readers[name[:2]]
        frames = np.stack([one[name] for one in found], axis=1)  # [S, N, V, V]
        panels.append(Panel(name, frames, names, names, kind="diverging", row_title=row, col_title=column))
    return panels


def _regression(trajectory: Trajectory, model: Any, frames: int) -> Scrubber:
    """KQ and OV of every head and layer, between coordinates of tokens."""
    if "params" not in trajectory.records:
        raise ValueError(
            f"{trajectory.path}: no parameters are recorded. Train with record={{'params': log_spaced(40)}}."
        )
    steps = trajectory.steps("params")
    steps = steps[log_spaced_indices(steps, frames)]
    outputs = [f"y{i + 1}" if model.num_outputs > 1 else "y" for i in range(model.num_outputs)]
    names = [*(f"x{i + 1}" for i in range(model.dim)), *outputs]

    @jax.jit
    @jax.vmap
    def read(params: Any) -> tuple[jax.Array, jax.Array]:
        kq, ov = model.circuits(params)
        seen = analysis.identified_part(kq, model.num_outputs)
        return seen.reshape(-1, *kq.shape[-2:]), ov.reshape(-1, *ov.shape[-2:])

    found = [jax.device_get(read(trajectory.params_at(int(step)))) for step in steps]
    kq, ov = (np.stack([one[part] for one in found], axis=1) for part in (0, 1))  # [S, N, L H, D, D or m]
    written = outputs if ov.shape[-1] == model.num_outputs else names
    panels = []
    for number in range(kq.shape[2]):
        layer, head = divmod(number, model.num_heads)
        place = f"layer {layer}, head {head}"
        panels.append(Panel(f"KQ, {place}", kq[:, :, number], names, names, "diverging", "key", "query"))
        panels.append(Panel(f"OV, {place}", ov[:, :, number], names, written, "diverging", "attended", "written to"))
    at, curves = _curves(trajectory)
    return Scrubber(steps=steps, seeds=trajectory.seeds, panels=panels, curves=curves, curve_steps=at)


def _curves(trajectory: Trajectory) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """The risks if they are recorded, else the training loss."""
    for record in trajectory.records:
        data = _dataset(trajectory, record)
        found = {n: np.asarray(data[n]) for n in ("backcopy", "excess_bigram") if n in data}
        if found:
            return np.asarray(data.step), found
    loss = trajectory["loss"]
    return np.asarray(loss.step)[1:], {"loss": np.asarray(loss)[:, 1:]}
