"""What holds whatever the weights: a path is a product of matrices, parts add up, a run patched with itself is
itself.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from attnlab import analysis, keys, tape
from attnlab.analysis.path_patching import site_of
from attnlab.models import Transformer
from attnlab.studies.circuits.parts import logit_difference
from toy_tasks import CircuitMixture


def exact(lab: Any) -> dict[str, float]:
    """Largest errors, over all heads, of one untrained model each; scores are logit differences of a batch of 48."""
    task = CircuitMixture()
    sizes: dict[str, Any] = {
        "vocab_size": task.vocab_size,
        "length": task.length,
        "num_layers": 3,
        "num_heads": 4,
        "width": 32,
    }
    plain = Transformer(**sizes, no_mlp=(0, 1, 2), norm="none", init_kind="scaled")
    small: dict[str, Any] = {**sizes, "num_layers": 2, "num_heads": 2}
    normed = Transformer(**small)
    batch = task.sample(keys.stream(keys.root(0), "exact"), 48)
    flip = task.corrupt(batch, keys.root(1))
    score: Any = logit_difference(flip)
    runs: Any = batch.inputs, flip.batch.inputs
    p, n = plain.init(jax.random.key(0)), normed.init(jax.random.key(1))
    return {
        "arrives": _arrives(plain, p, runs),
        "direct": _direct(plain, p, runs, score),
        "parts": _parts(normed, n, runs[0]),
        "itself": _itself(normed, n, runs[0], score),
        "everything": _everything(normed, n, runs, score),
    }


def _arrives(model: Any, params: Any, runs: Any) -> float:
    """Every sender of layer 0, the first query of layer 2, frozen heads and no norms: change against `Δz W_O W_Q`."""
    site, receiver = "blocks.0.attn.head_out", analysis.Receiver(2, 0, "q")
    (_, clean), (_, other) = (model.apply(params, x, tape=("*",)) for x in runs)
    output, query = params["blocks"]["0"]["attn"]["output"], params["blocks"]["2"]["attn"]["query"][:, 0]
    worst = 0.0
    for head in range(model.num_heads):
        held = [tape.replace(f"blocks.{i}.attn.head_out", clean[f"blocks.{i}.attn.head_out"]) for i in range(3)]
        held.append(tape.replace(site, other[site], tape.head_mask(model.num_heads, head)))
        _, read = model.apply(params, runs[0], tape=(site_of(receiver),), edits=held)
        change = (read[site_of(receiver)] - clean[site_of(receiver)])[:, 0]
        wanted = (other[site] - clean[site])[:, head] @ output[head] @ query
        worst = max(worst, float(jnp.max(jnp.abs(change - wanted))))
    return worst


def _direct(model: Any, params: Any, runs: Any, score: Any) -> float:
    """The direct effects of all heads and of the embedding against the whole change of the score."""
    found = analysis.path_effects(model, params, runs[0], runs[1], score)
    first, second = (model.apply(params, x, tape=("embed",))[1]["embed"] for x in runs)
    embedding = score((second - first) @ params["unembed"])
    return float(jnp.abs(jnp.sum(found.patched - found.clean) + embedding - (found.corrupt - found.clean)))


def _parts(model: Any, params: Any, inputs: Any) -> float:
    """Embedding, heads, MLPs and the bias of the last norm against the logits."""
    return float(
        jnp.max(jnp.abs(analysis.direct_effects(model, params, inputs).total() - model.apply(params, inputs)[0]))
    )


def _itself(model: Any, params: Any, inputs: Any, score: Any) -> float:
    """A run patched with itself, every path."""
    found = analysis.path_effects(
        model, params, inputs, inputs, score, (analysis.LOGITS, *analysis.all_receivers(model))
    )
    return float(np.max(np.abs(np.asarray(found.patched - found.clean))))


def _everything(model: Any, params: Any, runs: Any, score: Any) -> float:
    """The embedding, all heads and all MLPs from the corrupted run: the effect less 1."""
    _, other = model.apply(params, runs[1], tape=("embed", "blocks.*.attn.head_out", "blocks.*.mlp.out"))
    clean, corrupt = (score(model.apply(params, x)[0]) for x in runs)
    patched = score(model.apply(params, runs[0], edits=[tape.replace(k, v) for k, v in other.items()])[0])
    return float(jnp.abs((patched - clean) / (corrupt - clean) - 1))
