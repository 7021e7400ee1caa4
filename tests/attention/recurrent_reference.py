"""The recurrent mechanisms as loops over their definitions, in float64: dense transitions, one token after another.

Written without the library. `attend` takes parameters as the mechanism names them; `values` are what is mixed, `v` what
a rule may look at: with `values = I` the result is the mixing matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement, product
from math import factorial, sqrt

import numpy as np
from ttt_reference import ttt_linear

Params = Mapping[str, np.ndarray]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log(1 + np.exp(x))


def silu(x):
    return x * sigmoid(x)


def relu(x):
    return np.where(x > 0, x, 0.0)


def unit(x, eps=1e-6):
    return x / sqrt(sum(c * c for c in x) + eps)


def softmax(x):
    return np.exp(x) / np.exp(x).sum()


def elu_plus_one(x):
    return np.array([c + 1 if c > 0 else np.exp(c) for c in x])


@dataclass(frozen=True)
class Token:
    """One head at one position: `role` is "query" or "key"."""

    params: Params
    head: int
    at: int
    role: str


Feature = Callable[[np.ndarray, Token], np.ndarray]


def cosformer(x, token):
    angle = np.pi * token.at / (2 * 1024)
    return np.concatenate([relu(x) * np.sin(angle), relu(x) * np.cos(angle)])


def favor(x, token):
    omega, y = token.params["omega"], x / len(x) ** 0.25
    return np.array([np.exp(w @ y - y @ y / 2) for w in omega]) / sqrt(len(omega))


def taylor(x, token):
    """Every product of two numbers, as Based writes it."""
    y = x / len(x) ** 0.25
    return np.concatenate([[1.0], y, np.outer(y, y).ravel() / sqrt(2)])


def rebased(x, token):
    y = (x - x.mean()) / sqrt(x.var() + 1e-5)
    y = y * token.params["feature_scale"][token.head] + token.params["feature_shift"][token.head]
    return np.outer(y, y).ravel() / sqrt(len(x))


def dpfp(x, token):
    r = [max(c, 0.0) for c in x] + [max(-c, 0.0) for c in x]
    return np.array([r[i] * r[i - 1] for i in range(len(r))])


def t2r(x, token):
    return relu(x @ token.params["feature_weight"][token.head] + token.params["feature_shift"][token.head])


def hadamard(x, token):
    first, second = token.params[f"feature_{token.role}"]
    return (x @ first[token.head]) * (x @ second[token.head])


def mlp(x, token):
    return relu(x @ token.params["feature_up"]) @ token.params["feature_down"]


def hedgehog_joint(x, token):
    """flash-linear-attention: one softmax over both signs, a factor 2 inside."""
    name = f"feature_{token.role}"
    y = 2 * (x @ token.params[name][token.head] + token.params[f"{name}_shift"][token.head])
    return softmax(np.concatenate([y, -y]))


def hedgehog_split(x, token):
    """LoLCATs: two softmaxes, no factor, no bias."""
    y = x @ token.params[f"feature_{token.role}"][token.head]
    return np.concatenate([softmax(y), softmax(-y)])


def powers(x, order):
    """All tensor powers up to `order`, divided by `sqrt(n!)`."""
    y, found = x / len(x) ** 0.25, []
    for n in range(order + 1):
        found += [np.prod([y[i] for i in index]) / sqrt(factorial(n)) for index in product(range(len(x)), repeat=n)]
    return np.array(found)


def num_monomials(width, order):
    return sum(len(list(combinations_with_replacement(range(width), n))) for n in range(order + 1))


@dataclass(frozen=True)
class Head:
    """One head of one sequence: `q, k` after the feature map and scale, `v [T, K]`, `x [T, D]`."""

    params: Params
    head: int
    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    x: np.ndarray
    values: np.ndarray

    def gate(self, name: str, t: int) -> np.ndarray:
        """`x_t w` of this head."""
        return self.x[t] @ self.params[name][:, self.head]

    def own(self, name: str) -> np.ndarray:
        return self.params[name][self.head]

    def low_rank(self, down: str, up: str, t: int, between=lambda y: y) -> np.ndarray:
        return between(self.x[t] @ self.params[down]) @ self.params[up][:, self.head]

    def beta(self, t: int, limit: float = 1.0) -> float:
        return limit * sigmoid(self.gate("beta_gate", t))

    @property
    def tokens(self) -> range:
        return range(len(self.q))


def run(head: Head, token: Callable[[int, np.ndarray], tuple[np.ndarray, np.ndarray]], early=False) -> np.ndarray:
    """`S <- M S + k v^T` with `token(t, I) = (M, k)`, read by `q`."""
    width = len(token(0, None)[1])
    state, out = np.zeros((width, head.values.shape[1])), []
    for t in head.tokens:
        transition, key = token(t, np.eye(width))
        before = state
        state = transition @ state + np.outer(key, head.values[t])
        out.append(head.q[t] @ (before if early else state))
    return np.array(out)


def plain(head: Head, alpha=lambda t: 1.0, beta=lambda t: 1.0) -> np.ndarray:
    return run(head, lambda t, eye: (np.diag(np.ones(head.k.shape[1]) * alpha(t)), beta(t) * head.k[t]))


def step_size(head: Head, t: int) -> float:
    return softplus(head.gate("decay_gate", t) + head.own("dt_bias"))


def ssd_alpha(head: Head):
    return lambda t: np.exp(-np.exp(head.own("a_log")) * step_size(head, t))


def mamba2(head: Head) -> np.ndarray:
    out = plain(head, ssd_alpha(head), lambda t: step_size(head, t))
    return out + head.own("skip") * head.values


def gla_alpha(head: Head):
    return lambda t: sigmoid(head.low_rank("decay_down", "decay_up", t) + head.own("decay_bias")) ** (1 / 16)


def kda_alpha(head: Head):
    def alpha(t):
        gate = head.low_rank("decay_down", "decay_up", t) + head.own("dt_bias")
        return np.exp(-np.exp(head.own("a_log")) * softplus(gate))

    return alpha


def delta(head: Head, alpha=lambda t: 1.0, limit=1.0, normalized=False) -> np.ndarray:
    """Decay first, then the error of what is left of the state is written."""
    width = head.k.shape[1]
    state, out = np.zeros((width, head.values.shape[1])), []
    for t in head.tokens:
        k, beta = head.k[t], head.beta(t, limit)
        if normalized:
            beta = beta / (1e-6 + k @ k)
        state = np.diag(np.ones(width) * alpha(t)) @ state
        state = state + beta * np.outer(k, head.values[t] - k @ state)
        out.append(head.q[t] @ state)
    return np.array(out)


def delta_product(head: Head) -> np.ndarray:
    width, alpha = head.k.shape[1], ssd_alpha(head)
    num = head.params["beta_gate"].shape[-1]
    state, out = np.zeros((width, head.values.shape[1])), []
    for t in head.tokens:
        more = (head.x[t] @ head.params["more_keys"][:, head.head]).reshape(num - 1, width)
        betas = 2 * sigmoid(head.gate("beta_gate", t))
        state = alpha(t) * state
        for k, beta in zip([head.k[t], *(unit(silu(row)) for row in more)], betas, strict=True):
            state = state + beta * np.outer(k, head.values[t] - k @ state)
        out.append(head.q[t] @ state)
    return np.array(out)


def comba(head: Head) -> np.ndarray:
    alpha = ssd_alpha(head)
    state, out = np.zeros((head.k.shape[1], head.values.shape[1])), []
    for t in head.tokens:
        p = sigmoid(head.own("comba_inner")) * head.k[t]
        state = alpha(t) * state
        state = state + head.beta(t) * np.outer(head.k[t], head.values[t] - p @ state)
        out.append((head.q[t] - head.own("comba_outer") * p) @ state)
    return np.array(out)


def rwkv6(head: Head) -> np.ndarray:
    def token(t, eye):
        w = head.low_rank("decay_down", "decay_up", t, np.tanh) + head.own("decay_bias")
        return np.diag(np.exp(-np.exp(w))), head.k[t]

    own = [sum(head.q[t] * head.own("bonus") * head.k[t]) for t in head.tokens]
    return run(head, token, early=True) + np.array(own)[:, None] * head.values


def rwkv7(head: Head) -> np.ndarray:
    def token(t, eye):
        w = head.low_rank("decay_down", "decay_up", t, np.tanh) + head.own("decay_bias")
        gate = sigmoid(head.low_rank("gate_down", "gate_up", t) + head.own("gate_bias"))
        k = head.k[t]
        direction = unit(k * head.own("k_k"), 1e-12)
        transition = np.diag(np.exp(-np.exp(-0.5) * sigmoid(w))) - np.outer(gate * direction, direction)
        return transition, k * (1 + (gate - 1) * head.own("k_a"))

    return run(head, token)


def hgrn2(head: Head) -> np.ndarray:
    forget = sigmoid(head.k)
    read = Head(head.params, head.head, silu(head.q), 1 - forget, head.v, head.x, head.values)
    return plain(read, lambda t: forget[t])


def inline(head: Head) -> np.ndarray:
    out = []
    for i in head.tokens:
        seen = range(i + 1)
        scores = [head.q[i] @ head.k[j] / len(seen) for j in seen]
        weights = [s - sum(scores) / len(seen) + 1 / len(seen) for s in scores]
        out.append(sum(w * head.values[j] for w, j in zip(weights, seen, strict=True)))
    return np.array(out)


def oja(head: Head, alpha=lambda t: 1.0) -> np.ndarray:
    """The state as it is defined, decaying on the value axis; with other values in it for the mixing matrix."""
    state = np.zeros((head.k.shape[1], head.v.shape[1]))
    mixed, out = np.zeros((head.k.shape[1], head.values.shape[1])), []
    for t in head.tokens:
        norm = sqrt(sum(c * c for c in head.v[t]) + 1e-12)
        state = state * alpha(t)
        write = head.beta(t) * (head.k[t] - state @ (head.v[t] / norm))
        state = state + np.outer(write, head.v[t] / norm)
        mixed = mixed * alpha(t) + np.outer(write / norm, head.values[t])
        out.append(head.q[t] @ mixed)
    return np.array(out)


def bcm(head: Head) -> np.ndarray:
    out, state = [], np.zeros((head.k.shape[1], head.values.shape[1]))
    for t in head.tokens:
        threshold = sum(head.v[: t + 1] ** 2) / (t + 1)
        state = state + np.outer(head.k[t], (head.v[t] - threshold) * head.values[t])
        out.append(head.q[t] @ state)
    return np.array(out)


def mesa(head: Head, gated=True) -> np.ndarray:
    """Ridge regression on what was seen so far, solved anew at every token."""
    out, width = [], head.k.shape[1]
    for t in head.tokens:
        weights, kept = [], 1.0
        for j in range(t, -1, -1):
            beta = sigmoid(head.gate("beta_gate", j) + head.own("beta_bias")) if gated else 1.0
            weights.insert(0, kept * beta)
            kept *= sigmoid(head.gate("forget_gate", j) + head.own("forget_bias")) if gated else 1.0
        ridge = softplus(head.own("ridge")) + 0.25 if gated else np.ones(width)
        k, w = head.k[: t + 1], np.diag(weights)
        solution = np.linalg.solve(k.T @ w @ k + np.diag(ridge), k.T @ w @ head.values[: t + 1])
        out.append(head.q[t] @ solution)
    return np.array(out)


def per_channel(head: Head, channel: Callable[[int, int], tuple], skip: str | None = None) -> np.ndarray:
    """`channel(t, c) = (α, write, read)`, vectors of a state of their own: a mixing matrix for every channel."""
    num, matrices = len(head.q), []
    for c in range(head.v.shape[1]):
        steps = [channel(t, c) for t in head.tokens]
        matrix = np.eye(num) * (0.0 if skip is None else head.own(skip)[c])
        for u in head.tokens:
            state = np.atleast_1d(steps[u][1])
            for t in range(u, num):
                state = state * (1.0 if t == u else steps[t][0])
                matrix[t, u] += np.sum(steps[t][2] * state)
        matrices.append(matrix)
    if len(matrices) == 1:
        return matrices[0] @ head.values
    return np.stack([matrix @ head.values[:, c] for c, matrix in enumerate(matrices)], axis=1)


def s6(head: Head) -> np.ndarray:
    def channel(t, c):
        step = softplus(head.low_rank("decay_down", "decay_up", t)[c] + head.own("dt_bias")[c])
        write, read = head.x[t] @ head.params["write"], head.x[t] @ head.params["read"]
        return np.exp(-np.exp(head.own("a_log")[c]) * step), step * write, read

    return per_channel(head, channel, "skip")


def qlstm(head: Head, reverse=False) -> np.ndarray:
    def channel(t, c):
        names = ("forget", "input", "output")
        forget, write, read = ((head.gate(f"{n}_gate", t) + head.own(f"{n}_bias"))[c] for n in names)
        alpha = sigmoid(-forget) ** relu(head.own("power")[c]) if reverse else sigmoid(forget)
        return alpha, sigmoid(write), sigmoid(read)

    return per_channel(head, channel)


def rg_lru(head: Head) -> np.ndarray:
    def channel(t, c):
        write, decay = ((head.gate(f"{n}_gate", t) + head.own(f"{n}_bias"))[c] for n in ("input", "decay"))
        alpha = np.exp(-8 * softplus(head.own("rate")[c]) * sigmoid(decay))
        return alpha, sqrt(1 - alpha**2) * sigmoid(write), 1.0

    return per_channel(head, channel)


def of_vector(function: Callable[[np.ndarray], np.ndarray]) -> Feature:
    return lambda x, token: function(x)


def exp_gate(head: Head, t: int) -> float:
    return np.exp(-(head.gate("read_gate", t) + head.own("read_bias")))


def softplus_gate(head: Head, t: int) -> float:
    return np.exp(-softplus(head.gate("read_gate", t) + head.own("read_bias") + head.own("read_offset")))


IDENTITY = of_vector(lambda x: x)


@dataclass(frozen=True)
class Definition:
    """`rule` on `scale feature(q), feature(k)`; `normalizer(total)` divides, `read` multiplies."""

    rule: Callable[[Head], np.ndarray] = plain
    feature: Feature = IDENTITY
    normalizer: Callable[[float], float] | None = None
    scaled: bool = False
    read: Callable[[Head, int], float] = lambda head, t: 1.0


def floor(total):
    return max(abs(total), 1.0)


def plus(eps):
    return lambda total: total + eps


UNIT = of_vector(lambda x: unit(silu(x)))
KEPT = of_vector(lambda x: unit(x))

DEFINITIONS = {
    "linear": Definition(feature=of_vector(elu_plus_one), normalizer=plus(1e-8)),
    "linear_relu": Definition(feature=of_vector(relu), normalizer=plus(1e-8)),
    "t2r": Definition(feature=t2r, normalizer=plus(1e-8)),
    "cosformer": Definition(feature=cosformer, normalizer=plus(1e-8)),
    "performer": Definition(feature=favor, normalizer=plus(1e-8)),
    "linear_exp": Definition(feature=of_vector(np.exp), normalizer=plus(1e-8)),
    "taylor": Definition(feature=taylor, normalizer=plus(1e-6)),
    "rebased": Definition(feature=rebased, normalizer=plus(1e-6)),
    "dpfp": Definition(feature=dpfp, normalizer=plus(1e-8)),
    "hadamard": Definition(feature=hadamard),
    "hedgehog": Definition(feature=hedgehog_joint, normalizer=plus(1e-8)),
    "hedgehog_split": Definition(feature=hedgehog_split, normalizer=plus(1e-12)),
    "elu_kernel": Definition(feature=of_vector(elu_plus_one), scaled=True),
    "identity_kernel": Definition(scaled=True),
    "identity_kernel_mean": Definition(scaled=True, read=lambda head, t: 1 / (t + 1)),
    "mlp_kernel": Definition(feature=mlp, scaled=True),
    "mlp_kernel_normalized": Definition(feature=mlp, normalizer=floor, scaled=True),
    "inline": Definition(inline, scaled=True),
    "dsf_normalized": Definition(read=exp_gate),
    "dsf_softplus": Definition(feature=of_vector(elu_plus_one), scaled=True, read=softplus_gate),
    "retnet": Definition(lambda head: plain(head, lambda t: 1 - 2.0 ** (-5 - head.head)), scaled=True),
    "lightning": Definition(
        lambda head: plain(head, lambda t: np.exp(-(2.0 ** (-8 * (head.head + 1) / 2)))), of_vector(silu)
    ),
    "ssd": Definition(lambda head: plain(head, ssd_alpha(head))),
    "mamba2": Definition(mamba2),
    "gla": Definition(lambda head: plain(head, gla_alpha(head))),
    "hgrn2": Definition(hgrn2),
    "rwkv6": Definition(rwkv6),
    "hebb": Definition(),
    "anti_hebb": Definition(lambda head: plain(head, beta=lambda t: -1.0)),
    "bcm": Definition(bcm),
    "oja": Definition(oja, KEPT),
    "gated_oja": Definition(lambda head: oja(head, gla_alpha(head)), KEPT),
    "nlms": Definition(lambda head: delta(head, normalized=True)),
    "delta_net": Definition(delta, UNIT),
    "delta_net_negative": Definition(lambda head: delta(head, limit=2.0), UNIT),
    "gated_delta_net": Definition(lambda head: delta(head, ssd_alpha(head)), UNIT),
    "kda": Definition(lambda head: delta(head, kda_alpha(head)), UNIT),
    "delta_product": Definition(delta_product, UNIT),
    "comba": Definition(comba, UNIT),
    "rwkv7": Definition(rwkv7),
    "mesa": Definition(mesa, UNIT),
    "ridge": Definition(lambda head: mesa(head, gated=False)),
    "ttt_linear": Definition(ttt_linear),
    "s6": Definition(s6),
    "qlstm": Definition(qlstm),
    "qlstm_reversed": Definition(lambda head: qlstm(head, reverse=True)),
    "rg_lru": Definition(rg_lru),
}
NUM_HEADS = 2  # of the slopes of "lightning"


def attend(name: str, params: Params, q, k, v, x, values=None) -> np.ndarray:
    """`out[B, H, T, W]` for `values[B, H, T, W]`, by default `v`."""
    definition = DEFINITIONS[name]
    values = v if values is None else values
    scale = q.shape[-1] ** -0.5 if definition.scaled else 1.0
    out = np.zeros((*q.shape[:-1], values.shape[-1]))
    for b, h in np.ndindex(*q.shape[:2]):
        one = [
            np.array([definition.feature(row, Token(params, h, t, role)) for t, row in enumerate(rows[b, h])])
            for role, rows in (("query", q), ("key", k))
        ]
        head = Head(params, h, scale * one[0], one[1], v[b, h], x[b], values[b, h])
        found = definition.rule(head)
        if definition.normalizer is not None:
            totals = definition.rule(Head(*(*vars(head).values(),)[:-1], np.ones((len(found), 1))))
            found = np.array([row / definition.normalizer(z[0]) for row, z in zip(found, totals, strict=True)])
        out[b, h] = [definition.read(head, t) * row for t, row in enumerate(found)]
    return out
