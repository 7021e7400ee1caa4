"""Edits and taps: what they add to a forward pass; all heads ablated and all paths patched against single passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

import attnlab as al
from attnlab import analysis, edits, keys, tape
from tests.bench.result import Result, alternate, noise

LAYERS, HEADS = 4, 8


def setting(quick: bool) -> tuple[Any, Any, jax.Array]:
    """Four layers of eight heads, `D = 64`, 16 sequences of 64 tokens."""
    layers, batch, length = (2, 2, 16) if quick else (LAYERS, 16, 64)
    model = al.Transformer(vocab_size=64, length=length, num_layers=layers, num_heads=HEADS, width=64)
    tokens = jax.random.randint(keys.root(0), (batch, length), 0, 64)
    return model, model.init(keys.root(1)), tokens


def compiled(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    program = jax.jit(function).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def neutral(model: Any, kind: str) -> tuple[tape.Edit, ...]:
    """Edits of every layer that change nothing, their numbers arguments of the program."""
    one, zero, batch = jnp.ones((HEADS, 1, 1)), jnp.zeros((HEADS, 1, 1)), (HEADS, model.length, model.dims.head_dim)
    make = {
        "output": lambda layer: edits.output_mix(layer, zero, jnp.zeros(batch), one),
        "bias": lambda layer: edits.logit_bias(layer, jnp.zeros((HEADS, model.length, model.length))),
        "pattern": lambda layer: edits.pattern_mix(layer, zero, jnp.eye(model.length)),
        "reads": lambda layer: edits.ablate(layer, "identity", zero),
    }[kind]
    return tuple(make(layer) for layer in range(model.num_layers))


def edit_cost(quick: bool) -> Iterator[Result]:
    """A forward pass with neutral edits in all layers, and with selected taps, over the plain one."""
    model, params, tokens = setting(quick)
    taps = {
        "one map": ("blocks.1.attn.weights",),
        "all head outputs": ("*.head_out",),
        "all maps": ("*.weights",),
        "all": ("*",),
    }
    runs = {"plain": compiled(lambda p, t: model.apply(p, t)[0], params, tokens)}
    for kind in ("output", "bias", "pattern", "reads"):
        held = neutral(model, kind)
        runs[f"edit {kind}"] = compiled(lambda p, t, e: model.apply(p, t, edits=e)[0], params, tokens, held)
    for name, wanted in taps.items():
        runs[f"tap {name}"] = compiled(lambda p, t, w=wanted: model.apply(p, t, tape=w), params, tokens)
    seconds = alternate(runs, 2 if quick else 25)
    best = {name: min(found) for name, found in seconds.items()}
    details = {"ms": {name: round(1e3 * s, 3) for name, s in best.items()}, "noise": noise(seconds)}
    for name in list(runs)[1:]:
        goal = None if name in ("tap all", "tap all maps") else "<= 1.1"
        yield Result(name.replace(" ", "_"), best[name] / best["plain"], "of a forward", goal, details)


def ablations(quick: bool) -> Iterator[Result]:
    """All single-head ablations in one program: the time of ten of them in single forward passes; and their loop."""
    model, params, tokens = setting(quick)

    def score(logits: jax.Array) -> jax.Array:
        return jnp.mean(logits[:, -1, 0])

    def loop_of(p: Any, t: jax.Array, amounts: jax.Array) -> jax.Array:
        held = [edits.ablate(layer, "zero", amounts[layer][:, None, None]) for layer in range(model.num_layers)]
        return score(model.apply(p, t, edits=held)[0])

    total = model.num_layers * HEADS
    grid = jnp.eye(total).reshape(total, model.num_layers, HEADS)
    one = jax.jit(loop_of).lower(params, tokens, grid[0]).compile()
    runs = {
        "forward": compiled(lambda p, t: score(model.apply(p, t)[0]), params, tokens),
        "layer at once": compiled(
            lambda p, t: analysis.head_effects(model, p, t, score, chunk=HEADS).ablated, params, tokens
        ),
        "one by one": compiled(lambda p, t: analysis.head_effects(model, p, t, score).ablated, params, tokens),
        "loop": lambda: jax.block_until_ready([one(params, tokens, row) for row in grid]),
    }
    seconds = alternate(runs, 1 if quick else 7)
    best = {name: min(found) for name, found in seconds.items()}
    details = {"ms": {name: round(1e3 * s, 2) for name, s in best.items()}, "noise": noise(seconds)}
    for name, goal in (("layer at once", "< 3"), ("one by one", "< 3"), ("loop", None)):
        ten = best[name] / total * 10 / best["forward"]
        yield Result(f"ten_ablations_{name.replace(' ', '_')}", ten, "forwards", goal, details)


def path_patching(quick: bool) -> Iterator[Result]:
    """All paths from a head to a query, key or value of a later one, and to the logits: forward passes per path."""
    model, params, tokens = setting(quick)
    other = tokens[:, ::-1]
    receivers = (analysis.LOGITS, *analysis.all_receivers(model))
    receivers = receivers[:5] if quick else receivers

    def score(logits: jax.Array) -> jax.Array:
        return jnp.mean(logits[:, -1, 0])

    def paths(p: Any, clean: jax.Array, corrupt: jax.Array) -> jax.Array:
        return analysis.path_effects(model, p, clean, corrupt, score, receivers).patched

    runs = {
        "forward": compiled(lambda p, t: score(model.apply(p, t)[0]), params, tokens),
        "paths": compiled(paths, params, tokens, other),
    }
    seconds = alternate(runs, 1 if quick else 2)
    best = {name: min(found) for name, found in seconds.items()}
    count = model.num_layers * HEADS * len(receivers)
    details = {"paths": count, "seconds": {name: round(s, 4) for name, s in best.items()}, "noise": noise(seconds)}
    yield Result("path_patching_all_pairs", best["paths"] / count / best["forward"], "forwards", None, details)


MEASURES = {"edit_cost": edit_cost, "ablations": ablations, "path_patching": path_patching}
