"""What the mechanisms are, from their papers, in plain numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import exp, expm1, log, tanh

import numpy as np
from reference import Definition, Here, Mixed, Params, Row, Token, carry_out, dot


def sigma(x: float) -> float:
    return 1 / (1 + exp(-x))


def silu(x: float) -> float:
    return x * sigma(x)


def softplus(x: float) -> float:
    return log(1 + exp(x))


def elu(x: float) -> float:
    """`elu(x) + 1`."""
    return exp(x) if x < 0 else 1 + x


# Maps of a row.


def softmax(logits: Row, here: Here) -> Row:
    total = sum(exp(x) for x in logits)
    return [exp(x) / total for x in logits]


def pointwise(function: Callable[[float], float], divisor: Callable[[Row], float] | None = None):
    """`f(l) / divisor([f(l)])`."""

    def row(logits: Row, here: Here) -> Row:
        raw = [function(x) for x in logits]
        return raw if divisor is None else [x / divisor(raw) for x in raw]

    return row


def sigmoid_log_count(logits: Row, here: Here) -> Row:
    return [sigma(x - log(len(logits))) for x in logits]


def softpick(logits: Row, here: Here) -> Row:
    total = sum(abs(expm1(x)) for x in logits)
    return [max(expm1(x), 0.0) / total for x in logits]


def top(logits: Row, here: Here, power: float, at_least: int) -> Row:
    """Softmax of the largest, the others 0."""
    kept = sorted(range(len(logits)), key=lambda i: -logits[i])[: max(int(len(logits) ** power), at_least)]
    total = sum(exp(logits[i]) for i in kept)
    return [exp(x) / total if i in kept else 0.0 for i, x in enumerate(logits)]


def sparsemax(logits: Row, here: Here) -> Row:
    """The nearest point of the simplex: drop what would be negative, again and again."""
    kept = list(range(len(logits)))
    while True:
        tau = (sum(logits[i] for i in kept) - 1) / len(kept)
        positive = [i for i in kept if logits[i] > tau]
        if positive == kept:
            return [max(x - tau, 0.0) for x in logits]
        kept = positive


def entmax(logits: Row, alpha: float) -> Row:
    """`[(alpha - 1) l - tau]_+^(1 / (alpha - 1))`: 200 halvings of the interval in which `tau` lies."""
    z = [(alpha - 1) * x for x in logits]
    low, high = max(z) - 1, max(z)
    for _ in range(200):
        tau = (low + high) / 2
        p = [max(x - tau, 0.0) ** (1 / (alpha - 1)) for x in z]
        low, high = (tau, high) if sum(p) > 1 else (low, tau)
    return [x / sum(p) for x in p]


# Logits.


def relative_bucket(offset: int, number: int, farthest: int) -> int:
    """T5, causal: half of the buckets exact, the rest logarithmic."""
    if offset < 0:
        return 0
    exact = number // 2
    if offset < exact:
        return offset
    return min(number - 1, exact + int(log(offset / exact) / log(farthest / exact) * (number - exact)))


def buckets(params, h, t, u, q, k, scale, *, number: int, farthest: int) -> float:
    return scale * dot(q, k) + params["bucket"][h, relative_bucket(t - u, number, farthest)]


def offsets(params, h, t, u, q, k, scale, *, length: int, content: bool = False) -> float:
    offset = max(-(length - 1), min(length - 1, t - u))
    return params["offset"][h, offset + length - 1] + (scale * dot(q, k) if content else 0.0)


def positions(params, h, t, u, q, k, scale) -> float:
    return params["table"][h, t, u]


def zero(params, h, t, u, q, k, scale) -> float:
    return 0.0


def itself(params, h, t, u, q, k, scale) -> float:
    return float(t == u)


def ssa(here: Here) -> float:
    token = tanh(dot(here.params["temper"][here.h], here.q))
    return token + 1 + sigma(here.params["growth"][here.h]) * log(here.n)


def ssa_position(here: Here) -> float:
    return 1 + exp(-exp(here.params["growth"])) * log(here.n)


# Tokens.


def unit(y: np.ndarray) -> np.ndarray:
    return y / np.sqrt(dot(y, y))


def both(function):
    """The same for query and key."""
    return lambda params, token: (function(params, token.q), function(params, token.k), token.v)


def normed(params: Params, token: Token, *, center: bool = False):
    def norm(y, name):
        y = y - (sum(y) / len(y) if center else 0)
        y = y / np.sqrt(dot(y, y) / len(y) + 1e-6) * params[f"{name}_gain"]
        return y + params[f"{name}_shift"] if center else y

    return norm(token.q, "query"), norm(token.k, "key"), token.v


def key_only(params: Params, token: Token):
    score = sum(silu(a) * b for a, b in zip(token.q, token.k, strict=True)) / np.sqrt(len(token.q))
    rest = [0.0] * (len(token.q) - 1)
    return np.array([1.0, *rest]), np.array([score, *rest]), token.v


def mlp_features(params: Params, y: np.ndarray) -> np.ndarray:
    hidden = [max(dot(y, column), 0.0) for column in params["feature_up"].T]
    return np.array([dot(hidden, column) for column in params["feature_down"].T])


def tempered_value(params: Params, token: Token):
    tau = tanh(dot(params["value_temper"][token.h], token.v)) + 1
    tau += sigma(params["value_growth"][token.h]) * log(token.t + 1)
    return token.q, token.k, tau * token.v


def forget(params: Params, token: Token) -> float:
    return log(sigma(dot(token.x, params["forget"][:, token.h]) + params["forget_bias"][token.h]))


def alibi(params: Params, token: Token, *, heads: int) -> float:
    return -(2 ** (-8 * (token.h + 1) / heads))


# New weights from weights.


def reweight(weights: Row, here: Here, *, power: float) -> Row:
    less = 0 if here.n <= 3 else 1
    kept = [max(here.n * a - less, 0.0) ** power for a in weights]
    return [b / sum(kept) for b in kept]


def parallax(weights: Row, here: Here) -> Row:
    probe = np.array([dot(here.x, column) for column in here.params["probe"][:, here.h].T])
    mean = sum(a * dot(probe, k) for a, k in zip(weights, here.keys, strict=True))
    return [a * (1 + mean - dot(probe, k)) for a, k in zip(weights, here.keys, strict=True)]


def local_linear(weights: Row, here: Here) -> Row:
    """The intercept of the weighted ridge regression of any values on `k - q`: one row of the inverse normal matrix."""
    normal = np.diag([0.0, *[exp(here.params["log_ridge"][here.h])] * len(here.q)])
    designs = [np.array([1.0, *(k - here.q)]) for k in here.keys]
    for logit, design in zip(here.logits, designs, strict=True):
        normal = normal + exp(logit) * np.outer(design, design)
    first = np.linalg.solve(normal, np.eye(len(normal))[0])
    return [exp(logit) * dot(first, design) for logit, design in zip(here.logits, designs, strict=True)]


# Null columns.


def zero_logit(here: Here, scale: float):
    return 0.0, np.zeros_like(here.q)


def sink_logit(here: Here, scale: float):
    return float(here.params["sink"][here.h]), np.zeros_like(here.q)


def key(here: Here, scale: float):
    keys = here.params["key"]
    return scale * dot(here.q, keys[here.h % len(keys)]), np.zeros_like(here.q)


def key_and_value(here: Here, scale: float):
    return key(here, scale)[0], here.params["value"][here.h]


SOFTMAX = Definition(softmax)
LSSA = Definition(
    pointwise(softplus, sum),
    scale=1.0,
    token=both(lambda params, y: unit(y)),
    temper=lambda here: log(len(here.q)) * log(here.n),
)
FORGET = replace(SOFTMAX, tick=forget)
MLP_KERNEL = Definition(pointwise(float), token=both(mlp_features))

DEFINITIONS = {
    "softmax": SOFTMAX,
    "softmax_unscaled": replace(SOFTMAX, scale=1.0),
    "softmax_off_by_one": replace(SOFTMAX, null=zero_logit),
    "sink_logit": replace(SOFTMAX, null=sink_logit),
    "key_bias": replace(SOFTMAX, null=key),
    "key_bias_shared": replace(SOFTMAX, null=key),
    "kv_bias": replace(SOFTMAX, null=key_and_value),
    "value_bias": replace(SOFTMAX, value_bias=True),
    "qk_norm": replace(SOFTMAX, token=normed),
    "qk_layernorm": replace(SOFTMAX, token=partial(normed, center=True)),
    "cosine": replace(
        SOFTMAX,
        scale=1.0,
        token=both(lambda params, y: unit(y)),
        temper=lambda here: exp(here.params["log_temper"][here.h]),
    ),
    "soft_cap": replace(SOFTMAX, cap=2.0),
    "log_count": replace(SOFTMAX, temper=lambda here: log(here.n) / log(64)),
    "alibi": replace(SOFTMAX, tick=partial(alibi, heads=3)),
    "relative": replace(SOFTMAX, score=partial(buckets, number=6, farthest=5)),
    "ssa": replace(SOFTMAX, token=tempered_value, temper=ssa),
    "ssa_query": replace(SOFTMAX, temper=ssa),
    "ssa_position": replace(SOFTMAX, temper=ssa_position),
    "ssa_top": Definition(partial(top, power=0.6, at_least=2)),
    "forgetting": FORGET,
    "relu": Definition(pointwise(lambda x: max(x, 0.0), len)),
    "relu_7": Definition(pointwise(lambda x: max(x, 0.0) / 7)),
    "squared_relu": Definition(pointwise(lambda x: max(x, 0.0) ** 2, len)),
    "sigmoid": Definition(pointwise(sigma)),
    "sigmoid_7": Definition(pointwise(lambda x: sigma(x - log(7)))),
    "sigmoid_normalized": Definition(pointwise(sigma, sum)),
    "sigmoid_log_count": Definition(sigmoid_log_count),
    "sigmoid_over_count": Definition(pointwise(sigma, len)),
    "sigmoid_over_root": Definition(pointwise(sigma, lambda row: len(row) ** 0.5)),
    "elu": Definition(pointwise(elu)),
    "identity_map": Definition(pointwise(float)),
    "identity_map_over_count": Definition(pointwise(float, len)),
    "elu_kernel_quadratic": Definition(
        pointwise(float, sum), token=both(lambda params, y: np.array([elu(a) for a in y]))
    ),
    "mlp_kernel_quadratic": MLP_KERNEL,
    "mlp_kernel_normalized_quadratic": replace(MLP_KERNEL, row=pointwise(float, lambda row: max(abs(sum(row)), 1.0))),
    "softpick": Definition(softpick),
    "sparsemax": Definition(sparsemax),
    "entmax15": Definition(lambda logits, here: entmax(logits, 1.5)),
    "entmax": Definition(lambda logits, here: entmax(logits, 1 + sigma(here.params["alpha"][here.h]))),
    "lssa": LSSA,
    "lssar": replace(LSSA, post=partial(reweight, power=15)),
    "lssar_3": replace(LSSA, post=partial(reweight, power=3)),
    "approximate": Definition(pointwise(lambda x: 1 + x + x * x / 2, sum)),
    "non_approximate": replace(SOFTMAX, scale=1.0, token=key_only),
    "uniform": replace(SOFTMAX, score=zero),
    "offset_table": replace(SOFTMAX, score=partial(offsets, length=4)),
    "offsets_and_content": replace(SOFTMAX, score=partial(offsets, length=4, content=True)),
    "position_table": replace(SOFTMAX, score=positions),
    "identity": Definition(pointwise(float), score=itself),
    "parallax": replace(SOFTMAX, post=parallax),
    "lla": replace(SOFTMAX, post=local_linear),
    "one_sided": Definition(pointwise(lambda x: x / (1 + abs(x))), scale=1.0),
}


# Around a mechanism.


def gate_of(params: Params, x, shape, *, per: str = "element", shared: bool = False, function=sigma) -> np.ndarray:
    """`f(x W)` `[B, H, T, K]`, with one number for all channels of a head if `per` is `head`."""
    gate = np.zeros(shape)
    for b, h, t, c in np.ndindex(*shape):
        column = params["gate"][:, 0 if shared else h, 0 if per == "head" else c]
        gate[b, h, t, c] = function(dot(x[b, t], column))
    return gate


def gated(base: str, place: str, params: Params, q, k, v, x, mask, bias, **options) -> Mixed:
    gate = gate_of(params, x, q.shape, **options)
    tokens = {"query": q, "key": k, "value": v}
    if place in tokens:
        tokens[place] = tokens[place] * gate
    mixed = carry_out(DEFINITIONS[base], params, *tokens.values(), x, mask, bias)
    whole = options.get("per") == "head"
    if place == "value" and whole:
        return mixed._replace(weights=mixed.weights * gate[..., 0][:, :, None, :])
    if place == "output":
        scaled = mixed.weights * gate[..., :1] if whole else mixed.weights
        return Mixed(mixed.out * gate, scaled, mixed.null * gate[..., 0] if whole else mixed.null)
    return mixed


def gated_itself(params: Params, q, k, v, x, mask, bias) -> Mixed:
    mixed = carry_out(SOFTMAX, params, q, k, v, x, mask, bias)
    return mixed._replace(out=np.vectorize(silu)(mixed.out))


def added_gate(params: Params, q, k, v, x, mask, bias) -> Mixed:
    mixed = carry_out(SOFTMAX, params, q, k, v, x, mask, bias)
    return mixed._replace(out=mixed.out + gate_of(params, x, q.shape, function=silu))


def constant_gate(params: Params, q, k, v, x, mask, bias) -> Mixed:
    mixed = carry_out(SOFTMAX, params, q, k, v, x, mask, bias)
    return mixed._replace(out=mixed.out * np.vectorize(sigma)(params["gate"])[:, None, :])


def forgetting_gated(params: Params, q, k, v, x, mask, bias) -> Mixed:
    mixed = carry_out(replace(FORGET, token=normed), params, q, k, v, x, mask, bias)
    return mixed._replace(out=mixed.out * gate_of(params, x, q.shape))


def difference(params: Params, q, k, v, x, mask, bias, *, initial: float = 0.2) -> Mixed:
    half = q.shape[-1] // 2
    first, second = (
        carry_out(SOFTMAX, params, q[..., part], k[..., part], v, x, mask, bias)
        for part in (slice(half), slice(half, None))
    )
    a, b = params["lambda_query"], params["lambda_key"]
    amount = exp(dot(a[0], b[0])) - exp(dot(a[1], b[1])) + initial
    return Mixed(first.out - amount * second.out, first.weights - amount * second.weights, first.null)


def differential(params: Params, q, k, v, x, mask, bias) -> Mixed:
    mixed = difference(params, q, k, v, x, mask, bias)
    size = np.array([0.8 / np.sqrt(dot(y, y) / len(y) + 1e-5) for y in mixed.out.reshape(-1, q.shape[-1])])
    size = size.reshape(*q.shape[:-1], 1)
    return Mixed(mixed.out * size, mixed.weights * size, mixed.null)


OTHERS = {
    "differential": differential,
    "differential_unnormalized": difference,
    "softmax+gate": partial(gated, "softmax", "output"),
    "softmax+head_gate": partial(gated, "softmax", "output", per="head"),
    "softmax+value_gate": partial(gated, "softmax", "value"),
    "softmax+value_head_gate": partial(gated, "softmax", "value", per="head"),
    "softmax+key_gate": partial(gated, "softmax", "key"),
    "softmax+query_gate": partial(gated, "softmax", "query"),
    "kv_bias+shared_ns_sigmoid_head_gate": partial(
        gated, "kv_bias", "output", per="head", shared=True, function=lambda s: 0.5 + 0.5 * sigma(s)
    ),
    "softmax+added_silu_gate": added_gate,
    "softmax+constant_gate": constant_gate,
    "softmax+self_gate": gated_itself,
    "forgetting_qk_norm+gate": forgetting_gated,
}


def attend(name: str, params: Params, q, k, v, x, mask, bias) -> Mixed:
    """The mechanism called `name`."""
    if name in OTHERS:
        return OTHERS[name](params, q, k, v, x, mask, bias)
    return carry_out(DEFINITIONS[name], params, q, k, v, x, mask, bias)
