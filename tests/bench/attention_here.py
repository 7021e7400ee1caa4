"""Our side of `attention_over_torch`: softmax attention, causal, forward and backward; one line of JSON per request.

As a run on the command line has it: one single-threaded device per core, and the sequences shared out over them.
A request is `B H T K runs`; the answer holds the seconds of each run and the sum of squares of the three gradients.
"""

from __future__ import annotations

import json
import sys
import time

from attnlab.cpu import use_all_cores

use_all_cores()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from jax.sharding import Mesh, NamedSharding  # noqa: E402
from jax.sharding import PartitionSpec as P  # noqa: E402

from attnlab.attention import causal_mask, softmax  # noqa: E402


def prepared(shape: tuple[int, ...]):
    """The compiled gradient of `sum(out^2)` in `q, k, v [B, H, T, K]`, and its arguments."""
    mesh, spec = Mesh(np.array(jax.devices()), ("batch",)), P("batch")
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=shape).astype(np.float32) for _ in range(3)]
    arrays = [jax.device_put(x, NamedSharding(mesh, spec)) for x in drawn]

    def total(q, k, v):
        return jnp.sum(jnp.square(softmax.apply({}, q, k, v, mask=causal_mask(shape[-2])).out))

    one = jax.grad(total, (0, 1, 2))
    run = jax.jit(jax.shard_map(one, mesh=mesh, in_specs=(spec,) * 3, out_specs=(spec,) * 3, check_vma=False))
    return run.lower(*arrays).compile(), arrays


def main() -> None:
    programs = {}
    for line in sys.stdin:
        *shape, runs = map(int, line.split())
        key = tuple(shape)
        if key not in programs:
            programs[key] = prepared(key)
        program, arrays = programs[key]
        seconds, processor, found = [], [], None
        for _ in range(runs):
            began, busy = time.perf_counter(), time.process_time()
            found = jax.block_until_ready(program(*arrays))
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - busy)
        squares = sum(float(np.sum(np.square(np.asarray(x, np.float64)))) for x in found or ())
        print(json.dumps({"seconds": seconds, "processor": processor, "squares": squares}), flush=True)


if __name__ == "__main__":
    main()
