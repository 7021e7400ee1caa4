"""The loss of Bigram-Backcopy split by kind of position, against the exact law and not against the sampled target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from toy_tasks.base import Batch

if TYPE_CHECKING:
    from toy_tasks.bigram_backcopy import BigramBackcopy


def mean_over(values: Float[Array, "B T"], where: Bool[Array, "B T"]) -> Float[Array, ""]:
    """The mean of `values` where `where` holds; NaN if it holds nowhere."""
    count = jnp.sum(where)
    total = jnp.sum(jnp.where(where, values, 0.0))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def cross_entropy(law: Float[Array, "*B V"], log_prediction: Float[Array, "*B V"]) -> Float[Array, "*B"]:
    """`-Σ_y law(y) log q(y)` with `0 log 0 = 0`."""
    return -jnp.sum(jnp.where(law > 0, law * jnp.where(law > 0, log_prediction, 0.0), 0.0), axis=-1)


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
    log_q = jax.nn.log_softmax(logits, axis=-1)
    loss = cross_entropy(task.oracle(batch), log_q)
    found = _by_class(loss, _code_loss(task, loss, log_q, batch), batch)
    best = oracle_risks(task, batch)
    return found | {f"excess_{name}": found[name] - best[name] for name in found}


def oracle_risks(task: BigramBackcopy, batch: Batch) -> dict[str, Float[Array, ""]]:
    """The entropies of the exact law, averaged over the same classes as in `risks`.

    `bigram_code` takes `H(μ)` at bos, as the authors' code does: the entropy of a law that is not the true one.
    """
    law = task.oracle(batch)
    entropy = cross_entropy(law, jnp.log(law))
    marginal = jnp.asarray(task.marginal, jnp.float32)
    code = jnp.where(batch.positions["bos"], cross_entropy(marginal, jnp.log(marginal)), entropy)
    return _by_class(entropy, code, batch)


def _code_loss(task: BigramBackcopy, loss, log_q, batch: Batch) -> Float[Array, "B T"]:
    marginal = jnp.pad(jnp.asarray(task.marginal, jnp.float32), (0, task.vocab_size - task.num_characters))
    if not task.bos:
        return loss
    first = cross_entropy(marginal, log_q[:, 0])  # bos stands at position 0 and nowhere else
    return loss.at[:, 0].set(jnp.where(batch.positions["bos"][:, 0], first, loss[:, 0]))


def _by_class(loss: Float[Array, "B T"], code_loss: Float[Array, "B T"], batch: Batch) -> dict[str, Float[Array, ""]]:
    return {
        "backcopy": mean_over(loss, batch.positions["trigger"]),
        "bigram": mean_over(loss, batch.positions["bigram"]),
        "bigram_code": mean_over(code_loss, batch.positions["ordinary"]),
        "overall": jnp.mean(loss),
    }
