"""The one compiled program of a run: many steps and their records, for one seed; and its lift to the seed axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from attnlab import keys
from attnlab.training import losses
from attnlab.training.optimizers import Optimizer, rule_of

DATA_AXIS = "data"  # of the mesh: the devices that share each batch


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
    return State(
        params=params,
        opt=_rule(optimizer, model).init(params),
        step=jnp.zeros((), jnp.int32),
        loss_sum=jnp.zeros(()),
        loss_count=jnp.zeros((), jnp.int32),
        diverged_at=jnp.full((), -1, jnp.int32),
    )


def _rule(optimizer: Optimizer, model: Any) -> optax.GradientTransformation:
    """The optimizer for this model: what the model says must not decay does not."""
    return rule_of(optimizer, getattr(model, "undecayed", frozenset()))


def make_step(
    task: Any, model: Any, loss: losses.Loss, batch_size: int, microbatch: int | None, data_shards: int = 1
) -> Callable:
    """`step(optimizer, root, edits, state) -> state`: one update on the batch of stream `data` at `state.step`.

    With several `data_shards` every device of the mesh's data axis draws the whole batch, takes the gradient of its
    rows, and adds those of the others.
    """
    rows = batch_size // data_shards

    def objective(params, batch, edits, weight):
        return losses.weighted_sum(model, params, batch, loss, edits) / weight

    gradient = jax.value_and_grad(objective)

    def loss_and_gradient(params, batch, edits):
        weight = losses.total_weight(batch)
        if data_shards == 1:
            return in_parts(params, batch, edits, weight)
        first = rows * jax.lax.axis_index(DATA_AXIS)
        mine = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, rows), batch)
        return jax.lax.psum(in_parts(params, mine, edits, weight), DATA_AXIS)

    def in_parts(params, batch, edits, weight):
        if microbatch is None or microbatch == rows:
            return gradient(params, batch, edits, weight)
        parts = jax.tree.map(lambda x: x.reshape(-1, microbatch, *x.shape[1:]), batch)

        def add(total, part):
            return jax.tree.map(jnp.add, total, gradient(params, part, edits, weight)), None

        zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, zeros, parts)[0]

    def step(optimizer: Optimizer, root, edits, state: State) -> State:
        batch = task.sample(keys.stream(root, "data", state.step), batch_size)
        value, grads = loss_and_gradient(state.params, batch, edits)
        updates, opt = _rule(optimizer, model).update(grads, state.opt, state.params)
        new = state.step + 1
        lost = (state.diverged_at < 0) & ~jnp.isfinite(value)
        return State(
            params=optax.apply_updates(state.params, updates),
            opt=jax.tree.map(_keep_type, opt, state.opt),
            step=new,
            loss_sum=state.loss_sum + value,
            loss_count=state.loss_count + 1,
            diverged_at=jnp.where(lost, new, state.diverged_at),
        )

    return step


def _keep_type(new: jax.Array, old: jax.Array) -> jax.Array:
    """Moments of bfloat16 parameters stay bfloat16, although the rates that they are multiplied with are float32."""
    return new if new.dtype == old.dtype else new.astype(old.dtype)


def evaluate(name: str, of: Callable, model: Any, state: State) -> Any:
    """One row of a record. `loss` is the mean training loss since the last row of it (nan before the first step)."""
    if name == "loss":
        return state.loss_sum / state.loss_count
    return jax.tree.map(jnp.asarray, of(model, state.params))


def make_chunk(step: Callable, model: Any, records: Mapping[str, Callable], slots: Mapping[str, int]) -> Callable:
    """`chunk(optimizer, root, state, edits, gaps[E], flags[E, R]) -> (state, {record: pytree [slots, ...]})`.

    A scan over events; each advances by a dynamic number of steps, then puts the due records into their next slot.
    """

    def chunk(optimizer, root, state: State, edits, gaps, flags):
        def empty(name):
            row = jax.eval_shape(lambda s: evaluate(name, records[name], model, s), state)
            return jax.tree.map(lambda x: jnp.zeros((slots[name], *x.shape), x.dtype), row)

        def event(carry, due):
            state, buffers, filled = carry
            gap, flag = due
            state = jax.lax.fori_loop(0, gap, lambda _, s: step(optimizer, root, edits, s), state)
            for r, name in enumerate(records):
                buffers[name] = _put_row(buffers[name], filled[r], flag[r], name, records[name], model, state)
                if name == "loss":
                    loss_sum, loss_count = (jnp.where(flag[r], 0, x) for x in (state.loss_sum, state.loss_count))
                    state = state.replace(loss_sum=loss_sum, loss_count=loss_count)
            return (state, buffers, filled + flag.astype(jnp.int32)), None

        start = (state, {name: empty(name) for name in records}, jnp.zeros(len(records), jnp.int32))
        (state, buffers, _), _ = jax.lax.scan(event, start, (gaps, flags))
        return state, buffers

    return chunk


def _put_row(buffer: Any, slot: jax.Array, due: jax.Array, name: str, of: Callable, model: Any, state: State) -> Any:
    """`buffer` with the record in `slot` if it is due. Only one row goes through the branch: nothing large is copied.

    Past the last slot, JAX reads and writes the last one: it gets back what it held.
    """
    held = jax.tree.map(lambda b: jax.lax.dynamic_index_in_dim(b, slot, 0, keepdims=False), buffer)
    row = jax.lax.cond(due, lambda held: evaluate(name, of, model, state), lambda held: held, held)
    return jax.tree.map(lambda b, x: jax.lax.dynamic_update_index_in_dim(b, x, slot, 0), buffer, row)


def lift(function: Callable, how: str, by_seed: Sequence[bool]) -> Callable:
    """`function` over a leading seed axis of the arguments marked in `by_seed`: `map` in turn, `vmap` together."""
    if how == "vmap":
        return jax.vmap(function, in_axes=tuple(0 if seeded else None for seeded in by_seed))

    def mapped(*args):
        def one(seeded):
            mine = iter(seeded)
            return function(*(next(mine) if s else arg for arg, s in zip(args, by_seed, strict=True)))

        return jax.lax.map(one, tuple(arg for arg, s in zip(args, by_seed, strict=True) if s))

    return mapped
