"""`make bench AGAINST=COMMIT`: the measures of another commit and of this tree, in turn, side by side.

    python -m tests.bench.against COMMIT [--only TEXT] [--rounds 3] [--quick]

The other commit is checked out in a temporary folder, and each round runs its measures and then ours, the next round
the other way around, every time in a fresh process of this environment. Printed are the medians over rounds and their
ratio: below 1, this tree has the smaller number. `spread` is the largest over the smallest ratio of the rounds: a ratio
nearer to 1 than that says nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parents[2]
Numbers = dict[str, list[float]]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("commit", help="what git calls it: a hash, a tag, HEAD~3")
    parser.add_argument("--only", default="", metavar="TEXT", help="only measures whose name contains TEXT")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured")
    parser.add_argument("--quick", action="store_true", help="few rounds inside a measure, too")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds: got {options.rounds}; allowed: 1 or more")
    extra = ["--only", options.only, *(["--quick"] if options.quick else [])]
    try:
        with checked_out(options.commit) as there:
            theirs, ours, machine = in_turn(there, extra, options.rounds)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{options.commit} against this tree, {options.rounds} rounds; {machine}")
    print(table(theirs, ours))
    return 0


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A folder with the files of `commit`, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "tree"
        git("worktree", "add", "--detach", str(where), commit)
        try:
            yield where
        finally:
            git("worktree", "remove", "--force", str(where))


def git(*words: str) -> None:
    done = subprocess.run(["git", "-C", str(HERE), *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"git {' '.join(words)}: {done.stderr.strip()}")


def in_turn(there: Path, extra: Sequence[str], rounds: int) -> tuple[Numbers, Numbers, str]:
    """The numbers of both trees by measure, a number a round; and the machine in a line."""
    found: dict[Path, Numbers] = {there: {}, HERE: {}}
    machine = ""
    for number in range(rounds):
        for tree in (there, HERE) if number % 2 == 0 else (HERE, there):
            for row in measured(tree, extra):
                found[tree].setdefault(f"{row['name']} [{row['unit']}]", []).append(row["value"])
                machine = f"{row['device']['kind']}, {row['cores']} cores, jax {row['versions']['jax']}"
    return found[there], found[HERE], machine


def measured(tree: Path, extra: Sequence[str]) -> list[dict]:
    """The lines that the benchmarks of a tree print."""
    environment = {**os.environ, "PYTHONPATH": str(tree)}  # before what is installed
    command = [sys.executable, "-m", "tests.bench", *extra]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the benchmarks in {tree} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(theirs: Numbers, ours: Numbers) -> str:
    """One line per measure; those that only one of the two has are named below."""
    both = [name for name in theirs if name in ours]
    lines = [f"{'measure':52s} {'theirs':>10s} {'ours':>10s} {'ratio':>7s} {'spread':>7s}"]
    for name in both:
        one, two = statistics.median(theirs[name]), statistics.median(ours[name])
        ratios = [b / a for a, b in zip(theirs[name], ours[name], strict=True) if a]
        spread = max(ratios) / min(ratios) if ratios and min(ratios) > 0 else float("nan")
        ratio = two / one if one else float("nan")
        lines.append(f"{name:52s} {one:10.4g} {two:10.4g} {ratio:7.3f} {spread:7.3f}")
    for told, names in (("only theirs", set(theirs) - set(both)), ("only ours", set(ours) - set(both))):
        lines += [f"{told}: {', '.join(sorted(names))}"] if names else []
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
