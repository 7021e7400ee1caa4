"""The identities of InLine attention and what maps do with a query of twice the length, before any training."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from attnlab import analysis, attention
from attnlab.attention import recurrent_catalogue as recurrent
from attnlab.studies.injectivity.heads import last_rows
from attnlab.studies.injectivity.mechanisms import inline_relu
from theory import catalogue

WIDTH, KEYS = 16, 64
MAPS = {
    "softmax": attention.softmax,
    "linear_relu": recurrent.linear_relu,
    "linear_elu": recurrent.linear,
    "linear_exp": recurrent.Recurrent(
        "linear_exp_fifth", feature=recurrent.Each(recurrent.Exp(0.2)), normalizer=recurrent.SUM
    ),
    "inline": recurrent.inline,
    "inline_relu": inline_relu,
}


def identities(lab: Any) -> dict[str, float]:
    """Largest gaps of the mechanism (float32, chunks) to float64 theory, on outputs, over 24 tokens.

    weights: the weights `(s - mean s + 1)/n` of the prefix; covariance: mean value plus covariance read-out, prefix
    by prefix; rows: row sums less 1.
    """
    q, k, v = np.random.default_rng(0).normal(size=(3, 24, WIDTH)).astype(np.float32)
    given = [jnp.asarray(x)[None] for x in (q, k, v)]
    out = np.asarray(recurrent.inline.apply({}, *given).out)[0]
    rows = np.asarray(recurrent.inline.apply({}, *given, view="map").weights)[0]
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scale = WIDTH**-0.5
    weights = catalogue.inline_weights(scale * q @ k.T, causal=True)
    read = np.stack([catalogue.inline_readout(q[t], k[: t + 1], v[: t + 1], scale) for t in range(24)])
    return {
        "weights": np.abs(weights @ v - out).max(),
        "covariance": np.abs(read - out).max(),
        "rows": np.abs(rows.sum(axis=-1) - 1).max(),
    }


def taylor(lab: Any) -> dict[str, Any]:
    """`max |softmax(e s) V - InLine(e q)|` for small `e`, in float64, and the power of `e` with which it falls."""
    rng = np.random.default_rng(1)
    scores, values = rng.normal(size=(KEYS, KEYS)), rng.normal(size=(KEYS, WIDTH))
    sizes = np.array([0.1, 0.01, 0.001])
    gaps = []
    for size in sizes:
        full = catalogue.truncated_weights(size * scores, None, causal=False)
        gaps.append(np.abs((full - catalogue.inline_weights(size * scores)) @ values).max())
    power = np.polyfit(np.log(sizes), np.log(gaps), 1)[0]
    return {"sizes": sizes, "gaps": np.array(gaps), "power": power}


def doubled(lab: Any) -> dict[str, float]:
    """`|A(2q) - A(q)| / |A(q)|` of each map: means over 64 Gaussian queries behind 64 Gaussian keys, 4 draws."""
    rng = np.random.default_rng(2)
    q, k = (jnp.asarray(rng.normal(size=(4, 1, KEYS, WIDTH)), jnp.float32) for _ in range(2))
    found = {}
    for name, mechanism in MAPS.items():

        def attend(queries: Any, mechanism: Any = mechanism) -> Any:
            return last_rows(mechanism, {}, k, queries)

        found[name] = float(jnp.mean(analysis.collinear_change(attend, q)))
    return found


def bound(lab: Any) -> dict[str, float]:
    """Injectivity of InLine over 64 queries, and its exact least value over all, `σ_min(K - mean K) / (n sqrt(d))`."""
    rng = np.random.default_rng(3)
    q, k = (jnp.asarray(rng.normal(size=(1, 1, KEYS, WIDTH)), jnp.float32) for _ in range(2))
    centred = np.asarray(k, np.float64)[0, 0]
    _, sizes, directions = np.linalg.svd(centred - centred.mean(axis=0))
    least = sizes[-1] / (KEYS * WIDTH**0.5)
    worst = jnp.asarray(np.stack([0 * directions[-1], directions[-1]]), jnp.float32)[None, None]
    measured = [
        float(analysis.injectivity(lambda x: last_rows(recurrent.inline, {}, k, x), x)[0, 0]) for x in (q, worst)
    ]
    return {"random": measured[0] / least, "worst": measured[1] / least}


def ladder(lab: Any) -> dict[str, float]:
    """Risks of the best one-step predictors on the preset's regression: `mean`, `inline`, `debiased`, `softmax` ..."""
    from theory.icl import Setting

    law = lab.experiments["regression inline"].task.task
    setting = Setting(dim=law.dim, context=law.context, noise_variance=0.0)
    found = catalogue.predict_ladder(setting, [law.context, law.context + 1], prompts=4000)
    return {name: float(rung.values[0]) for name, rung in found.items()}


THEORY = {"identities": identities, "taylor": taylor, "doubled": doubled, "bound": bound, "ladder": ladder}
