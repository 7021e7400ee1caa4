"""Run by `warm_start`: sets up a study's laptop run as the command line does; says `ready` when step 1 can begin."""

from __future__ import annotations

import sys

from attnlab.cpu import use_all_cores

use_all_cores(4)

import jax  # noqa: E402

from attnlab.training.devices import place  # noqa: E402
from attnlab.training.session import Session  # noqa: E402
from tests.bench.headline import settings  # noqa: E402

config = settings(sys.argv[1], seeds=4, record=True)
session = Session(config, place(4, config.model, config.seed_axis))
session.compile()
jax.block_until_ready(session.start())
print("ready", flush=True)
