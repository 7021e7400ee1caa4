# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Circuits: from a head to an answer
#
# A small transformer is trained to say the name that is *not* repeated ("Mary and John ... John gave a drink to" Mary).
# Which heads do it, and through which others? Here: the logits as a sum of what every part writes, heads patched from a
# minimally changed run, paths from head to head, what each head looks at, how much heads read of each other, and
# whether any overlap of circuits is more than chance. The task is that of Wang et al., arXiv 2211.00593; path patching
# as in Merullo et al., arXiv 2310.08744. A study with a control task, seeds and verdicts: `attnlab reproduce circuits`.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import toy_tasks as tt
from attnlab import analysis, edits
from attnlab.report.style import BLUE, MUTED, RC, VERMILLION

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
steps, size, heads, layers = (30, 48, 2, 2) if FAST else (1000, 256, 4, 3)

# %% [markdown]
# ## 1. The task, its flip, and a model
# The minimal flip makes the last name the other one: one token, another answer. What the model thinks is one number,
# the difference of two logits.

# %%
task = tt.IndirectObject()
print(task.describe())
model = al.Transformer(task.vocab_size, task.length, num_layers=layers, num_heads=heads, width=48)
run = al.run(task, model, al.adamw(2e-3), steps=steps, seeds=1, batch_size=64, progress=False)
params = jax.tree.map(lambda x: x[0], run.params)
batch = task.sample(jax.random.key(1), size)
flip = task.corrupt(batch, jax.random.key(2))
print("clean  ", batch.inputs[0], "->", flip.right[0])
print("flipped", flip.batch.inputs[0], "->", flip.wrong[0])


def difference(logits):
    """Mean over sequences of `logit(right) - logit(wrong)` at the last place."""
    last = logits[:, -1]
    right, wrong = (jnp.take_along_axis(last, a[:, None], axis=1)[:, 0] for a in (flip.right, flip.wrong))
    return jnp.mean(right - wrong)


logits = model.apply(params, batch.inputs)[0]
print(
    f"accuracy {float(task.risks(logits, batch)['accuracy']):.3f}, logit difference {float(difference(logits)):.2f}; ",
    end="",
)
print(f"flipped {float(difference(model.apply(params, flip.batch.inputs)[0])):.2f}")

# %% [markdown]
# ## 2. The logits are a sum
# With the last norm's scale taken as it is, the logits are exactly what embedding, heads and MLPs write. Below: each
# part's own share of the logit difference. That is what a part says *itself*; what it tells others comes in section 4.

# %%
direction = jax.nn.one_hot(flip.right, task.vocab_size) - jax.nn.one_hot(flip.wrong, task.vocab_size)
parts = analysis.direct_effects(model, params, batch.inputs)
error = float(jnp.abs(parts.total() - logits).max())
along = parts.along(direction)
by_head = np.asarray(along.heads[..., -1, 0].mean(axis=0))
by_mlp = np.asarray(along.mlps[..., -1, 0].mean(axis=0))
names = ["embedding", *(f"{i}.{h}" for i in range(layers) for h in range(heads)), *(f"mlp {i}" for i in range(layers))]
values = [float(along.embed[:, -1, 0].mean()), *by_head.ravel(), *by_mlp]
figure, ax = plt.subplots(figsize=(9, 2.8), layout="constrained")
ax.bar(names, values, color=[MUTED] + [BLUE] * by_head.size + [VERMILLION] * layers)
ax.set(ylabel="logit difference", title=f"What each part writes; the sum is off by {error:.1e}")
ax.tick_params(axis="x", rotation=60)
ax.grid(False, axis="x")
plt.show()

# %% [markdown]
# ## 3. Heads patched from the flipped run
# Every head in turn is given the output that it has on the flipped sequence; 1 means that the whole difference moves
# over. All heads are one program. Left: at all places. Middle: only at the last one. Right: its direct effect by path
# patching, every other head frozen and MLPs frozen.

# %%
other = analysis.head_outputs(model, params, flip.batch.inputs)
end = difference(model.apply(params, flip.batch.inputs)[0])


def patched(p, at=None):
    return analysis.head_effects(model, p, batch.inputs, difference, "resample", source=other, at=at).towards(end)


last = edits.rows(task.length, -1)
maps = {
    "patched, all places": jax.jit(patched)(params),
    "patched, last place": jax.jit(lambda p: patched(p, last))(params),
    "direct path to the logits": jax.jit(
        lambda p: analysis.path_effects(model, p, batch.inputs, flip.batch.inputs, difference, freeze_mlps=True).effect
    )(params)[..., 0],
}


def show(maps, columns="head", rows="layer"):
    figure, axes = plt.subplots(1, len(maps), figsize=(3.3 * len(maps), 2.6), layout="constrained", squeeze=False)
    for ax, (name, found) in zip(axes[0], maps.items(), strict=True):
        found = np.asarray(found)
        bound = max(float(np.nanmax(np.abs(found))), 1e-9)
        drawn = ax.imshow(found, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
        figure.colorbar(drawn, ax=ax)
        ax.set(title=name, xlabel=columns, ylabel=rows, xticks=range(found.shape[1]), yticks=range(found.shape[0]))
        ax.grid(False)
    plt.show()


show(maps)

# %% [markdown]
# ## 4. Paths from head to head
# The head with the largest effect at the last place is the receiver: who tells its query, its key, its value? Each map
# is the share of the logit difference that goes if *only* that path is flipped. Shares near 0 everywhere mean that the
# receiver needs no other head: it reads the names from the embedding itself.

# %%
found = np.asarray(maps["patched, last place"])
layer, head = np.unravel_index(np.abs(found).argmax(), found.shape)
print(f"the receiver: layer {layer}, head {head}, effect {found[layer, head]:.2f}")
if layer == 0:  # a first layer has nobody before it: take the best head of the others
    later = 1 + np.unravel_index(np.abs(found[1:]).argmax(), found[1:].shape)[0]
    layer, head = int(later), int(np.abs(found[later]).argmax())
    print(f"which has nobody before it; instead layer {layer}, head {head}, effect {found[layer, head]:.2f}")
receivers = tuple(analysis.Receiver(int(layer), int(head), part) for part in "qkv")
paths = jax.jit(
    lambda p: analysis.path_effects(model, p, batch.inputs, flip.batch.inputs, difference, receivers).effect
)(params)
show({f"to the {part} of {layer}.{head}": paths[..., i] for i, part in enumerate(("query", "key", "value"))})

# %% [markdown]
# ## 5. What the heads look at, and what they read
# Scores of attention (the token before, an earlier copy of the own token, what followed it), the effect of a head on
# the very tokens it looks at (`copy_effects`: positive heads copy, negative ones suppress), and how much the receiver
# reads of each earlier head's output, by matrices alone, beside chance.

# %%
scores = analysis.measure(analysis.copying_heads(task, size), model, params)
copying = analysis.copy_effects(model, params, batch.inputs, batch.positions["answer"])
composed = analysis.composition_scores(model, params)
print("head   previous  duplicate  induction   copies   read by the receiver (q, k, v)")
for i in range(layers):
    for h in range(heads):
        row = "  ".join(f"{float(scores[name][i, h]):8.2f}" for name in ("previous", "duplicate", "induction"))
        reads = ", ".join(f"{float(composed[part][i, h, layer, head]):.2f}" for part in "qkv") if i < layer else ""
        print(f"{i}.{h}  {row}  {float(copying[i, h]):8.2f}   {reads}")
print(f"chance for random matrices of this width: {model.dims.width**-0.5:.2f}")

# %% [markdown]
# ## 6. Is an overlap more than chance?
# Two rankings of the heads, and the circuits of the best three by each. Random sets of three share some heads as well;
# `analysis.overlap` says how many, and how often random sets share as much.

# %%
rankings = [np.asarray(maps[name]) for name in ("patched, all places", "direct path to the logits")]
common = analysis.overlap(*rankings, size=3)
print(f"shared {common.shared:.2f} of {common.size} heads among {common.total}; Jaccard {common.jaccard:.2f}, ", end="")
print(f"by chance {common.chance_jaccard:.2f}, p = {common.p:.3f}")

# %% [markdown]
# ## 7. Repair
# The receiver is taken away (made even over what it sees), and then given back by hand: its last row is set to look at
# the right name only. If that does not bring the answer back, looking at the right name was not its work, however large
# its effect is.

# %%
right_place = batch.positions["object"].astype(jnp.float32)[:, None, None, :]
held = {
    "as trained": (),
    "receiver even": (edits.ablate_heads(int(layer), int(head), heads, "uniform", at=last),),
    "receiver set to the right name": (
        edits.set_rows(int(layer), right_place, last & (jnp.arange(heads) == head)[:, None, None]),
    ),
}
for name, edit in held.items():
    logits, _ = model.apply(params, batch.inputs, edits=edit)
    print(f"{name:32s} accuracy {float(task.risks(logits, batch)['accuracy']):.3f}, ", end="")
    print(f"logit difference {float(difference(logits)):6.2f}")
