"""Run a study: train what its claims need, measure, judge, write verdicts, figures and one HTML report."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab import hosts
from attnlab.report.claims import Verdict, judge, unasserted, verdicts_from_json, verdicts_to_json
from attnlab.studies.base import Check, Interval, Study

SETTINGS, VERDICTS, REPORT, FIGURES = "study.json", "verdicts.json", "report.html", "figures"


class StudyFolderError(RuntimeError):
    """A study's folder that exists, is missing, or is not one."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What `reproduce` returns: where it is, what was found, seconds in all."""

    path: Path
    verdicts: tuple[Verdict, ...]
    seconds: float


def reproduce(
    study: Study,
    preset: str = "laptop",
    *,
    path: str | Path | None = None,
    seeds: int | None = None,
    first_seed: int = 0,
    precision: str = "full",
    only: Sequence[str] = (),
    expect: Mapping[str, Interval] | None = None,
    progress: bool | None = None,
    say: Any = None,
) -> Outcome:
    """Reproduce `study` at `preset` in a new folder.

    Args:
      study, preset: what, and at which size.
      path: the folder; must not exist. Default: `runs/<study>-<preset>`, with a number behind it if that exists.
      seeds: how many, in place of the preset's.
      first_seed: the first of them; another one is a test on seeds that nobody has looked at.
      precision: in which its runs are trained, by name (`attnlab.training.precision`); `highest` holds for what is
        measured afterwards, too.
      only: ids of claims (or their beginnings, `A16`); the others are left out.
      expect: id -> other allowed interval, to try an expectation of your own.
      progress: show bars. say: where to print what goes on (default: nowhere).

    Raises:
      ValueError: no such preset or claim. StudyFolderError: the folder exists.
    """
    size = study.preset(preset)
    seeds = size.seeds if seeds is None else seeds
    if seeds < 1:
        raise ValueError(f"--seeds: got {seeds}; allowed is an integer >= 1.")
    if first_seed < 0:
        raise ValueError(f"--first-seed: got {first_seed}; allowed is an integer >= 0.")
    _precision({"precision": precision})
    checks = study.shown(preset, only)
    known = {c.claim.id for c in checks}
    for name in expect or {}:
        if name not in known:
            raise ValueError(f"--expect: got {name!r}; allowed is one of {', '.join(sorted(known))}.")
    settings = {
        "study": study.name,
        "preset": preset,
        "seeds": seeds,
        "first_seed": first_seed,
        "precision": precision,
        "only": list(only),
        "expect": {k: list(v) for k, v in (expect or {}).items()},
    }
    folder = new_folder(path, f"{study.name}-{preset}", {SETTINGS: json.dumps(settings, indent=1)})
    return proceed(study, folder, progress=progress, say=say)


def proceed(study: Study, folder: str | Path, *, progress: bool | None = None, say: Any = None) -> Outcome:
    """Go on with the study in `folder`: finished runs are reused, interrupted ones resumed, all claims judged again."""
    folder = Path(folder)
    settings = read_settings(folder)
    say = say or (lambda text: None)
    preset, began = settings["preset"], time.perf_counter()
    expect: dict[str, Interval] = {k: (v[0], v[1]) for k, v in settings["expect"].items()}
    checks = study.shown(preset, settings["only"])
    lab = open_lab(study, folder, settings, progress, say)
    verdicts = []
    with _precision(settings).scope():
        for check in checks:
            verdict = _judge(check, lab, expect.get(check.claim.id, check.interval(preset)))
            asserted = preset in check.claim.presets or check.claim.id in expect
            verdicts.append(verdict if asserted else unasserted(verdict))
    hosts.lead(lambda: _write(folder / VERDICTS, verdicts_to_json(verdicts)))
    say("drawing the figures and the report")
    took = time.perf_counter() - began
    hosts.together(lambda: str(write_report(study, folder, lab, verdicts, settings, took)))  # nobody leaves before
    return Outcome(folder, tuple(verdicts), time.perf_counter() - began)


def read_settings(folder: str | Path) -> dict[str, Any]:
    """The settings of a study's folder. Raises `StudyFolderError` if it is none."""
    file = Path(folder) / SETTINGS
    try:
        return json.loads(file.read_text())
    except FileNotFoundError as error:
        raise StudyFolderError(f"{folder} is no study's folder: it has no {SETTINGS}.") from error
    except json.JSONDecodeError as error:
        raise StudyFolderError(f"{file} is damaged ({error}). Run the study again into another folder.") from error


def open_lab(study: Study, folder: Path, settings: Mapping[str, Any], progress: bool | None, say: Any) -> Any:
    """The lab of a study's folder. (Folders written before there was a choice of seeds began at 0.)"""
    first, precision = settings.get("first_seed", 0), _precision(settings)
    return study.open_lab(folder, settings["preset"], settings["seeds"], progress, say, first, precision)


def _precision(settings: Mapping[str, Any]) -> Any:
    """That of a study's folder; of older ones `full`."""
    from attnlab.training.precision import called

    return called(settings.get("precision", "full"))


def read_verdicts(folder: str | Path) -> tuple[Verdict, ...]:
    """The verdicts written last in a study's folder."""
    return tuple(verdicts_from_json((Path(folder) / VERDICTS).read_text()))


def write_report(
    study: Study,
    folder: Path,
    lab: Any,
    verdicts: Sequence[Verdict],
    settings: Mapping[str, Any],
    seconds: float | None = None,
) -> Path:
    """Figures as PNG files and the report as one HTML file; `seconds` is what the study took, if it was just run."""
    from attnlab.report import summary_line, write_figures
    from attnlab.report import write_report as write_html
    from attnlab.trajectory import environment

    drawn, scrubbers, runs = study.figures(lab), study.scrubbers(lab), lab.describe()
    if not hosts.leads():  # several processes train and measure together; one writes
        return folder / REPORT
    files = write_figures(folder / FIGURES, {name: figure for name, (_, figure) in drawn.items()})
    where = environment()
    first = settings.get("first_seed", 0)
    command = f"attnlab reproduce {study.name} --preset {settings['preset']} --seeds {settings['seeds']}"
    command += f" --first-seed {first}" if first else ""
    command += f" --precision {precision}" if (precision := settings.get("precision", "full")) != "full" else ""
    size = f"Preset {settings['preset']}, {settings['seeds']} seeds" + (f" from {first} on" if first else "")
    took = "" if seconds is None else f", {seconds / 60:.1f} minutes"
    packages = {k: v for k, v in where["packages"].items() if v}
    versions = {**packages, "python": where["python"], "devices": where["devices"], "source": where["source"]}
    return write_html(
        folder / REPORT,
        title=study.title,
        summary=f"{summary_line(verdicts)}. {size}{took}. {study.reference}",
        verdicts=verdicts,
        figures={caption: files[name] for name, (caption, _) in drawn.items()},
        scrubbers=scrubbers,
        config={**settings, "runs": runs},
        versions=versions,
        notes=study.notes,
        commands=[command],
    )


def _judge(check: Check, lab: Any, allowed: Interval) -> Verdict:
    before, trained = time.perf_counter(), lab.training_seconds
    values = check.measure(lab)
    predicted = check.predicted(lab) if callable(check.predicted) else check.predicted
    seconds = time.perf_counter() - before - (lab.training_seconds - trained)
    return judge(check.claim, values, *allowed, predicted=predicted, seconds=seconds)


def new_folder(path: str | Path | None, name: str, files: Mapping[str, str]) -> Path:
    """Make a folder, with these files in it: `path`, which must not exist, or the free one of `runs/<name>`."""

    def make() -> str:
        folder = free_folder(name) if path is None else Path(path)
        if folder.exists():
            raise StudyFolderError(
                f"{folder} exists; nothing in it was touched. Give another --path, or go on with "
                f"`attnlab resume {folder}`."
            )
        folder.mkdir(parents=True)
        for file, text in files.items():
            _write(folder / file, text)
        return str(folder)

    return Path(hosts.lead(make))


def free_folder(name: str) -> Path:
    """`runs/<name>`, or the first of `-2`, `-3`, ... that is free."""
    base = Path("runs") / name
    free, number = base, 2
    while free.exists():
        free, number = base.with_name(f"{base.name}-{number}"), number + 1
    return free


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)
