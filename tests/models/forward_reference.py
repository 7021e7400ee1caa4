"""The tiny transformer written again from its description: NumPy, float64, one sequence at a time, loops over heads."""

from __future__ import annotations

import numpy as np

Tape = dict[str, np.ndarray]


def normalise(kind: str, params, x: np.ndarray, eps: float) -> np.ndarray:
    if kind == "none":
        return x
    out = np.empty_like(x)
    for t, row in enumerate(x):
        if kind == "layernorm":
            out[t] = (row - row.mean()) / np.sqrt(row.var() + eps) * params["scale"] + params["bias"]
        else:
            out[t] = row / np.sqrt((row**2).mean() + eps) * params["scale"]
    return out


def mix(name: str, logits: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Weights of one head `[T, U]`."""
    weights = np.zeros_like(logits)
    for t, row in enumerate(logits):
        visible = row[seen[t]]
        if name == "softmax":
            weights[t, seen[t]] = np.exp(visible) / np.exp(visible).sum()
        elif name == "softmax_off_by_one":
            weights[t, seen[t]] = np.exp(visible) / (1 + np.exp(visible).sum())
        elif name == "relu":
            weights[t, seen[t]] = np.maximum(visible, 0) / len(visible)
        else:
            raise NotImplementedError(name)
    return weights


def turn(x: np.ndarray, t: int) -> np.ndarray:
    """Rotary embedding of one vector: pair `(x_i, x_{i + K/2})` as a complex number times `exp(i t 10000^(-2i/K))`."""
    half = len(x) // 2
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * t * 10000.0 ** (-2 * np.arange(half) / len(x)))
    return np.concatenate([z.real, z.imag])


def attend(model, layer: int, params, x: np.ndarray, tape: Tape) -> np.ndarray:
    length, out = len(x), np.zeros_like(x)
    head_dim = params["query"].shape[-1]
    t, u = np.indices((length, length))
    seen = u <= t
    if model.window is not None:
        seen &= t - u < model.window
    seen |= u < model.prefix
    mechanism = model.mechanism[layer] if isinstance(model.mechanism, tuple) else model.mechanism
    heads: dict[str, list] = {name: [] for name in ("q", "k", "v", "logits", "weights", "head_out")}
    for head in range(model.num_heads):
        q, k, v = (x @ params[name][:, head] for name in ("query", "key", "value"))
        if model.positions == "rope":
            q, k = (np.stack([turn(row, t) for t, row in enumerate(rows)]) for rows in (q, k))
        logits = q @ k.T / np.sqrt(head_dim)
        if model.positions == "alibi":
            logits = logits - 2.0 ** (-8 * (head + 1) / model.num_heads) * np.abs(t - u)
        weights = mix(mechanism.name, logits, seen)
        mixed = weights @ v
        out += mixed @ params["output"][head]
        for name, value in zip(heads, (q, k, v, logits, weights, mixed), strict=True):
            heads[name].append(value)
    tape.update({f"blocks.{layer}.attn.{name}": np.stack(values) for name, values in heads.items()})
    return out


def feed(model, layer: int, params, x: np.ndarray, tape: Tape) -> np.ndarray:
    hidden = x @ params["up"]
    if model.activation == "relu":
        hidden = np.maximum(hidden, 0)
    elif model.activation == "gelu":
        hidden = 0.5 * hidden * (1 + np.tanh(np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)))
    tape[f"blocks.{layer}.mlp.hidden"] = hidden
    return hidden @ params["down"]


def forward(model, params, tokens: np.ndarray) -> Tape:
    """Every activation of one sequence `[T]`, by name."""
    tape: Tape = {}
    x = params["embed"]["token"][tokens]
    for t in range(len(tokens)):
        if model.positions == "learned":
            x[t] += params["embed"]["position"][t]
        elif model.positions == "sinusoidal":
            for i in range(model.width):
                angle = t / 10000.0 ** ((i - i % 2) / model.width)
                x[t, i] += np.cos(angle) if i % 2 else np.sin(angle)
    tape["embed"] = x.copy()
    for layer in range(model.num_layers):
        block = params["blocks"][str(layer)]
        for part, run, absent in (("attn", attend, model.no_attention), ("mlp", feed, model.no_mlp)):
            if layer in absent:
                continue
            scale = block[f"{part}_norm"]
            read = normalise(model.norm, scale, x, model.norm_eps) if model.norm_place == "pre" else x
            written = run(model, layer, block[part], read, tape)
            tape[f"blocks.{layer}.{part}.in"], tape[f"blocks.{layer}.{part}.out"] = read, written
            x = x + written
            if model.norm_place == "post":
                x = normalise(model.norm, scale, x, model.norm_eps)
        tape[f"blocks.{layer}.out"] = x
    if model.final_norm:
        x = normalise(model.norm, params["final_norm"], x, model.norm_eps)
    tape["final"] = x
    tape["logits"] = x @ (params["embed"]["token"].T if model.tie_embeddings else params["unembed"])
    return tape
