"""Tasks that ask for one answer at some places share: checks, the law of a sure answer, risks, plateaus."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.regression_checks import require

Ask = Literal["prefix", "last"]


class Plateau(NamedTuple):
    """What the best predictor pays that knows only some things: mean loss, and share of right answers if there is one.

    Tokens: nats per asked place. Vectors: squared error per coordinate, `accuracy` is None.
    """

    loss: float
    accuracy: float | None = None


def whole(field: str, value: Any, least: int = 1, note: str = "") -> None:
    """Raises ValueError unless `value` is an integer of at least `least`."""
    right = isinstance(value, int) and not isinstance(value, bool) and value >= least
    require(right, field, repr(value), f"an integer >= {least}{note}")


def at_most(field: str, value: int, bound: int, note: str) -> None:
    """Raises ValueError if `value` is larger than `bound`."""
    require(value <= bound, field, value, f"at most {bound}, {note}")


def lines(plateaus: dict[str, Plateau]) -> str:
    """The plateaus in words: `context 2.0794 (0.125 right)`."""
    right = {name: "" if p.accuracy is None else f" ({p.accuracy:.4g} right)" for name, p in plateaus.items()}
    return ", ".join(f"{name} {p.loss:.4f}{right[name]}" for name, p in plateaus.items())


def fits(outputs: Array, batch: Batch, width: int, hint: str) -> None:
    """Raises ValueError unless the outputs are `[B, T, width]` for this batch."""
    wanted = (*batch.targets.shape[:2], width)
    require(outputs.shape == wanted, "logits", f"shape {outputs.shape}", f"{wanted}; {hint}")


def sure(answer: Int[Array, "B T"], asked: Bool[Array, "B T"], vocab_size: int) -> Float[Array, "B T V"]:
    """All mass on the answer where there is one to give; the uniform law, which claims nothing, elsewhere."""
    return jnp.where(asked[..., None], jax.nn.one_hot(answer, vocab_size, dtype=jnp.float32), 1.0 / vocab_size)


def log_losses(logits: Float[Array, "B T V"], targets: Int[Array, "B T"]) -> Float[Array, "B T"]:
    """`-log softmax(logits)[target]`; lowered by the largest first, so that a small loss keeps its digits."""
    lowered = logits - jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    at_target = jnp.take_along_axis(lowered, targets[..., None], axis=-1)[..., 0]
    return jnp.log(jnp.sum(jnp.exp(lowered), axis=-1)) - at_target


def answer_risks(logits: Float[Array, "B T V"], batch: Batch, where: Bool[Array, "B T"]) -> dict[str, Array]:
    """`loss` in nats and `accuracy` (of the largest logit), means over the places `where`; NaN if there are none."""
    right = (jnp.argmax(logits, axis=-1).astype(jnp.int32) == batch.targets).astype(logits.dtype)
    return {"loss": mean_over(log_losses(logits, batch.targets), where), "accuracy": mean_over(right, where)}


def asked_risks(logits: Float[Array, "B T V"], batch: Batch, vocab_size: int) -> dict[str, Array]:
    """`answer_risks` over the class `asked`, and as `last_loss`, `last_accuracy` over the class `last`.

    Raises:
      ValueError: logits of another shape.
    """
    fits(logits, batch, vocab_size, "build the model with vocab_size=task.vocab_size")
    last = answer_risks(logits, batch, batch.positions["last"])
    risks = answer_risks(logits, batch, batch.positions["asked"])
    return risks | {f"last_{name}": value for name, value in last.items()}


def recall_risks(
    logits: Float[Array, "B T V"], batch: Batch, where: Bool[Array, "B T"], present: Bool[Array, "B V"]
) -> dict[str, Array]:
    """`answer_risks`, and the loss split by what there is to know: `loss = values + binding`.

    With `q = softmax(logits)` and `S` the set of values that are `present` in the sequence:
      values: `-log q(S)`, what it costs not to know which values there are.
      binding: `-log q(answer) / q(S)`, what it costs not to know which of them belongs to the key.
    """
    inside = jax.nn.logsumexp(logits, axis=-1, where=present[:, None, :])
    at_target = jnp.take_along_axis(logits, batch.targets[..., None], axis=-1)[..., 0]
    parts = {"values": jax.nn.logsumexp(logits, axis=-1) - inside, "binding": inside - at_target}
    return answer_risks(logits, batch, where) | {name: mean_over(part, where) for name, part in parts.items()}
