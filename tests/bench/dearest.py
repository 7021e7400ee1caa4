"""Where the time of a headline run goes, read from a trace of the profiler.

    python -m tests.bench.dearest [bigram-backcopy | recall | regression | local-linear ...] [--steps N] [--keep FOLDER]

The laptop preset's main run of a study, one seed on one core, without records: a chunk of steps under
`jax.profiler.trace`, once compiled and warm. Times are each operation's own (a loop's without what runs in it), added
up by the line of our source that it came from and by kind, dearest first. Profiling itself costs some time per
operation, so small operations look dearer than they are. `--keep` leaves the trace where Perfetto or XProf can open it.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parents[2]


class Program(NamedTuple):
    """What is traced: `run()` does `steps` of it, `text` is the compiled program."""

    run: Callable[[], Any]
    text: str
    steps: int


class Cost(NamedTuple):
    """One kind of operation: where it is written, what it is, its own seconds, the compiled operations in it."""

    place: str
    kind: str
    seconds: float
    operations: tuple[str, ...]


def training(name: str, steps: int | None) -> Program:
    """A chunk of the study's run."""
    import jax

    from tests.bench.headline import settings
    from tests.bench.laptop import Steps

    config = settings(name, steps)
    run = Steps(config, jax.devices()[:1])
    return Program(run, run.session.program.as_text(), run.seed_steps)


def local_linear(steps: int | None) -> Program:
    """Local linear attention in blocks with its gradient, `T = 256, K = 32`, one head: its study trains nothing."""
    import jax
    import jax.numpy as jnp

    from attnlab.kernels import CG
    from tests.bench.local_linear import arrays, blockwise

    args, form, steps = arrays(256, 32), blockwise(CG), steps or 20
    run = jax.jit(jax.grad(lambda *x: jnp.sum(jnp.square(form(*x))), (0, 1, 2))).lower(*args).compile()

    def several() -> None:
        for _ in range(steps):
            jax.block_until_ready(run(*args))

    return Program(several, run.as_text(), steps)


def traced(program: Program, folder: Path) -> dict[str, float]:
    """Own seconds of each compiled operation, by its name."""
    import jax
    from jax.profiler import ProfileData

    program.run()
    with jax.profiler.trace(str(folder)):
        program.run()
    (path,) = folder.glob("**/*.xplane.pb")
    total: dict[str, float] = defaultdict(float)
    for plane in ProfileData.from_file(str(path)).planes:
        for line in plane.lines:
            for name, nanoseconds in own_times(line.events):
                total[name] += 1e-9 * nanoseconds
    return dict(total)


def own_times(events: Any) -> Iterator[tuple[str, float]]:
    """Of the compiled operations on one thread: what they took, without the operations that they contain."""
    found = []
    for event in events:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the reader, about itself
            compiled = "hlo_op" in dict(event.stats)
        if compiled:
            found.append((event.start_ns, -event.duration_ns, event.name))
    inside: list[tuple[float, str, list[float]]] = []  # (end, name, own time) of those that have not ended
    for start, negative, name in sorted(found):
        while inside and inside[-1][0] <= start:
            _, done, own = inside.pop()
            yield done, own[0]
        if inside:
            inside[-1][2][0] += negative
        inside.append((start - negative, name, [-negative]))
    for _, name, own in inside:
        yield name, own[0]


def costs(seconds: dict[str, float], text: str) -> list[Cost]:
    """Operations of the same line of source and the same kind together, dearest first."""
    places = written(text)
    groups: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for name, taken in seconds.items():
        groups[places.get(name, ("?", name))].append((taken, name))
    found = []
    for (place, kind), members in groups.items():
        names = tuple(name for _, name in sorted(members, reverse=True))
        found.append(Cost(place, kind, sum(taken for taken, _ in members), names))
    return sorted(found, key=lambda cost: -cost.seconds)


def written(text: str) -> dict[str, tuple[str, str]]:
    """`(file:line, kind)` of each operation of a compiled program, of a fusion its last; the innermost line of ours."""
    files = dict(re.findall(r'^(\d+) "([^"]*)"$', _table(text, "FileNames"), re.M))
    spots = re.findall(r"^(\d+) \{file_name_id=(\d+) .*? line=(\d+) ", _table(text, "FileLocations"), re.M)
    where = {spot: (files[file], line) for spot, file, line in spots}
    frames = re.findall(
        r"^(\d+) \{file_location_id=(\d+)(?: parent_frame_id=(\d+))?\}", _table(text, "StackFrames"), re.M
    )
    parents = {frame: (spot, parent) for frame, spot, parent in frames}

    def ours(frame: str) -> str:
        while frame in parents:
            spot, above = parents[frame]
            file, line = where[spot]
            if str(HERE) in file and ".venv" not in file:
                return f"{Path(file).relative_to(HERE)}:{line}"
            if above == frame:
                break
            frame = above
        return "?"

    found: dict[str, tuple[str, str]] = {}
    within: dict[str, tuple[str, str]] = {}  # by fused computation: the last operation in it that says where it is from
    computation = ""
    for line in text.splitlines():
        if head := re.match(r"%?(\S+) \(.*\{$", line):
            computation = head[1]
        head = re.match(r"\s*(?:ROOT )?%(\S+) = ", line)
        told = re.search(r'metadata=\{op_name="([^"]*)"(?:.*?stack_frame_id=(\d+))?', line)
        called = re.search(r"calls=%(\S+?)[,\s]", line)
        if head and told:
            backward = " (backward)" if "transpose(" in told[1] else ""
            within[computation] = found[head[1]] = ours(told[2] or ""), told[1].rpartition("/")[2] + backward
        elif head and called and called[1] in within:
            found[head[1]] = within[called[1]]
    return found


def _table(text: str, name: str) -> str:
    _, _, rest = text.partition(f"\n{name}\n")
    return rest.partition("\n\n")[0]


def main() -> None:
    names = ("bigram-backcopy", "recall", "regression", "local-linear")
    parser = argparse.ArgumentParser(prog="python -m tests.bench.dearest", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(names), metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--steps", type=int, help="steps under the profiler")
    parser.add_argument("--rows", type=int, default=10, help="operations told")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where the traces stay")
    options = parser.parse_args()
    if unknown := set(options.names) - set(names):
        parser.error(f"NAME: got {', '.join(sorted(unknown))}; allowed: {', '.join(names)}")
    for name in options.names:
        program = local_linear(options.steps) if name == "local-linear" else training(name, options.steps)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) if options.keep is None else options.keep / name
            found = costs(traced(program, kept), program.text)
        total = sum(cost.seconds for cost in found)
        print(f"\n{name}: {1e3 * total / program.steps:.3f} ms a step under the profiler")
        for cost in found[: options.rows]:
            compiled = ", ".join(cost.operations[:3]) + (", ..." if len(cost.operations) > 3 else "")
            print(f"{cost.seconds / total:6.1%}  {cost.place:48s} {cost.kind:34s} {compiled}")


if __name__ == "__main__":
    main()
