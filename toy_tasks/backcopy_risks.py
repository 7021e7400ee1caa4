"""The loss of Bigram-Backcopy split by kind of position, against the exact law and not against the sampled target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from toy_tasks import backcopy_law
from toy_tasks.base import Batch

if TYPE_CHECKING:
    from toy_tasks.bigram_backcopy import BigramBackcopy


def mean_over(values: Float[Array, "B T"], where: Bool[Array, "B T"]) -> Float[Array, ""]:
    """The mean of `values` where `where` holds; NaN if it holds nowhere.

    Two passes: 10^5 equal terms added up one by one in float32 lose three digits, their deviations from a first mean
    lose none.
    """
    count = jnp.maximum(jnp.sum(where), 1).astype(values.dtype)
    first = jax.lax.stop_gradient(jnp.sum(jnp.where(where, values, 0.0)) / count)
    centre = jnp.where(jnp.isfinite(first), first, 0.0)
    mean = centre + jnp.sum(jnp.where(where, values - centre, 0.0)) / count
    return jnp.where(jnp.any(where), mean, jnp.nan)


def cross_entropy(law: Float[Array, "*#B V"], logits: Float[Array, "*#B V"]) -> Float[Array, "*B"]:
    """`-Σ_y law(y) log q(y)` with `q = softmax(logits)` and `0 log 0 = 0`.

    Logits are first lowered by their largest, so that the small loss of a sure prediction keeps its digits.
    """
    lowered = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    score = jnp.sum(law * jnp.where(law > 0, lowered, 0.0), axis=-1)
    return jnp.log(jnp.sum(jnp.exp(lowered), axis=-1)) - score


def risks(task: BigramBackcopy, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
    """Means of the expected cross entropy `c_i = -Σ_y p_i(y) log q_i(y)` with the exact law `p_i`, in nats.

    Returns, by name:
      backcopy: over trigger positions; for the plain task `-log q_i(z_{i-1})`.
      bigram: over ordinary positions other than bos.
      overall: over all positions.
      bigram_code: over all ordinary positions, bos included with μ as its law: what the authors' code reports. The
        generator never puts a trigger after bos, so this quantity grows as a model learns that, without bound.
      excess_backcopy, excess_bigram, excess_overall, excess_bigram_code: the same minus the oracle on this batch.

    A class with no position in the batch has risk NaN. Raises ValueError if the logits do not fit the vocabulary.
    """
    if logits.shape != (*batch.inputs.shape, task.vocab_size):
        raise ValueError(
            f"logits have shape {logits.shape}; the batch and the vocabulary ask for "
            f"{(*batch.inputs.shape, task.vocab_size)}. Build the model with vocab_size=task.vocab_size."
        )
    entropy, code_entropy = _entropies(task, batch)
    loss = cross_entropy(task.oracle(batch), logits)
    marginal = jnp.asarray(np.pad(task.marginal, (0, task.vocab_size - task.num_characters)), jnp.float32)
    first = cross_entropy(marginal, logits[:, :1])  # bos stands at position 0 and nowhere else
    code_loss = jnp.where(batch.positions["bos"], first, loss)
    excess = _by_class(loss - entropy, code_loss - code_entropy, batch)
    return _by_class(loss, code_loss, batch) | {f"excess_{name}": value for name, value in excess.items()}


def oracle_risks(task: BigramBackcopy, batch: Batch) -> dict[str, Float[Array, ""]]:
    """The entropies of the exact law, averaged over the same classes as in `risks`.

    `bigram_code` takes `H(μ)` at bos, as the authors' code does: the entropy of a law that is not the true one.
    """
    return _by_class(*_entropies(task, batch), batch)


def _entropies(task: BigramBackcopy, batch: Batch) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """The entropy of the exact law at every position, and the same with `H(μ)` at bos."""
    previous = jnp.pad(batch.inputs, ((0, 0), (1, 0)))[:, :-1]
    entropy = jnp.asarray(backcopy_law.entropy_table(task), jnp.float32)[previous, batch.inputs]
    return entropy, jnp.where(batch.positions["bos"], float(backcopy_law.entropy(task.marginal)), entropy)


def _by_class(loss: Float[Array, "B T"], code_loss: Float[Array, "B T"], batch: Batch) -> dict[str, Float[Array, ""]]:
    return {
        "backcopy": mean_over(loss, batch.positions["trigger"]),
        "bigram": mean_over(loss, batch.positions["bigram"]),
        "bigram_code": mean_over(code_loss, batch.positions["ordinary"]),
        "overall": mean_over(loss, jnp.ones_like(batch.positions["bos"])),
    }
