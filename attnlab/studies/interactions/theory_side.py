"""Decompositions without training: gates, bounds on random laws, pictures and questions, games of two players."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import toy_tasks as tt
from attnlab import analysis, keys
from theory import pid

DRAWS = 1000
SAMPLES = 2**18  # sequences behind the law of a variant of GridQA
ENTROPY = float(-(0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)))

GATES = {  # y of two even bits, and R, U1, U2, S in bits
    "XOR": (lambda a, b: a ^ b, (0, 0, 0, 1)),
    "AND": (lambda a, b: a & b, (0.311278, 0, 0, 0.5)),
    "OR": (lambda a, b: a | b, (0.311278, 0, 0, 0.5)),
    "UNQ": (lambda a, b: a, (0, 1, 0, 0)),
    "COPY": (lambda a, b: 2 * a + b, (0, 1, 1, 0)),
}

PLAIN = tt.GridQA(
    num_patches=2, num_shapes=2, num_colours=2, objects=(2, 2), prior=0.5, noise=0.05, blank=0.0, general=0.0
)
VARIANTS = {  # a task, and R, U1 (image), U2 (question), S in bits
    "image": (replace(PLAIN, objects=(1, 2), general=1.0), (0, 1, 0, 0)),
    "question": (replace(PLAIN, blank=1.0, prior=0.9), (0, 0, 1 - ENTROPY, 0)),
    "both": (PLAIN, (0, 0.5, 0, 0.5)),
}

GAMES = {  # v(empty), v(1), v(2), v(both), and I
    "AND": ((0, 0, 0, 1), (0, 0, 0, 1)),
    "XOR": ((0, 1, 1, 0), (0, 1, 1, -2)),
    "OR": ((0, 1, 1, 1), (0, 1, 1, -1)),
}


def gates(lab: Any) -> dict[str, Any]:
    """Parts of each gate `[R, U1, U2, S]`, and the largest error of all."""
    found: dict[str, Any] = {}
    for name, (rule, _) in GATES.items():
        p = np.zeros((2, 2, 4))
        for a in range(2):
            for b in range(2):
                p[a, b, rule(a, b)] += 0.25
        found[name] = np.array(pid.pid(p)[:4], float)
    same = np.zeros((2, 2, 2))
    same[0, 0, 0] = same[1, 1, 1] = 0.5
    found["RDN"] = np.array(pid.pid(same)[:4], float)
    wanted = {name: told for name, (_, told) in GATES.items()} | {"RDN": (1, 0, 0, 0)}
    return found | {"error": max(float(np.abs(found[name] - wanted[name]).max()) for name in wanted)}


def bounds(lab: Any) -> dict[str, Any]:
    """On random laws of three bits, exponential weights: how often each bound is crossed, how far it is off.

    `c=1` is the constant of the released code, `c=1/4` that of its notebook, `safe` the one proven in `theory.pid`.
    """
    draws = 100 if lab.preset == "smoke" else DRAWS
    laws = np.random.default_rng(0).exponential(size=(draws, 2, 2, 2))
    laws /= laws.sum(axis=(1, 2, 3), keepdims=True)
    synergy, known = pid.pid(laws).synergy, pid.synergy_bounds(laws)
    lower = {"agreement": known.agreement, "c=1/4": known.disagreement}
    lower |= {
        "safe": pid.synergy_bounds(laws, pid.SAFE).disagreement,
        "c=1": pid.synergy_bounds(laws, 1.0).disagreement,
    }
    slack = 2e-5  # the decomposition ends within 1e-6 of its optimum; entropies of the bounds
    found: dict[str, Any] = {name: int((bound > synergy + slack).sum()) for name, bound in lower.items()}
    found["upper"] = int((known.upper < synergy - slack).sum())
    found["positive"] = {name: int((bound > 0).sum()) for name, bound in lower.items()}
    return found | {"synergy": synergy, "values": lower | {"upper": known.upper}}


def grid(lab: Any) -> dict[str, Any]:
    """Parts of I(image, question; answer) `[R, U1, U2, S]` for variants of GridQA, from counted sequences.

    The image is the colour that each shape is seen to have, or its absence; a question names a shape or is general.
    """
    found: dict[str, Any] = {}
    for name, (task, told) in VARIANTS.items():
        found[name] = np.array(pid.pid(_law(task, SAMPLES // (64 if lab.preset == "smoke" else 1)))[:4], float)
        found[f"{name}.error"] = float(np.abs(found[name] - told).max())
    return found


def _law(task: tt.GridQA, sequences: int) -> np.ndarray:
    batch = jax.jit(task.sample, static_argnums=1)(keys.stream(keys.root(0), "law"), sequences)
    shape, colour = (np.asarray(batch.inputs[:, 1:-1, task.coordinates[name]]) for name in ("shape", "colour"))
    seen = np.einsum("bns,bn->bs", shape > 0, 1 + colour.argmax(axis=2))  # 0: the shape is not there
    image = seen @ (task.num_colours + 1) ** np.arange(task.num_shapes)
    asked = np.asarray(batch.inputs[:, -1, task.coordinates["asked"]])
    question = np.where(asked.any(axis=1), asked.argmax(axis=1), task.num_shapes)
    law = np.zeros(((task.num_colours + 1) ** task.num_shapes, task.num_shapes + 1, task.vocab_size))
    np.add.at(law, (image.astype(int), question, np.asarray(batch.targets[:, -1])), 1.0)
    return law[law.any(axis=(1, 2))] / sequences


def games(lab: Any) -> dict[str, float]:
    """Largest errors: dividends of gates, their sum against `v(N)`, those of an additive game of 8 players, Shapley."""
    rng = np.random.default_rng(1)
    gaps = [
        np.abs(np.asarray(analysis.harsanyi(jnp.asarray(v, jnp.float32))) - told).max() for v, told in GAMES.values()
    ]
    with jax.enable_x64(True):
        v = jnp.asarray(rng.normal(size=(50, 2**8)))
        worth = rng.normal(size=8)
        masks = analysis.coalition_masks(8)
        plain = np.asarray(analysis.harsanyi(jnp.asarray(masks @ worth)))
        return {
            "gates": float(max(gaps)),
            "sum": float(np.abs(analysis.harsanyi(v).sum(axis=1) - v[:, -1]).max()),
            "efficient": float(np.abs(analysis.shapley(v).sum(axis=1) - (v[:, -1] - v[:, 0])).max()),
            "additive": float(np.abs(plain[masks.sum(axis=1) >= 2]).max()),
        }


THEORY = {"gates": gates, "bounds": bounds, "grid": grid, "games": games}
