"""Trajectories: run directories that are self-describing, append-only, and survive `kill -9`.

- `create(path, manifest)` makes a run directory; `TrajectoryWriter` appends to it; `state` keeps what is needed to
  resume.
- `open(path)` reads what is there, lazily and labelled; `verify(path)` finds any flipped byte.
"""

from attnlab.trajectory.errors import DamagedFileError as DamagedFileError
from attnlab.trajectory.errors import RunDirError as RunDirError
from attnlab.trajectory.errors import RunExistsError as RunExistsError
from attnlab.trajectory.findings import Problem as Problem
from attnlab.trajectory.findings import Report as Report
from attnlab.trajectory.layout import Plan as Plan
from attnlab.trajectory.reader import Trajectory as Trajectory
from attnlab.trajectory.reader import open as open
from attnlab.trajectory.rundir import create as create
from attnlab.trajectory.rundir import environment as environment
from attnlab.trajectory.rundir import read_manifest as read_manifest
from attnlab.trajectory.verify import verify as verify
from attnlab.trajectory.writer import TrajectoryWriter as TrajectoryWriter
