"""Soft injection: head outputs of prompts with examples, mixed into a prompt of the query alone, amounts learned.

    t_lh = mean over M prompts of map f of the head's output at the last token        (the task embedding)
    z <- (1 - a) z + a t,    a_lh = sigmoid(b_lh),    b = 0 at the start, by Adam through the frozen model

Symbols are split in three: amounts are learned on the first, the best step is chosen on the second, everything is
reported on the third. All seeds, all maps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from attnlab import analysis, edits, keys
from toy_tasks import InContextMaps

PROMPTS = 50  # behind a task embedding, as published
STEPS, RATE = 400, 0.2  # of Adam, as published
HIGH = 0.5


class Site(NamedTuple):
    """Of every seed and map, `[S, F, ...]`; accuracies are over the symbols kept for the report.

    Attributes:
      amounts: `[S, F, L, H]`, at the best step of validation; last: at the last step.
      zero, full, injected, after_last: no injection; all amounts 1; the learned ones; those of the last step.
      high, low: only the heads with an amount above (not above) one half, at amount as learned.
      one_high, one_low: the same heads at amount 1.
      other: embeddings of this map, amounts of another one.
      wrong: embeddings and amounts of another map: how often its image is said, `[S, F]`.
      best_step: when validation was best.
    """

    amounts: Array
    last: Array
    zero: Array
    full: Array
    injected: Array
    after_last: Array
    high: Array
    low: Array
    one_high: Array
    one_low: Array
    other: Array
    wrong: Array
    best_step: Array
    curve: Array


def split(task: InContextMaps) -> tuple[Int[np.ndarray, " a"], Int[np.ndarray, " b"], Int[np.ndarray, " c"]]:
    """Symbols to learn on, to choose on, to report on: five of twelve, three, four."""
    order = np.random.RandomState(1).permutation(task.num_symbols)
    first, second = round(5 * task.num_symbols / 12), round(8 * task.num_symbols / 12)
    return order[:first], order[first:second], order[second:]


def embeddings(model: Any, params: Any, task: InContextMaps, number: Array) -> Float[Array, "L H K"]:
    """Mean head outputs at the last token of `PROMPTS` prompts of one map; no symbol of the report is in them."""
    known = jnp.asarray(np.concatenate(split(task)[:2]))
    key = keys.stream(keys.root(0), "prompts", number)
    order = jax.vmap(lambda k: jax.random.permutation(k, len(known)))(jax.random.split(key, PROMPTS))
    symbols = known[order[:, : task.num_examples + 1]]
    batch = task.assemble(jnp.full(PROMPTS, number, jnp.int32), symbols)
    return _last_outputs(model, params, batch.inputs)


def _last_outputs(model: Any, params: Any, inputs: Array) -> Float[Array, "L H K"]:
    """Mean over prompts of the head outputs at the last token."""
    found = analysis.head_outputs(model, params, inputs)
    return jnp.stack([found[f"blocks.{i}.attn.head_out"][:, :, -1].mean(axis=0) for i in range(model.num_layers)])


def injected(model: Any, params: Any, queries: Array, t: Float[Array, "L H K"], amounts: Float[Array, "L H"]) -> Array:
    """Logits `[n, V]` of prompts of the query alone, with injection."""
    held = [edits.inject(i, t[i][:, None], amounts[i][:, None, None]) for i in range(model.num_layers)]
    return model.apply(params, queries[:, None], edits=held)[0][:, -1]


def learn(loss: Any, check: Any, shape: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Adam on `loss(sigmoid(b))`: amounts at the lowest `check`, amounts at the end, that step, all checks.

    The best value so far is part of the state and is updated; the published code compares with one that never is.
    """
    rule = optax.adam(RATE)

    def step(state: Any, number: Array) -> tuple[Any, Array]:
        b, inner, best, best_b, best_step = state
        change, inner = rule.update(jax.grad(lambda x: loss(jax.nn.sigmoid(x)))(b), inner, b)
        b = jnp.asarray(optax.apply_updates(b, change))
        value = check(jax.nn.sigmoid(b))
        better = value < best
        kept = jnp.where(better, value, best), jnp.where(better, b, best_b), jnp.where(better, number + 1, best_step)
        return (b, inner, *kept), value

    b = jnp.zeros(shape)
    start = b, rule.init(b), check(jax.nn.sigmoid(b)), b, jnp.zeros((), jnp.int32)
    (b, _, _, best_b, best_step), values = jax.lax.scan(step, start, jnp.arange(STEPS, dtype=jnp.int32))
    return jax.nn.sigmoid(best_b), jax.nn.sigmoid(b), best_step, values


def site(lab: Any, name: str) -> Site:
    """Everything of one model, once."""
    return lab.once(("site", name), lambda: _site(lab, name))


def _site(lab: Any, name: str) -> Site:
    e, given = lab.experiments[name], lab.run(name).params
    task, model = e.task, e.model
    train, choose, report = (jnp.asarray(x, jnp.int32) for x in split(task))
    images = task.num_symbols + jnp.asarray(task.maps)
    shape = model.num_layers, model.num_heads

    def of_seed(params: Any) -> Site:
        def nats(t: Array, amounts: Array, number: Array, symbols: Array) -> Array:
            logits = jax.nn.log_softmax(injected(model, params, symbols, t, amounts))
            return -jnp.mean(jnp.take_along_axis(logits, images[number, symbols][:, None], axis=1))

        def right(t: Array, amounts: Array, number: Array) -> Array:
            said = jnp.argmax(injected(model, params, report, t, amounts), axis=1)
            return jnp.mean(said == images[number, report])

        def one(number: Array) -> tuple[Array, ...]:
            t = embeddings(model, params, task, number)
            return (
                t,
                *learn(lambda a: nats(t, a, number, train), lambda a: nats(t, a, number, choose), shape),
            )

        numbers = jnp.arange(task.num_maps)
        t, best, last, best_step, curve = jax.lax.map(one, numbers)

        def accuracies(n: Array) -> dict[str, Array]:
            high, following = best[n] > HIGH, (n + 1) % task.num_maps
            amounts = {
                "zero": jnp.zeros(shape),
                "full": jnp.ones(shape),
                "injected": best[n],
                "after_last": last[n],
                "high": best[n] * high,
                "low": best[n] * ~high,
                "one_high": high.astype(jnp.float32),
                "one_low": (~high).astype(jnp.float32),
                "other": best[following],
            }
            found = {name: right(t[n], a, n) for name, a in amounts.items()}
            return found | {"wrong": right(t[following], best[following], n)}

        return Site(best, last, best_step=best_step, curve=curve, **jax.lax.map(accuracies, numbers))

    return Site(*jax.device_get(tuple(jax.jit(lambda p: jax.lax.map(of_seed, p))(given))))


# ---- where the map is


def parts(lab: Any, name: str) -> dict[str, np.ndarray]:
    """Variance of head outputs at the last token, over maps and queries, means over 50 prompts of each, by layer:
    `map` alone, `query` alone, `both` (what is left), each `[S, L]`; `own [S]`, accuracy over all symbols with the mean
    of prompts of the same query in all heads.
    """
    return lab.once(("parts", name), lambda: _parts(lab, name))


def _parts(lab: Any, name: str) -> dict[str, np.ndarray]:
    e, given = lab.experiments[name], lab.run(name).params
    task, model = e.task, e.model
    images = task.num_symbols + jnp.asarray(task.maps)

    def of_query(params: Any, number: Array, query: Array) -> Array:
        key = keys.stream(keys.root(0), "own", number * task.num_symbols + query)
        order = jax.vmap(lambda k: jax.random.permutation(k, task.num_symbols))(jax.random.split(key, PROMPTS))
        order = jax.vmap(lambda row: row[jnp.argsort(row == query, stable=True)])(order)  # the query comes last
        symbols = jnp.concatenate([order[:, : task.num_examples], order[:, -1:]], axis=1)
        return _last_outputs(model, params, task.assemble(jnp.full(PROMPTS, number, jnp.int32), symbols).inputs)

    def of_seed(params: Any) -> dict[str, Array]:
        maps, queries = jnp.arange(task.num_maps), jnp.arange(task.num_symbols)
        z = jax.lax.map(lambda f: jax.lax.map(lambda x: of_query(params, f, x), queries), maps)  # [F, n, L, H, K]
        ones = jnp.ones(z.shape[2:4])
        said = jax.vmap(jax.vmap(lambda x, t: injected(model, params, x[None], t, ones)[0]), (None, 0))(queries, z)
        mean, of_map, of_symbol = z.mean(axis=(0, 1)), z.mean(axis=1), z.mean(axis=0)
        both = z - of_map[:, None] - of_symbol + mean
        sizes = {"map": of_map - mean, "query": of_symbol - mean, "both": both}
        found = {
            told: jnp.mean(jnp.sum(x * x, axis=(-2, -1)), axis=tuple(range(x.ndim - 3))) for told, x in sizes.items()
        }
        return found | {"own": jnp.mean(jnp.argmax(said, axis=-1) == images)}

    return jax.device_get(jax.jit(lambda p: jax.lax.map(of_seed, p))(given))


def share(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Of the variance of the last layer's head outputs, what the map alone explains."""
    got = parts(lab, name)
    return (got["map"] / (got["map"] + got["query"] + got["both"]))[:, -1]


def own(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Accuracy with vectors of prompts of the same query."""
    return np.asarray(parts(lab, name)["own"])


# ---- what claims ask


def mean(lab: Any, name: str, what: str) -> Float[np.ndarray, " S"]:
    """Mean over maps."""
    return np.asarray(getattr(site(lab, name), what), float).mean(axis=1)


def in_context(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Accuracy with examples, at the last place of fresh sequences."""
    return lab.risk(name, "last_accuracy")


def sure(lab: Any, name: str) -> Float[np.ndarray, " S"]:
    """Share of amounts below .1 or above .9."""
    amounts = np.asarray(site(lab, name).amounts)
    return ((amounts < 0.1) | (amounts > 0.9)).mean(axis=(1, 2, 3))


def of_layer(lab: Any, name: str, layer: int) -> Float[np.ndarray, " S"]:
    """Mean amount of a layer."""
    return np.asarray(site(lab, name).amounts)[:, :, layer].mean(axis=(1, 2))


def chance(lab: Any) -> float:
    """What the best rule that knows the family and not the map achieves on the symbols of the report."""
    task = lab.experiments["even"].task
    report = split(task)[2]
    law = np.stack([(task.maps[:, report] == y).mean(axis=0) for y in range(task.num_symbols)])
    return float(law.max(axis=0).mean())
