"""The one compiled program of a run: many steps and their records, for one seed; and its lift to the seed axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from attnlab import keys
from attnlab.training.optimizers import Optimizer


@struct.dataclass
class State:
    """Everything that changes while one seed trains (a leading `S` axis is added over seeds).

    Attributes:
      params, opt: parameters and optimizer state.
      step: updates done.
      loss_sum, loss_count: training loss since it was last recorded.
      diverged_at: first step whose loss was not finite, or -1.
    """

    params: Any
    opt: Any
    step: jax.Array
    loss_sum: jax.Array
    loss_count: jax.Array
    diverged_at: jax.Array


def initial_state(model: Any, optimizer: Optimizer, root: jax.Array) -> State:
    """Parameters from the `init` stream of `root`, a fresh optimizer, step 0."""
    params = model.init(keys.stream(root, "init"))
    zero = jnp.zeros((), jnp.int32)
    return State(params, optimizer.transform().init(params), zero, jnp.zeros(()), zero, jnp.full((), -1, jnp.int32))


def make_step(task: Any, model: Any, loss: Callable, batch_size: int, microbatch: int | None) -> Callable:
    """`step(optimizer, root, edits, state) -> state`: one update on the batch of stream `data` at `state.step`."""

    def objective(params, batch, edits, weight):
        logits, _ = model.apply(params, batch.inputs, edits=edits)
        return jnp.sum(loss(logits, batch) * batch.loss_mask) / weight

    gradient = jax.value_and_grad(objective)

    def loss_and_gradient(params, batch, edits):
        weight = jnp.maximum(jnp.sum(batch.loss_mask), 1.0)
        if microbatch is None or microbatch == batch_size:
            return gradient(params, batch, edits, weight)
        parts = jax.tree.map(lambda x: x.reshape(-1, microbatch, *x.shape[1:]), batch)

        def add(total, part):
            return jax.tree.map(jnp.add, total, gradient(params, part, edits, weight)), None

        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, zeros, parts)[0]

    def step(optimizer: Optimizer, root, edits, state: State) -> State:
        batch = task.sample(keys.stream(root, "data", state.step), batch_size)
        value, grads = loss_and_gradient(state.params, batch, edits)
        updates, opt = optimizer.transform().update(grads, state.opt, state.params)
        new = state.step + 1
        lost = (state.diverged_at < 0) & ~jnp.isfinite(value)
        return State(
            params=optax.apply_updates(state.params, updates),
            opt=opt,
            step=new,
            loss_sum=state.loss_sum + value,
            loss_count=state.loss_count + 1,
            diverged_at=jnp.where(lost, new, state.diverged_at),
        )

    return step


def train_loss(state: State) -> dict[str, jax.Array]:
    """Mean training loss since the last record of it (nan before the first step)."""
    return {"loss": state.loss_sum / state.loss_count}


def make_chunk(step: Callable, model: Any, records: Mapping[str, Callable], slots: Mapping[str, int]) -> Callable:
    """`chunk(optimizer, root, state, edits, gaps[E], flags[E, R]) -> (state, {record: pytree [slots, ...]})`.

    A scan over events; each advances by a dynamic number of steps, then writes the due records into their next slot.
    """

    def evaluate(name, state):
        return train_loss(state) if name == "loss" else records[name](model, state.params)

    def chunk(optimizer, root, state: State, edits, gaps, flags):
        def empty(name):
            shapes = jax.eval_shape(lambda s: evaluate(name, s), state)
            return jax.tree.map(lambda x: jnp.zeros((slots[name], *x.shape), x.dtype), shapes)

        def event(carry, due):
            state, buffers, filled = carry
            gap, flag = due
            state = jax.lax.fori_loop(0, gap, lambda _, s: step(optimizer, root, edits, s), state)
            for r, name in enumerate(records):

                def write(args, name=name, at=filled[r]):
                    state, buffer = args
                    row = evaluate(name, state)
                    buffer = jax.tree.map(lambda b, x: jax.lax.dynamic_update_index_in_dim(b, x, at, 0), buffer, row)
                    return (state.replace(loss_sum=jnp.zeros(()), loss_count=jnp.zeros((), jnp.int32)), buffer) if (
                        name == "loss"
                    ) else (state, buffer)

                state, buffers[name] = jax.lax.cond(flag[r], write, lambda args: args, (state, buffers[name]))
            return (state, buffers, filled + flag.astype(jnp.int32)), None

        start = (state, {name: empty(name) for name in records}, jnp.zeros(len(records), jnp.int32))
        (state, buffers, _), _ = jax.lax.scan(event, start, (gaps, flags))
        return state, buffers

    return chunk


def lift(chunk: Callable, how: str) -> Callable:
    """`chunk` over a leading seed axis of `(optimizer, root, state)`: `map` runs seeds in turn, `vmap` together."""
    if how == "vmap":
        return jax.vmap(chunk, in_axes=(0, 0, 0, None, None, None))

    def mapped(optimizer, roots, state, edits, gaps, flags):
        return jax.lax.map(lambda args: chunk(*args, edits, gaps, flags), (optimizer, roots, state))

    return mapped
