"""Teaching another mechanism the weights of a trained one, head by head, all else frozen (Zhang et al., 2402.04347)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from attnlab import keys
from attnlab.attention import Mechanism, causal_mask
from attnlab.attention.base import undecayed
from attnlab.attention.distillation import Distillation, distillation_loss
from attnlab.config import require
from attnlab.training import devices as device_rules
from attnlab.training.optimizers import Optimizer, adam, rule_of

FRESH = 4  # batches behind `before` and `after`


class Distilled(NamedTuple):
    """What `distill` found, on the host.

    Attributes:
      own: parameters of the mechanism, layer -> leaves `[S, ...]`.
      before, after: `Distillation` of the first and the last of them on the same fresh sequences, `[S, L, H]`.
      kl: mean over layers and heads at every step, before its update, on its batch, `[S, N]`.
    """

    own: dict[str, Any]
    before: Distillation
    after: Distillation
    kl: np.ndarray


def taught_layers(model: Any) -> tuple[int, ...]:
    """The layers that have attention weights."""
    absent = {*model.no_attention, *model.mlp_mixer}
    return tuple(layer for layer in range(model.num_layers) if layer not in absent)


def swapped(model: Any, params: Any, mechanism: Mechanism, own: dict[str, Any]) -> tuple[Any, Any]:
    """The model with `mechanism` in every layer, and its parameters: those of `params`, but `own` for the mechanism."""
    blocks = dict(params["blocks"])
    for layer, mine in own.items():
        blocks[layer] = {**blocks[layer], "attn": {**blocks[layer]["attn"], "mechanism": mine}}
    return dataclasses.replace(model, mechanism=mechanism), {**params, "blocks": blocks}


def compare_heads(model: Any, params: Any, mechanism: Mechanism, own: dict[str, Any], inputs: Any) -> Distillation:
    """How far the weights of `mechanism` are from the model's, `[L, H]`, on the queries and keys of the model itself.

    Every layer reads what it reads in the teacher: a student is not judged by what an earlier layer did.
    """
    wanted = ("in", "q", "k", "v", "weights")
    names = [f"blocks.{layer}.attn.{site}" for layer in taught_layers(model) for site in wanted]
    _, tape = model.apply(params, inputs, tape=tuple(names))

    def of_layer(layer: int) -> Distillation:
        x, q, k, v, teacher = (tape[f"blocks.{layer}.attn.{site}"] for site in wanted)
        kept = model.registers + model.prefix if model.prefix or model.window else 0
        mask = causal_mask(q.shape[-2], window=model.window, prefix=kept)
        student = mechanism.apply(own[str(layer)], q, k, v, x=x, mask=mask, view="map").weights

        def of_head(weights, copy):
            return distillation_loss(weights, copy, mask)

        return jax.vmap(of_head, in_axes=1)(teacher, student)

    return jax.tree.map(lambda *heads: jnp.stack(heads), *map(of_layer, taught_layers(model)))


def distill(
    task: Any,
    model: Any,
    params: Any,
    mechanism: Mechanism,
    optimizer: Optimizer | None = None,
    *,
    steps: int,
    batch_size: int = 32,
    devices: Any = None,
) -> Distilled:
    """Train the parameters of `mechanism` to the attention weights of `model`, by their cross entropy; for every seed.

    Nothing else is trained, and no gradient reaches the teacher. Seed `s` sees batches of its own, on the stream
    `distill` of root key `s`.

    Args:
      task: where sequences come from. model, params: the teacher, leaves `[S, ...]` as `Run.params` has them.
      mechanism: the student, whose map sums to 1 along rows. It may have no parameters: give `steps=0`.
      optimizer: default Adam at 1e-2.
      steps: updates; 0 measures only. devices: default all of the backend's.

    Example:
      found = distill(task, model, run.params, recurrent_catalogue.hedgehog, steps=500)
      found.after.kl.mean() / found.before.kl.mean()
    """
    require(isinstance(steps, int) and steps >= 0, "steps", steps, "an integer >= 0")
    require(bool(taught_layers(model)), "model.no_attention", model.no_attention, "a model with attention")
    num = len(jax.tree.leaves(params)[0])
    placement = device_rules.place(num, model, devices=devices)
    roots = jnp.stack([keys.root(seed) for seed in range(num)])

    spared = {(str(layer), name) for layer in taught_layers(model) for name in undecayed(mechanism)}
    update = rule_of(optimizer or adam(1e-2), spared)

    def first(root):
        layers = taught_layers(model)
        return {str(n): mechanism.init(keys.stream(root, "student", n), model.dims) for n in layers}

    def heads(params, own, key) -> Distillation:
        return compare_heads(model, params, mechanism, own, task.sample(key, batch_size).inputs)

    def fresh(params, own, root) -> Distillation:
        roots = jnp.stack([keys.stream(root, "eval", number) for number in range(FRESH)])
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(lambda key: heads(params, own, key), roots))

    def taught(params, own, root):
        def loss(own, key):
            found = heads(params, own, key)
            return jnp.mean(found.cross_entropy), jnp.mean(found.kl)

        def step(state, number):
            own, memory = state
            (_, kl), gradient = jax.value_and_grad(loss, has_aux=True)(own, keys.stream(root, "distill", number))
            change, memory = update.update(gradient, memory, own)
            return (optax.apply_updates(own, change), memory), kl

        (own, _), kl = jax.lax.scan(step, (own, update.init(own)), jnp.arange(steps))
        return own, kl

    def spread(function):
        return jax.jit(device_rules.distribute(function, placement, (True, True, True)))

    def put(tree):
        return device_rules.put(device_rules.pad(tree, num, placement.padded), placement, by_seed=True)

    given, start, roots = put(jax.tree.map(jnp.asarray, params)), put(_stacked([first(r) for r in roots])), put(roots)
    judge = spread(fresh)
    before, own, kl = judge(given, start, roots), start, np.zeros((placement.padded, 0), np.float32)
    after = before
    if steps:
        own, kl = spread(taught)(given, start, roots)
        after = judge(given, own, roots)
    return device_rules.unpad(Distilled(*jax.device_get((own, before, after, kl))), num, placement.padded)


def _stacked(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
