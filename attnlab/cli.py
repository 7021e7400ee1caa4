"""The command line. Parsing and `list` load no jax, so `--help` answers at once."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from tyro.conf import OmitSubcommandPrefixes, Positional, arg, subcommand

from attnlab import hosts
from attnlab.cli_options import HostOptions, ModelOptions, OptimizerOptions, TaskOptions

Hosts = Annotated[HostOptions, arg(name="")]  # its options have no prefix


class UsageError(ValueError):
    """A command that cannot be carried out as given."""


def _parse_expectations(texts: Sequence[str]) -> dict[str, tuple[float | None, float | None]]:
    """`ID=LO:HI`, an empty end meaning none."""
    found = {}
    for text in texts:
        name, _, interval = text.partition("=")
        low, colon, high = interval.partition(":")
        try:
            if not colon:
                raise ValueError
            found[name] = (float(low) if low else None, float(high) if high else None)
        except ValueError:
            raise UsageError(f"--expect: got {text!r}; allowed is ID=LO:HI, e.g. A16.backcopy=:0.02") from None
    return found


@dataclasses.dataclass
class List:
    """What can be reproduced: studies, their presets and their claims."""

    study: Positional[str | None] = None
    """Show this study's claims in full."""

    def go(self) -> int:
        from rich.console import Console
        from rich.table import Table

        from attnlab.studies import STUDIES, find

        console = Console()
        for study in STUDIES if self.study is None else (find(self.study),):
            console.print(f"[bold]{study.name}[/bold]  {study.title}", highlight=False)
            console.print(f"  {study.reference}", style="dim", highlight=False)
            for preset in study.presets:
                count = len(study.shown(preset.name))
                minutes = "not measured" if preset.minutes is None else f"{preset.minutes:g} min"
                console.print(
                    f"  --preset {preset.name:8s} {count:3d} claims, {minutes:>12s}: {preset.describes}",
                    highlight=False,
                )
            if self.study is not None:
                table = Table("claim", "statement", "expected", "presets", "trust")
                for check in study.checks:
                    c = check.claim
                    table.add_row(c.id, c.statement, c.expected, " ".join(c.presets), c.trust)
                console.print(table)
        return 0


@dataclasses.dataclass
class Reproduce:
    """Reproduce a paper: train, measure, compare with theory; exit status 1 if a claim fails."""

    study: Positional[str]
    """Which study; `attnlab list` shows them."""
    preset: str = "laptop"
    """Its size: smoke, laptop, evening, paper."""
    path: Path | None = None
    """Folder for the results; must not exist. Default: a new one under runs/."""
    seeds: int | None = None
    """Number of seeds, in place of the preset's."""
    first_seed: int = 0
    """The first of them: 100 tests the claims on seeds 100, 101, ... that nobody has looked at."""
    precision: str = "full"
    """full, highest (exact products, on a TPU) or bfloat16 (transformers only)."""
    only: tuple[str, ...] = ()
    """Claims to check (ids or their beginnings, e.g. A16); default: all of the preset."""
    expect: tuple[str, ...] = ()
    """Try other expectations: ID=LO:HI, e.g. A16.backcopy=0:0.001 (a median outside fails)."""
    hosts: Hosts = dataclasses.field(default_factory=HostOptions)

    def go(self) -> int:
        from attnlab.studies import find

        study = find(self.study)
        seeds = study.preset(self.preset).seeds if self.seeds is None else self.seeds
        expect = _parse_expectations(self.expect)
        self.hosts.join(seeds)
        from attnlab.studies.reproduce import reproduce

        options = {n: getattr(self, n) for n in ("path", "seeds", "first_seed", "precision", "only")}
        options["expect"] = expect
        return _tell(study, reproduce(study, self.preset, say=_say, **options))


@dataclasses.dataclass
class Train:
    """Train one configuration over several seeds and record its trajectory."""

    task: TaskOptions = dataclasses.field(default_factory=TaskOptions)
    model: ModelOptions = dataclasses.field(default_factory=ModelOptions)
    optimizer: OptimizerOptions = dataclasses.field(default_factory=OptimizerOptions)
    steps: int = 2000
    """Updates."""
    seeds: int = 4
    """Number of seeds."""
    batch_size: int = 64
    """Sequences per update."""
    precision: str = "full"
    """full, highest (exact products: theory on a TPU) or bfloat16 (narrow activations, float32 sums)."""
    remat: str | None = None
    """What the gradient makes again and does not keep: none, attention or layers (long sequences)."""
    snapshots: int = 50
    """Times at which parameters, sink measures and attention maps are recorded, evenly in log step."""
    path: Path | None = None
    """Run directory; must not exist. Default: a new one under runs/."""
    config: Path | None = None
    """JSON file with these settings, e.g. {"model": {"width": 32}, "steps": 500}; it wins over the options."""
    hosts: Hosts = dataclasses.field(default_factory=HostOptions)

    def go(self) -> int:
        options = self if self.config is None else _with_file(self, self.config)
        options.hosts.join(options.seeds)
        from attnlab.studies.single import train

        run = train(options)
        print(run)
        print(run.trajectory)
        print(f"look at it:  attnlab report {run.path}")
        return _status(run)


@dataclasses.dataclass
class Compare:
    """Train any mechanisms on any task and lay them side by side: loss, oracle gap, sinks, entropy, speed."""

    task: str
    """bigram-backcopy, mqar, paired-recall, parity, graph-walk, denoising, passkey, induction, single-recall,
    stacked-recall, distractor-recall, word-problem, swap-tracking, regular-language, piecewise-regression."""
    mechanisms: tuple[str, ...]
    """Names, e.g. softmax sigmoid delta_net; a wrong one lists them all."""
    seeds: int = 3
    """Number of seeds."""
    steps: int = 1000
    """Updates."""
    batch_size: int = 32
    """Sequences per update."""
    learning_rate: float = 1e-3
    """Of AdamW."""
    precision: str = "full"
    """full, highest or bfloat16."""
    set: tuple[str, ...] = ()
    """Settings of the task, field=value: --set num_pairs=8 length=48."""
    model: tuple[str, ...] = ()
    """Settings of the transformer, field=value: --model num_layers=2 positions=none remat=layers."""
    path: Path | None = None
    """Folder for runs, table and pictures; must not exist. Default: a new one under runs/."""
    hosts: Hosts = dataclasses.field(default_factory=HostOptions)

    def go(self) -> int:
        from attnlab.studies.examples import mechanisms_called, pairs, task_called

        task, chosen = task_called(self.task, self.set), mechanisms_called(self.mechanisms)
        self.hosts.join(self.seeds)
        from attnlab.studies.compare import compare
        from attnlab.training.precision import called

        precision = called(self.precision)
        options = {n: getattr(self, n) for n in ("seeds", "steps", "batch_size", "learning_rate", "path")}
        found = compare(task, chosen, **options, precision=precision, say=_say, **pairs("--model", self.model))
        print(task.describe())
        print(found)
        print(f"median (range over {self.seeds} seeds); pictures: {found.path}/comparison.png, losses.png")
        return 0


@dataclasses.dataclass
class Sweep:
    """Train mechanisms x settings x learning rates x seeds as one list; one table, one picture, one page."""

    task: str
    """As for compare; a wrong one lists them all."""
    mechanisms: tuple[str, ...]
    """Names, e.g. softmax sigmoid delta_net; a wrong one lists them all."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Of AdamW. All of them, for all seeds, are one compiled program."""
    seeds: int = 3
    """Number of seeds."""
    steps: int = 1000
    """Updates."""
    batch_size: int = 32
    """Sequences per update."""
    precision: str = "full"
    """full, highest or bfloat16."""
    set: tuple[str, ...] = ()
    """Settings of the task, field=value, or several values to sweep: --set num_pairs=4,8 length=48."""
    model: tuple[str, ...] = ()
    """Settings of the transformer, the same way: --model width=32,64 positions=none."""
    path: Path | None = None
    """Folder for the runs, table, picture and page; must not exist. Default: a new one under runs/."""
    hosts: Hosts = dataclasses.field(default_factory=HostOptions)

    def go(self) -> int:
        from attnlab.studies.sweep import cells_called, entries_called, sweep

        self.hosts.join(entries_called(self.mechanisms, self.learning_rates, self.seeds))
        from attnlab.training.precision import called

        common = {n: getattr(self, n) for n in ("steps", "seeds", "batch_size")}
        common["precision"] = called(self.precision)
        cells = cells_called(self.task, self.mechanisms, self.learning_rates, self.set, self.model, **common)
        return _tell_sweep(sweep(cells, path=self.path, say=_say))


@dataclasses.dataclass
class Programs:
    """What a training step of every run of a preset costs on a chip that need not be here: a table, and JSON lines."""

    study: Positional[str | None] = None
    """Only this study's."""
    chips: tuple[str, ...] = ("v5e", "h100")
    """Of v4, v5e, v5p, v6e (TPU; compiled if libtpu is installed), a100, h100 (lowered)."""
    preset: str = "paper"
    """Whose sizes."""
    only: str = ""
    """Only programs whose name contains this."""
    kernels: bool = True
    """Whether the kernels are priced, too."""
    precision: str = "full"
    """Of the runs: full, highest or bfloat16."""
    remat: str | None = None
    """Of the runs, in place of the preset's: none, attention or layers. Runs without a choice are left out."""
    lower: bool = False
    """Lower only, compile nothing."""
    json: Path | None = None
    """Where to write one JSON line per program and chip."""

    def go(self) -> int:
        import itertools

        from rich.table import Table

        from attnlab import accelerators
        from attnlab.training.precision import called

        targets = [accelerators.chip(name) for name in self.chips]
        policies: Any = {"precision": called(self.precision), "remat": self.remat}
        steps = accelerators.paper_steps(self.preset, self.study, **policies)
        own = accelerators.kernels() if self.kernels and self.study is None else ()
        found = []
        for program in (p for p in itertools.chain(steps, own) if self.only in p.name):
            for target in targets:
                found.append(accelerators.price(program, target, False if self.lower else None))
                print(".", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
        if not found:
            raise UsageError(f"--only: got {self.only!r}, which is in no program's name.")
        table = Table(*found[0].row(), title="One training step of all seeds; kernels forward and backward")
        for one in found:
            table.add_row(*one.row().values())
        _console().print(table)
        for one in found:
            if one.why:
                print(f"{one.program} on {one.chip}: {one.why}")
        if self.json is not None:
            self.json.write_text("".join(json.dumps(one.to_json()) + "\n" for one in found))
        return 1 if any(one.state == "refused" for one in found) else 0


@dataclasses.dataclass
class Resume:
    """Go on with an interrupted run, study or sweep, bit for bit."""

    path: Positional[Path]
    """A run directory, or the folder of a study or a sweep."""
    hosts: Hosts = dataclasses.field(default_factory=HostOptions)

    def go(self) -> int:
        if _is_sweep(self.path):
            from attnlab.studies.sweep import resume_sweep
            from attnlab.training import open_sweep

            self.hosts.join(max(len(group.roots) for group in open_sweep(self.path).groups))
            return _tell_sweep(resume_sweep(self.path, say=_say))
        if (found := _study_in(self.path, self.hosts)) is not None:
            from attnlab.studies.reproduce import proceed

            return _tell(found[0], proceed(found[0], self.path, say=_say))
        from attnlab.trajectory import read_manifest

        self.hosts.join(read_manifest(self.path)["placement"]["devices"])
        from attnlab.training import resume

        run = resume(self.path)
        print(run)
        return _status(run)


@dataclasses.dataclass
class Verify:
    """Check every file of a run (or of all of a study or sweep) against its hash; exit status 1 if one differs."""

    path: Positional[Path]
    """A run directory, or the folder of a study or a sweep."""

    def go(self) -> int:
        from attnlab.trajectory import verify

        bad = 0
        if _is_sweep(self.path):
            from attnlab.training.sweep_folder import damaged

            for problem in damaged(self.path):
                bad += 1
                print(problem)
        for run in _runs_in(self.path):
            found = verify(run)
            bad += bool(found.problems)
            print(found)
        return 1 if bad else 0


@dataclasses.dataclass
class Report:
    """Write the HTML report of a run directory, or write a study's or a sweep's again from what is on disk."""

    path: Positional[Path]
    """A run directory, or the folder of a study or a sweep."""

    def go(self) -> int:
        if _is_sweep(self.path):
            from attnlab.studies.sweep_report import REPORT, rewrite

            where = rewrite(self.path).path / REPORT
        elif (found := _study_in(self.path)) is not None:
            from attnlab.studies.reproduce import open_lab, read_verdicts, write_report

            study, settings = found
            lab = open_lab(study, self.path, settings, None, _say)
            where = write_report(study, self.path, lab, read_verdicts(self.path), settings, None)
        else:
            from attnlab.report.quick import run_report

            where = run_report(self.path)
        print(where)
        return 0


@dataclasses.dataclass
class Open:
    """Say what a run directory holds, and how to read it from Python."""

    path: Positional[Path]
    """A run directory, or the folder of a study or a sweep."""

    def go(self) -> int:
        from attnlab.trajectory import open as open_trajectory

        if _is_sweep(self.path):
            from attnlab.training import open_sweep

            found = open_sweep(self.path)
            print(found)
            print(found.table)
            print(f"    from attnlab.training import open_sweep; table = open_sweep({str(self.path)!r}).table")
        for run in _runs_in(self.path):
            print(open_trajectory(run))
            print(f"    import attnlab as al; trajectory = al.open({str(run)!r})")
        return 0


Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Reproduce, subcommand("reproduce")]
    | Annotated[Train, subcommand("run")]
    | Annotated[Compare, subcommand("compare")]
    | Annotated[Sweep, subcommand("sweep")]
    | Annotated[Programs, subcommand("programs")]
    | Annotated[Resume, subcommand("resume")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Report, subcommand("report")]
    | Annotated[Open, subcommand("open")]
)

_DESCRIPTION = "attnlab: attention theory, from toy task to verdict. Start with `attnlab reproduce active-dormant`."


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Expected errors end with one line on stderr and exit status 2; failed claims with 1.

    Of several processes the first one speaks; but everyone says why it stops.
    """
    command: Any = tyro.cli(OmitSubcommandPrefixes[Command], args=arguments, prog="attnlab", description=_DESCRIPTION)
    try:
        return command.go()
    except KeyboardInterrupt:
        _say("interrupted; what was recorded is safe, `attnlab resume PATH` goes on")
        return 130
    except Exception as error:  # those that say themselves what to do become one line; all others keep their traceback
        if hosts.count() > 1:
            _give_up(error)
        if not _expected(error):
            raise
        print(f"attnlab: {error}", file=sys.stderr)
        return 2


def _give_up(error: Exception) -> None:
    """Say why, and end at once: the usual end would wait for the other processes, which may wait for this one."""
    import os
    import traceback

    told = f"attnlab: {error}\n" if _expected(error) else traceback.format_exc()
    print(told, end="", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(2 if _expected(error) else 1)


def _status(run: Any) -> int:
    """130 for a run that Ctrl-C ended early, 1 if a seed diverged, else 0."""
    if run.interrupted:
        raise KeyboardInterrupt
    return 1 if (run.outcome == 1).any() else 0


def _expected(error: Exception) -> bool:
    """Errors that say themselves what to do: ours, and missing files. Others keep their traceback."""
    ours = type(error).__module__.split(".")[0] in ("attnlab", "toy_tasks", "theory")
    raised_in = error.__traceback__
    while raised_in is not None and raised_in.tb_next is not None:
        raised_in = raised_in.tb_next
    where = "" if raised_in is None else raised_in.tb_frame.f_globals.get("__name__", "")
    deliberate = isinstance(error, ValueError) and where.split(".")[0] in ("attnlab", "toy_tasks", "theory")
    return ours or deliberate or isinstance(error, OSError)


def _say(text: str) -> None:
    if hosts.leads():
        print(text, file=sys.stderr, flush=True)


def _console() -> Any:
    """A log file has no width of its own."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=150)


def _tell(study: Any, outcome: Any) -> int:
    from attnlab.report import exit_status, summary_line, verdict_table
    from attnlab.studies.reproduce import REPORT

    console = _console()
    console.print(verdict_table(outcome.verdicts, title=study.title, show_statement=console.width >= 110))
    print(f"{summary_line(outcome.verdicts)}; {outcome.seconds / 60:.1f} minutes.")
    failed = [v.claim.id for v in outcome.verdicts if v.status == "failed"]
    if failed:
        print(f"failed: {', '.join(failed)}")
    print(f"report: {outcome.path / REPORT}")
    return exit_status(outcome.verdicts)


def _tell_sweep(found: Any) -> int:
    from attnlab.report.tables import as_text
    from attnlab.studies.sweep_report import BEST, REPORT, TABLE, headline, rows, summary

    print(as_text(rows(found)))
    print(f"median (range over seeds); {BEST} the learning rate with the best {headline(found)}")
    print(summary(found))
    print(f"report: {found.path / REPORT}; every seed: {found.path / TABLE}")
    return 0


def _is_sweep(path: Path) -> bool:
    from attnlab.training.sweep_folder import is_sweep

    return is_sweep(path)


def _study_in(path: Path, processes: HostOptions | None = None) -> tuple[Any, dict[str, Any]] | None:
    """The study whose folder this is, and its settings, with the cores in use; None for a run directory."""
    from attnlab.studies.reproduce import SETTINGS, read_settings

    if not (path / SETTINGS).exists():
        return None
    from attnlab.studies import find

    settings = read_settings(path)
    (processes or HostOptions()).join(settings["seeds"])
    return find(settings["study"]), settings


def _runs_in(path: Path) -> list[Path]:
    """The run directory itself, or those of the folder of a study or a sweep."""
    from attnlab.studies.reproduce import SETTINGS

    if _is_sweep(path):
        from attnlab.training.sweep_folder import runs_of

        return runs_of(path)
    if (path / SETTINGS).exists():
        return sorted(p.parent for p in path.glob("runs/*/manifest.json"))
    return [path]


def _with_file(options: Train, file: Path) -> Train:
    """`options` with the settings of a JSON file; unknown keys are errors."""
    from attnlab.config import ConfigError, build

    try:
        given = json.loads(file.read_text())
    except json.JSONDecodeError as error:
        raise ConfigError(f"--config {file}: not JSON ({error}).") from error
    if not isinstance(given, dict):
        raise ConfigError(f"--config {file}: got {type(given).__name__}; allowed is an object of settings.")
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    for key, value in given.items():
        now = values.get(key)
        if dataclasses.is_dataclass(now) and isinstance(value, dict):
            inner = {f.name: getattr(now, f.name) for f in dataclasses.fields(now)}
            value = build(type(now), {**inner, **value})
        values[key] = value
    return build(Train, values)


if __name__ == "__main__":
    raise SystemExit(main())
