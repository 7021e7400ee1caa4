"""A program to be killed: begins or resumes the run at the path it is given, and appends until the end.

Prints a line when it starts to append. Every number depends on the chunk alone, so that any two ways to the end must
give the same bytes.
"""

import sys
from pathlib import Path

import numpy as np

from attnlab import trajectory

CHUNKS = 120
PLAN = trajectory.Plan(
    tuple(10 * (chunk + 1) for chunk in range(CHUNKS)),
    {"params": tuple(chunk % 4 for chunk in range(CHUNKS)), "loss": (10,) * CHUNKS},
)


class Spec:
    def __init__(self, *shape: int):
        self.shape, self.dtype = shape, np.dtype(np.float32)


RECORDS = {"params": {f"w{i}": Spec(64, 32) for i in range(4)}, "loss": Spec()}


def data(chunk: int) -> dict:
    rng = np.random.default_rng(chunk)
    params = {name: rng.standard_normal((3, chunk % 4, 64, 32)).astype(np.float32) for name in RECORDS["params"]}
    return {"params": params, "loss": rng.standard_normal((3, 10)).astype(np.float32)}


def steps(chunk: int) -> dict:
    return {"params": 10 * chunk + 1 + np.arange(chunk % 4), "loss": 10 * chunk + 1 + np.arange(10)}


def main(path: Path, back: int) -> None:
    """Go on after dropping `back` chunks, as a run does whose state is older than its journal."""
    if not path.exists():
        trajectory.create(path, {"config": {}, "created": "then", "environment": {}})
    writer = trajectory.TrajectoryWriter(path, RECORDS, PLAN, seeds=3)
    writer.truncate_to(max(writer.chunks_done - back, 0))
    print("appending", flush=True)
    for chunk in range(writer.chunks_done, CHUNKS):
        writer.append(chunk, data(chunk), steps(chunk), seconds=1.0)
    writer.finish({"codes": [0, 0, 0]})


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
