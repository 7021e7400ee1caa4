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
# # Edit a trained model
#
# Nearly every published intervention on attention is one of four affine edits: a bias on the logits, a mix of the map,
# a mix of a head's output, a mix of the stream. Here they are arrays that one passes to the forward pass. Nothing is
# hooked and nothing is left behind; new numbers do not compile again, gradients reach them, and they hold inside a
# training step as well. We train a model that copies a needle out of a haystack, take heads out *by kind*, patch them
# from another run, tune what they look at, and at last keep two heads shut *during* training.
# A study with seeds and verdicts: `attnlab reproduce retrieval-heads`.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import toy_tasks as tt
from attnlab import analysis, edits, tape
from attnlab.report.style import BLUE, MUTED, RC, SEQUENTIAL, VERMILLION

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
steps, size = (30, 64) if FAST else (700, 256)

# %% [markdown]
# ## 1. A model that retrieves
# Two layers of four heads, attention only. Somewhere in the haystack stands a key with two values behind it; at the end
# the key comes again and the values must be said.

# %%
task = tt.NeedleCopy(num_tokens=12, haystack=10, needle=2)
print(task.describe())
model = al.Transformer(task.vocab_size, task.length, num_layers=2, num_heads=4, width=32, no_mlp=(0, 1))
run = al.run(task, model, al.adamw(4e-3), steps=steps, seeds=1, batch_size=64, progress=False)
params = jax.tree.map(lambda x: x[0], run.params)
batch = task.sample(jax.random.key(1), size)


@jax.jit
def accuracy(params, held=()):
    """Share of the values said right. The edits are an argument: other numbers, the same program."""
    logits, _ = model.apply(params, batch.inputs, edits=held)
    return task.risks(logits, batch)["accuracy"]


print(f"accuracy {float(accuracy(params)):.3f} (chance {task.chance:.3f})")

# %% [markdown]
# ## 2. Four edits
# What each does to the map of one head, on one sequence. An edit of nothing changes no bit; that is a law with a test,
# and so is that rows of a softmax map still sum to 1 afterwards.

# %%
length = task.length
last = edits.rows(length, tuple(range(task.asks, length)))  # the queries that answer
even = jnp.tri(length) / jnp.arange(1, length + 1)[:, None]
shown = {
    "as trained": (),
    "E1: first token x 8": (edits.tune_first(1, 8.0),),
    "E2: half of the map even": (edits.pattern_mix(1, 0.5, even),),
    "E2: answers look at bos": (edits.set_rows(1, jnp.eye(length)[0], last & tape.head_mask(4, (0, 1, 2, 3))),),
}
figure, axes = plt.subplots(1, 4, figsize=(11, 3), layout="constrained", sharey=True)
for ax, (name, held) in zip(axes, shown.items(), strict=True):
    _, read = model.apply(params, batch.inputs[:1], tape=("blocks.1.attn.weights",), edits=held)
    ax.imshow(read["blocks.1.attn.weights"][0, 0], cmap=SEQUENTIAL, vmin=0, vmax=1)
    ax.set(title=name, xlabel="key")
    ax.grid(False)
axes[0].set_ylabel("query")
plt.show()
for name, held in shown.items():
    print(f"{name:26s} accuracy {float(accuracy(params, held)):.3f}")
E3 = (edits.output_mix(1, 0.0, 5.0, 1.0), edits.stream_mix("blocks.0.out", 0.0, 5.0))
same = model.apply(params, batch.inputs, edits=E3)[0] == model.apply(params, batch.inputs)[0]
print(f"edits of amount 0 change no bit: {bool(same.all())}")

# %% [markdown]
# ## 3. Ablation is not one thing
# A head can be set to 0, to its mean, to the mean of the values it sees (what the retrieval-head code does when it
# "masks"), to the value of the first token, to its own token's, or to its output in another run.
# `analysis.head_effects` does all heads in one program and says which kind it was.

# %%
other = analysis.head_outputs(model, params, task.sample(jax.random.key(2), size).inputs)


def right(logits):
    return task.risks(logits, batch)["accuracy"]


effects = {}
for kind in edits.KINDS:
    source = other if kind == "resample" else None
    effects[kind] = jax.jit(
        lambda p, k=kind, s=source: analysis.head_effects(model, p, batch.inputs, right, k, source=s)
    )(params)
figure, axes = plt.subplots(1, len(effects), figsize=(12, 2.3), layout="constrained", sharey=True)
for ax, (kind, found) in zip(axes, effects.items(), strict=True):
    drawn = ax.imshow(found.ablated, cmap=SEQUENTIAL, vmin=0, vmax=1)
    for (layer, head), value in np.ndenumerate(np.asarray(found.ablated)):
        ax.text(head, layer, f"{value:.2f}", ha="center", va="center", fontsize=8, color="white")
    ax.set(title=kind, xlabel="head")
    ax.set_yticks((0, 1), ("layer 0", "layer 1"))
    ax.grid(False)
plt.show()

# %% [markdown]
# Beside the retrieval score (which head looks at the token that is said): a score says where a head looks, an effect
# says what happens without it. They are not the same, and heads can stand in for each other.

# %%
scores = analysis.retrieval_scores(model, params, batch, counts=jnp.ones(size, bool))
cost = effects["uniform"].base - effects["uniform"].ablated
print("layer head   score   accuracy lost (uniform)")
for layer in range(2):
    for head in range(4):
        print(f"{layer:5d} {head:4d} {float(scores[layer, head]):7.2f} {float(cost[layer, head]):10.3f}")
chosen = analysis.top_heads(scores, 4)
together = [edits.ablate_heads(layer, head, 4, "uniform") for layer, head in chosen]
print(f"the four best scores made uniform together: accuracy {float(accuracy(params, together)):.3f}")
only_late = [edits.ablate_heads(0, head, 4, "uniform", at=last) for head in range(4)]
print(f"all of layer 0 made uniform, at the answering queries only: {float(accuracy(params, only_late)):.3f}")

# %% [markdown]
# ## 4. Amounts have gradients
# Every amount is a number in the program. Its derivative at 0 is the first-order effect of the edit, for all heads in
# one backward pass; beside it what the whole ablation does.


# %%
def loss(amounts):
    held = tuple(edits.ablate(layer, "zero", amounts[layer][:, None, None]) for layer in range(2))
    return task.risks(model.apply(params, batch.inputs, edits=held)[0], batch)["loss"]


slope = jax.jit(jax.grad(loss))(jnp.zeros((2, 4)))
whole = jnp.stack([loss(jnp.zeros((2, 4)).at[divmod(i, 4)].set(1.0)) for i in range(8)]).reshape(2, 4) - loss(
    jnp.zeros((2, 4))
)
figure, ax = plt.subplots(figsize=(4.4, 3.2), layout="constrained")
for layer, colour in enumerate((BLUE, VERMILLION)):
    ax.plot(slope[layer], whole[layer], "o", color=colour, label=f"layer {layer}")
ax.axline((0, 0), slope=1, color=MUTED, lw=0.8, ls=":")
ax.set(xlabel="first order, nats", ylabel="head set to 0, nats more", title="A slope is not an effect")
ax.legend()
plt.show()

# %% [markdown]
# ## 5. An edit that is not well defined
# Softmax does not see a number added to a whole row of logits. So a key bias that changes no output must change no
# edit. `boost(kind="log")` keeps that law; the published `s + a|s|` (`kind="paint"`) does not: the same attention,
# logits shifted by -5, another mass on the same keys.

# %%
keys = (jnp.arange(length) < 4).astype(jnp.float32)
shift = tape.add("blocks.1.attn.logits", -5.0)
for kind, strength in (("log", 4.0), ("centred", 0.7), ("paint", 0.7)):
    masses = []
    for before in ((), (shift,)):
        held = (*before, edits.boost(1, keys, strength, kind))
        _, read = model.apply(params, batch.inputs, tape=("blocks.1.attn.weights",), edits=held)
        masses.append(float((read["blocks.1.attn.weights"][:, :, -1] * keys).sum(-1).mean()))
    print(f"{kind:8s} mass on the keys {masses[0]:.3f}, with shifted logits {masses[1]:.3f}")

# %% [markdown]
# ## 6. A head shut during training
# The same edits hold inside the training step. Two heads of the first layer are kept at 0 from the start; beside them
# the free model, and the free model with the same two heads set to 0 afterwards. What a head's absence changes when the
# others can learn to do without it is another question than what it does in a model that counts on it.

# %%
shut = (edits.zero_heads(0, (0, 1), 4),)
clamped = al.run(task, model, al.adamw(4e-3), steps=steps, seeds=1, batch_size=64, progress=False, edits=shut)
trained = jax.tree.map(lambda x: x[0], clamped.params)
figure, ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for name, one, colour in (("free", run, BLUE), ("two heads shut", clamped, VERMILLION)):
    ax.plot(one.trajectory.loss.step, one.trajectory.loss[0], color=colour, label=name, lw=1.2)
ax.axhline(np.log(task.num_tokens), color=MUTED, ls=":", lw=0.9)
ax.set(xlabel="step", ylabel="loss, nats (dotted: a guess)", title="Training without two heads")
ax.legend()
plt.show()
print(f"free {float(accuracy(params)):.3f}; free, then shut {float(accuracy(params, shut)):.3f}; ", end="")
print(f"shut while training {float(accuracy(trained, shut)):.3f}")
