"""An induction model with weights set by hand: one head looks one token back, one at what stood behind its own token.

The stream of width `3 V + T` holds, side by side, the token, the position, the token before (written by layer 0) and
the answer (written by layer 1), all one-hot. Layer 0, head 0 looks at the position before; layer 1, head 0 looks where
the token before is its own token, and writes the token there. With logits of `sharpness` its attention is as good as
hard. The construction is the usual one of an induction circuit (Olsson et al., 2209.11895).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from attnlab.models.base import Params
from attnlab.models.transformer import Transformer


def induction_weights(
    vocab_size: int, length: int, num_heads: int = 2, sharpness: float = 100.0, gain: float = 50.0
) -> tuple[Transformer, Params]:
    """The model, attention only and without norms, and its parameters; all heads but two write 0.

    Args:
      sharpness: logit of a match above that of none. gain: logit of the answer above all others.
    """
    width = 3 * vocab_size + length
    model = Transformer(
        vocab_size=vocab_size,
        length=length,
        num_layers=2,
        num_heads=num_heads,
        width=width,
        head_dim=max(vocab_size, length),
        no_mlp=(0, 1),
        norm="none",
        final_norm=False,
    )
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes)
    token, place, before, answer = np.split(np.arange(width), np.cumsum([vocab_size, length, vocab_size]))
    words, positions = np.arange(vocab_size), np.arange(length)
    sharp = sharpness * np.sqrt(model.dims.head_dim)
    params["embed"]["token"][words, token] = 1
    params["embed"]["position"][positions, place] = 1
    first, second = (params["blocks"][str(layer)]["attn"] for layer in (0, 1))
    first["key"][place, 0, positions] = 1
    first["query"][place, 0, np.maximum(positions - 1, 0)] = sharp
    first["value"][token, 0, words] = first["output"][0, words, before] = 1
    second["query"][token, 0, words] = sharp
    second["key"][before, 0, words] = 1
    second["value"][token, 0, words] = second["output"][0, words, answer] = 1
    params["unembed"][answer, words] = gain
    return model, jax.tree.map(jnp.asarray, params)
