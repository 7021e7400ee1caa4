"""How many random pairs each memory holds: cosine and nearest value by load, fidelity by age, chains, certainty."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.attention import recurrent_catalogue as known
from attnlab.studies.associative_memory.memories import (
    MEMORIES,
    Reads,
    draw,
    judge_reads,
    mean_and_error,
    reader,
    unit,
)
from theory import catalogue

WIDTH, RIDGE = 64, 1e-3
LOADS = {"smoke": (16, 32)}
ALL_LOADS = (16, 32, 64, 128, 256)

BEFORE_COSINE = {
    "hebb": (0.901, 0.826, 0.711, 0.578, 0.448),
    "oja": (0.844, 0.727, 0.558, 0.364, 0.205),
    "delta": (0.925, 0.846, 0.676, 0.442, 0.248),
    "delta_2": (0.989, 0.950, 0.782, 0.478, 0.251),
    "ridge": (1.0, 1.0, 0.990, 0.705, 0.502),
    "softmax": (1.0, 1.0, 1.0, 1.0, 1.0),
    "hedgehog": (0.901, 0.823, 0.701, 0.585, 0.458),
    "elu": (0.342, 0.247, 0.184, 0.125, 0.090),
}
BEFORE_RIGHT = {
    "hebb": (1.0, 1.0, 1.0, 0.98, 0.76),
    "oja": (1.0, 1.0, 0.93, 0.56, 0.26),
    "delta": (1.0, 1.0, 0.91, 0.52, 0.27),
    "delta_2": (1.0, 1.0, 0.98, 0.60, 0.27),
    "ridge": (1.0, 1.0, 1.0, 1.0, 0.89),
    "softmax": (1.0, 1.0, 1.0, 1.0, 1.0),
    "hedgehog": (0.97, 0.94, 0.87, 0.73, 0.52),
    "elu": (0.20, 0.10, 0.02, 0.02, 0.01),
}
"""Mean cosine and nearest-value accuracy at `ALL_LOADS`, measured before in NumPy with 6 draws."""


def loads(lab: Any) -> tuple[int, ...]:
    """Numbers of pairs at this preset."""
    return LOADS.get(lab.preset, ALL_LOADS)


def _draws(lab: Any) -> int:
    return 4 if lab.preset == "smoke" else 32


def read_all(lab: Any) -> dict[str, dict[int, Reads]]:
    """Memory -> load -> what was read, all on the same random pairs of width 64, in one pass (or two)."""

    def run() -> dict[str, dict[int, Reads]]:
        sizes = loads(lab)
        keys, values = draw(0, _draws(lab), sizes[-1], WIDTH)
        found: dict[str, dict[int, Reads]] = {}
        for name, memory in MEMORIES.items():
            read = reader(memory, _draws(lab), sizes[-1], WIDTH)
            reads = {n: read(keys, values, keys, n)[:, :n] for n in sizes}
            found[name] = {n: judge_reads(r, np.asarray(values)[:, :n]) for n, r in reads.items()}
        return found

    return lab.once(("associative_memory", "reads"), run)


def laws(lab: Any) -> dict[str, dict[int, Float[np.ndarray, " n"]]]:
    """Memory -> load -> predicted fidelity of every pair in the order of writing; for those that have a law."""
    return {
        "hebb": {n: np.full(n, float(catalogue.hebb_fidelity(n, WIDTH))) for n in loads(lab)},
        "delta": {n: catalogue.delta_fidelity(n, WIDTH) for n in loads(lab)},
        "oja": {n: catalogue.oja_fidelity(n, WIDTH, WIDTH) for n in loads(lab)},
        "ridge": {n: np.full(n, float(catalogue.ridge_fidelity(n, WIDTH, RIDGE))) for n in loads(lab)},
    }


def cosines(lab: Any) -> dict[str, float]:
    """`memory`: largest distance of the mean cosine from the table; `memory.law`: from the law; `error`."""
    found: dict[str, float] = {"error": 0.0}
    for name, by_load in read_all(lab).items():
        means, errors = np.transpose([mean_and_error(reads.cosine) for reads in by_load.values()])
        found[name] = float(np.max(np.abs(means - BEFORE_COSINE[name][: len(means)])))
        found["error"] = max(found["error"], float(errors.max()))
    for name, by_load in laws(lab).items():
        gaps = [read_all(lab)[name][n].fidelity.mean() - law.mean() for n, law in by_load.items()]
        found[f"{name}.law"] = float(np.max(np.abs(gaps)))
    return found


def rights(lab: Any) -> dict[str, float]:
    """`memory`: largest distance of the accuracy from the table; `law`: from the law of the Hebb memory, signed."""
    found = {}
    for name, by_load in read_all(lab).items():
        means = np.array([reads.right.mean() for reads in by_load.values()])
        found[name] = float(np.max(np.abs(means - BEFORE_RIGHT[name][: len(means)])))
    hebb = np.array([reads.right.mean() for reads in read_all(lab)["hebb"].values()])
    gaps = hebb - catalogue.nearest_accuracy(loads(lab), WIDTH, WIDTH)
    found["law"] = float(gaps[np.argmax(np.abs(gaps))])
    return found


def order(lab: Any) -> dict[str, float]:
    """Who holds more: mean cosine of delta less that of Hebb below and above the capacity, and the ends of the pass."""
    reads = read_all(lab)
    mean = {(name, n): reads[name][n].cosine.mean() for name in reads for n in loads(lab)}
    last = loads(lab)[-1]
    delta, hebb = reads["delta"][last].cosine, reads["hebb"][last].cosine
    halves = hebb[:, last // 2 :].mean(axis=1) - hebb[:, : last // 2].mean(axis=1)
    found = {
        "below": mean["delta", 16] - mean["hebb", 16],
        "above": max((mean["delta", n] - mean["hebb", n] for n in loads(lab) if n >= 2 * WIDTH), default=np.nan),
        "latest": float(np.max(np.abs(delta[:, -1] - 1))),
        "oldest": float(delta[:, 0].mean()),
        "hebb_trend": mean_and_error(halves)[0] / mean_and_error(halves)[1],
        "ridge": min(
            mean["ridge", n] - mean[name, n] for name in ("hebb", "oja", "delta", "delta_2") for n in loads(lab)
        ),
    }
    return {name: float(value) for name, value in found.items()}


# ---- chains of memories, and heads that share their values

NARROW, FEW, DEEPEST = 16, 9, 4  # width, pairs and reads of a chain: (n - 1)/d = 1/2
HEADS = (1, 2, 4)


def _fidelity(reads: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """`E[r . v] / sqrt(E |r|^2)` over all axes but the last, and its standard error by leaving draws `[R, ...]` out."""
    signal = np.sum(reads * values, axis=-1).reshape(len(reads), -1).mean(axis=1)
    energy = np.sum(reads * reads, axis=-1).reshape(len(reads), -1).mean(axis=1)
    rest = len(signal) - 1
    without = (signal.sum() - signal) / rest / np.sqrt((energy.sum() - energy) / rest)
    value = signal.mean() / np.sqrt(energy.mean())
    return float(value), float(np.sqrt(rest / (rest + 1) * np.sum((without - without.mean()) ** 2)))


def chains(lab: Any) -> dict[str, np.ndarray]:
    """Fidelity after 1 .. 4 reads in a row, measured, its error and its law, `[reads]` each.

    `shared`: all items go through the same chain, what one memory gives is the next one's query. `separate`: every
    memory holds the item that is followed, and other pairs beside it that no other memory knows.
    """
    draws = 64 if lab.preset == "smoke" else 2000
    read = reader(MEMORIES["hebb"], draws, FEW, NARROW)
    keys = [unit(jax.random.fold_in(jax.random.key(1), i), draws, FEW, NARROW) for i in range(2 * DEEPEST + 1)]
    shared, separate = keys[0], keys[0]
    rows: dict[str, list[float]] = {name: [] for name in ("shared", "shared_error", "separate", "separate_error")}
    for number in range(DEEPEST):
        code, nxt = keys[number], keys[number + 1]
        shared = read(code, nxt, shared, FEW)
        # The item in place 0 keeps its codes; the pairs beside it are drawn for this memory alone.
        own_keys = code if number == 0 else keys[DEEPEST + number].at[:, 0].set(code[:, 0])
        own_values = unit(jax.random.fold_in(jax.random.key(2), number), draws, FEW, NARROW).at[:, 0].set(nxt[:, 0])
        separate = read(own_keys, own_values, separate, FEW)
        for name, reads, place in (("shared", shared, slice(None)), ("separate", separate, slice(0, 1))):
            value, error = _fidelity(reads[:, place], np.asarray(nxt)[:, place])
            rows[name].append(value)
            rows[f"{name}_error"].append(error)
    depth = range(1, DEEPEST + 1)
    found = {name: np.array(values) for name, values in rows.items()}
    found["shared_law"] = np.array([catalogue.hebb_fidelity(FEW, NARROW, 1, depth_) for depth_ in depth])
    found["separate_law"] = np.array([catalogue.separate_fidelity(FEW, NARROW, 1, depth_) for depth_ in depth])
    return found


def redundancy(lab: Any) -> dict[str, np.ndarray]:
    """Fidelity of the mean over 1, 2, 4 heads with keys of their own and equal values: measured, error, law."""
    draws, pairs = (8, 32) if lab.preset == "smoke" else (32, 128)
    most = HEADS[-1]
    keys = unit(jax.random.key(3), draws * most, pairs, WIDTH)
    values = unit(jax.random.key(4), draws, pairs, WIDTH)
    read = reader(MEMORIES["hebb"], draws * most, pairs, WIDTH)
    reads = read(keys, jnp.repeat(values, most, axis=0), keys, pairs).reshape(draws, most, pairs, WIDTH)
    rows = [_fidelity(reads[:, :heads].mean(axis=1), np.asarray(values)) for heads in HEADS]
    law = [float(catalogue.hebb_fidelity(pairs, WIDTH, heads)) for heads in HEADS]
    return {"measured": np.array(rows)[:, 0], "error": np.array(rows)[:, 1], "law": np.array(law)}


def chain_gaps(lab: Any) -> dict[str, float]:
    """Largest distance of a chain, and of averaged heads, from its law, in standard errors."""
    told, heads = lab.theory("chains"), lab.theory("redundancy")
    found = {
        name: float(np.max(np.abs(told[name] - told[f"{name}_law"]) / told[f"{name}_error"]))
        for name in ("shared", "separate")
    }
    return found | {"redundancy": float(np.max(np.abs(heads["measured"] - heads["law"]) / heads["error"]))}


# ---- when every read is certain


def certain(lab: Any) -> dict[str, float]:
    """Keys that pass the worst-case criterion, against the bounds of how many should, and how they are read.

    `outside`: how far the share that passes lies outside its bounds, in binomial standard errors, the largest of the
    widths. `right`: share of right reads of those that pass, of a Hebb memory of orthonormal values. `beyond`: the same
    of 16 keys of width 64, of which none pass; `passes_beyond`: how many did.
    """
    draws = 50 if lab.preset == "smoke" else 400
    margin = catalogue.retrieval_margin()
    outside, right = [], []
    for width in (64, 256) if lab.preset == "smoke" else (64, 256, 1024):
        pairs = catalogue.worst_case_pairs(width, margin)
        passed, reads = _certain_reads(width, pairs, draws, margin)
        low, high = catalogue.error_free_probability(pairs, width, margin)
        share = passed.mean()
        error = np.sqrt(max(share * (1 - share), 1 / draws) / draws)
        outside.append(max(low - share, share - high, 0.0) / error)
        right.append(reads[passed].mean())
    passed, reads = _certain_reads(64, 16, draws, margin)
    found = {"outside": max(outside), "right": min(right), "beyond": reads.mean(), "passes_beyond": passed.mean()}
    return {name: float(value) for name, value in found.items()}


def _certain_reads(width: int, pairs: int, draws: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Which draws pass, `[R]`, and which reads are right, `[R, n]`: the rows of the mixing matrix are the reads of
    orthonormal values, and queries behind the pairs write nothing, for their keys are 0."""
    keys = unit(jax.random.fold_in(jax.random.key(5), width), draws, 1, pairs, width)
    answers = np.argmax(np.asarray(_mixing_matrix(keys))[:, 0, pairs:, :pairs], axis=-1)
    passed = [catalogue.error_free(k / np.linalg.norm(k, axis=1, keepdims=True), margin) for k in _float64(keys)]
    return np.array(passed), answers == np.arange(pairs)


@jax.jit
def _mixing_matrix(keys: Array) -> Array | None:
    nothing = jnp.zeros_like(keys)
    written, asked = jnp.concatenate([keys, nothing], axis=2), jnp.concatenate([nothing, keys], axis=2)
    return known.hebb.apply({}, asked, written, jnp.concatenate([nothing] * 2, axis=2), view="map").weights


def _float64(keys: Any) -> np.ndarray:
    return np.asarray(keys, np.float64)[:, 0]
