"""`python eight_devices.py FOLDER`: the tests' run on one device and on meshes of eight, in a process of its own."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path

import jax
import numpy as np
from training_cases import train

import attnlab as al

MESHES = {"seeds alone": 1, "pairs": 2, "fours": 4, "all eight": 8}


def main(folder: Path) -> None:
    jax.config.update("jax_num_cpu_devices", 8)
    found = {}
    plain = train(folder / "plain")
    for name, shards in MESHES.items():
        run = train(folder / name, devices=None, data_shards=shards)
        pairs = zip(jax.tree.leaves(plain.params), jax.tree.leaves(run.params), strict=True)
        error = max(float(np.abs(a - b).max()) for a, b in pairs)
        losses = [np.asarray(r.trajectory["loss"]) for r in (plain, run)]
        found[name] = {
            "error": error,
            "loss_error": float(np.nanmax(np.abs(losses[0] - losses[1]))),
            "devices": run.stats["devices"],
            "padded": run.stats["padded_seeds"],
        }
    asked = count()
    train(folder / "cut", devices=None, data_shards=4, stop=lambda: next(asked) > 0)
    rest = al.resume(folder / "cut", devices=jax.devices()[:2], progress=False)
    pairs = zip(jax.tree.leaves(plain.params), jax.tree.leaves(rest.params), strict=True)
    found["resumed"] = {
        "error": max(float(np.abs(a - b).max()) for a, b in pairs),
        "devices": rest.stats["devices"],
        "resumed_at": rest.stats["resumed_at"],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
