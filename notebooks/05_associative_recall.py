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
# # Associative recall: what a state can hold, and what a layer learns to look up
#
# A text shows names with their values and asks for them later. Softmax attention keeps everything it has read;
# a recurrent mechanism keeps a state of fixed size and must write into it well. Here: the task and its oracle, states
# in bytes beside the bits a recall needs, three mechanisms trained for a moment, memories without training beside
# theory, and at last what a state can *compute*: products in a group. The task is that of Arora et al., *Zoology*,
# arXiv 2312.04927. Studies with seeds and verdicts: `attnlab reproduce associative-recall` and `associative-memory`.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import toy_tasks as tt
from attnlab import analysis, attention
from attnlab.attention import recurrent_catalogue as known
from attnlab.report.style import BLUE, GREEN, MUTED, ORANGE, RC, SEQUENTIAL, VERMILLION
from attnlab.studies.associative_memory.memories import reader
from attnlab.studies.associative_recall.memory import bytes_of, memories, written
from theory import recall, tracking
from toy_tasks.groups import Group

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
steps, seeds, draws = (20, 2, 2) if FAST else (260, 2, 8)

# %% [markdown]
# ## 1. The task on one picture
# Pairs of a key and a value, then some places that ask: a key comes again, and the model must say its value there
# (arcs). Everything else behind the pairs is filler, which never shows a key of this sequence.

# %%
task = tt.MQAR(vocab_size=32, length=24, num_pairs=6)
print(task.describe())
examples = analysis.evaluation_batch(task, 64)  # sequences that no training step sees
row, answer = np.asarray(examples.inputs[0]), np.asarray(examples.targets[0])
colours = {"key": BLUE, "value": GREEN, "query": VERMILLION, "filler": MUTED}
figure, ax = plt.subplots(figsize=(10, 2.6), layout="constrained")
for name, colour in colours.items():
    at = np.flatnonzero(examples.positions[name][0])
    ax.scatter(at, 0 * at, s=320, marker="s", color=colour, alpha=0.25 if name == "filler" else 0.85, label=name)
for t, token in enumerate(row):
    ax.text(t, 0, token, ha="center", va="center", color="white" if not examples.positions["filler"][0, t] else MUTED)
asked = np.flatnonzero(examples.positions["query"][0])
for t in asked:
    u = int(np.argmax(row[: task.context] == row[t])) + 1
    middle, height = (t + u) / 2, 0.25 + 0.06 * (t - u)
    ax.plot(x := np.linspace(u, t, 40), 0.12 + height * (1 - ((x - middle) / (t - u) * 2) ** 2), color=MUTED, lw=0.9)
    ax.text(t, -0.42, f"→ {answer[t]}", ha="center", color=VERMILLION)
ax.set(yticks=[], ylim=(-0.7, 1.9), xlabel="place")
ax.grid(False)
ax.legend(ncols=4, loc="upper left", markerscale=0.5)
plt.show()

# %% [markdown]
# The oracle reads the right value off the sequence, so its loss is 0. Before a model can bind keys to values it can
# know which ids are values, and then which $K$ values *this* sequence holds: a guess among those is right in $1/K$.
# Such plateaus are where training waits.

# %%
shown = jax.nn.one_hot(task.pairs(examples.inputs)[1], task.vocab_size).sum(axis=1)  # [B, V], the values shown
guess = jnp.broadcast_to(shown[:, None] / task.num_pairs, (*examples.inputs.shape, task.vocab_size))
for name, law in {"oracle": task.oracle(examples), "a value of this sequence": guess}.items():
    print(f"{name:26s} loss {float(task.risks(jnp.log(law + 1e-30), examples)['loss']):.3f} nats")
for name, plateau in task.plateaus.items():
    print(f"plateau {name:18s} loss {plateau.loss:.3f} nats, accuracy {plateau.accuracy:.3f}")

# %% [markdown]
# ## 2. How much is kept, how much is needed
# Bytes that decoding one sequence holds in float32, counted from the arrays of the decode state, and the formula of
# `theory.recall` for each. A window holds its last tokens only.

# %%
width, length = 32, 64
cases = {  # name: (mechanism, window, numbers of state by formula)
    "softmax": (attention.softmax, None, recall.attention_state(width, length)),
    "softmax, window of 16": (attention.softmax, 16, recall.attention_state(width, 16)),
    "local linear": (attention.lla, None, recall.attention_state(width, length)),
    "linear, no normaliser": (known.identity_kernel, None, recall.matrix_state(1, width, width)),
    "delta rule": (known.delta_net, None, recall.matrix_state(1, width, width)),
    "gated delta rule": (known.gated_delta_net, None, recall.matrix_state(1, width, width)),
    "mesa": (attention.mesa, None, recall.mesa_state(1, width, width)),
}
sizes = {}
print(f"{'D = K = 32, T = 64':24s} {'counted':>8s} {'formula':>8s}   bytes")
for name, (mechanism, window, numbers) in cases.items():
    model = al.Transformer(256, length, width=width, positions="none", window=window, mechanism=mechanism)
    sizes[name] = bytes_of(model)
    print(f"{name:24s} {sizes[name]:8d} {recall.state_bytes(numbers):8.0f}")

# %% [markdown]
# What does a recall *need*? All that is known of $C$ values among $V$ when they are asked for is a state of $b$ bits.
# Fano's inequality then bounds the share $a$ of right answers, whatever the mechanism:
#
# $$b \ge C\,\varphi(a), \qquad \varphi(a) = \log_2 V - h(a) - (1-a)\log_2(V-1).$$
#
# Left: the bound for states of a few sizes. Right: the most pairs that the states above could hold at 99 %, if every
# bit counted. A trained layer is far from that: it writes with interference, not with a code. The bound says what
# cannot be, section 4 what is.

# %%
vocab = 4096
pairs = np.unique(np.geomspace(4, 1e5, 60).astype(int))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained")
for size, colour in ((256, VERMILLION), (4096, BLUE), (16384, GREEN)):
    bound = [float(recall.accuracy_bound(8 * size, int(n), vocab)) for n in pairs]
    axes[0].plot(pairs, bound, color=colour, label=f"{size} bytes")
axes[0].set(
    xscale="log", xlabel="pairs C", ylabel="share of right answers", title=f"No state recalls more (V = {vocab})"
)
axes[0].legend()
most = [recall.recalled_pairs(8 * b, 0.99, vocab) for b in sizes.values()]
axes[1].barh(list(sizes), most, color=MUTED)
for y, (value, held) in enumerate(zip(most, sizes.values(), strict=True)):
    axes[1].text(value, y, f" {value:,.0f} pairs, {held} bytes", va="center", fontsize=8)
axes[1].set(title="Pairs at 99 %: the bound", xlim=(0, 1.6 * max(most)))
axes[1].invert_yaxis()
axes[1].grid(False)
plt.show()
print(f"{task.num_pairs} pairs of {task.num_values} distinct values, all right: ", end="")
print(f"{recall.map_bits(task.num_pairs, task.num_values, distinct=True):.1f} bits are enough and necessary")

# %% [markdown]
# ## 3. Learning it
# One layer, one head, no MLP, no positions; a causal convolution of width 3 on queries, keys and values, which can
# bring a key and its value together. Three mechanisms. While they train we score what their maps do
# (`analysis.copying_heads`, at the queries): `induction` is the share of the row that looks at what *followed* the
# earlier copy of the token, `duplicate` at the copy itself.

# %%
record = {"heads": al.log_spaced(24, of=analysis.copying_heads(task, 64, asked="query"))}
mechanisms = {"softmax": attention.softmax, "delta rule": known.delta_net, "linear": known.identity_kernel}
runs, models = {}, {}
for name, mechanism in mechanisms.items():
    models[name] = al.Transformer(
        task.vocab_size, task.length, width=16, no_mlp=(0,), positions="none", short_conv=3, mechanism=mechanism
    )
    options = {"steps": steps, "seeds": seeds, "batch_size": 64, "microbatch": 64, "record": record, "progress": False}
    runs[name] = al.run(task, models[name], al.adamw(1e-2), **options)
    print(f"{name:10s} {runs[name]}")

# %%
tints = dict(zip(runs, (BLUE, GREEN, VERMILLION), strict=True))
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.3), layout="constrained")
for name, run in runs.items():
    heads = run.trajectory.heads.isel(layer=0, head=0).load()
    axes[0].plot(run.trajectory.loss.step, run.trajectory.loss.T, color=tints[name], lw=1.2)
    axes[0].plot([], [], color=tints[name], label=name)
    for ax, score in zip(axes[1:], ("induction", "duplicate"), strict=True):
        ax.plot(heads.step, heads[score].transpose("step", "seed"), color=tints[name], lw=1.2)
axes[1].axhline(float(heads.chance[0, 0]), color=MUTED, ls="--", lw=0.9)
for name, dashes in (("values", ":"), ("context", "--")):
    axes[0].axhline(task.plateaus[name].loss, color=MUTED, lw=0.9, ls=dashes)
    axes[0].text(
        steps, task.plateaus[name].loss, f"knows the {name}", ha="right", va="bottom", fontsize=7.5, color=MUTED
    )
axes[0].set(title="loss (nats); each seed a line", xlabel="step", ylim=(0, None))
for ax, score in zip(axes[1:], ("induction (dashed: even row)", "duplicate"), strict=True):
    ax.set(title=score, xlabel="step", ylim=(0, 1))
figure.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# The loss waits where the values are known, then falls. What the heads score differs more between seeds than the
# accuracy does. A convolution of width 3 also shows a key and its value to the place *two* behind the key, and a head
# that looks there scores as neither. So, at the end: the share of a query's row at 0, 1 and 2 places behind its key.


# %%
site = "blocks.0.attn.weights"
at_key = jnp.argmax(examples.inputs[:, None, : task.context] == examples.inputs[:, :, None], axis=-1)  # [B, T]


def judged(name):
    """Per seed: accuracy, and the shares at 0, 1, 2 places behind the key, means over all queries."""

    @jax.jit
    def one(params):
        logits, tape = models[name].apply(params, examples.inputs, tape=(site,))
        share = analysis.row_shares(tape[site])[:, 0]  # [B, T, U]
        query = examples.positions["query"]
        behind = [jnp.take_along_axis(share, at_key[..., None] + n, axis=-1)[..., 0] for n in range(3)]
        shares = jnp.stack([jnp.sum(b * query) / jnp.sum(query) for b in behind])
        return task.risks(logits, examples)["accuracy"], shares

    return [one(jax.tree.map(lambda x, s=s: x[s], runs[name].params)) for s in range(seeds)]


print(f"a guess is right in {1 / task.num_pairs:.2f}")
for name in runs:
    told = (f"right {float(right):.2f}, shares {np.asarray(shares, float).round(2)}" for right, shares in judged(name))
    print(f"{name:10s} " + ";  ".join(told))

# %% [markdown]
# The maps at the end, on the sequence of the first picture; rows of queries only, shares $|A_{tu}|/\sum_w|A_{tw}|$. A
# green frame is where the asked value stands. A recurrent mechanism has a map as well: what its state still holds of
# each token.

# %%
figure, axes = plt.subplots(len(runs), 1, figsize=(9, 2 * len(runs) + 0.4), sharex=True, layout="constrained")
for ax, (name, run) in zip(axes, runs.items(), strict=True):
    params = jax.tree.map(lambda x: x[0], run.params)
    maps = models[name].apply(params, examples.inputs[:1], tape=(site,))[1][site]
    share = np.asarray(analysis.row_shares(maps))[0, 0][asked]
    drawn = ax.imshow(share, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    for y, t in enumerate(asked):
        u = int(np.argmax(row[: task.context] == row[t])) + 1
        ax.add_patch(plt.Rectangle((u - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=GREEN, lw=1.5))
    ax.set_yticks(range(len(asked)), [f"asks {row[t]}" for t in asked])
    ax.set_title(f"{name}, seed 0")
    ax.grid(False)
axes[-1].set_xticks(range(task.length), row)
axes[-1].set_xlabel("token at the key's place")
figure.colorbar(drawn, ax=axes, shrink=0.6, label="share of the row")
plt.show()

# %% [markdown]
# ## 4. Memories without training
# Random unit keys and values are written, every key is read back, and the answer is the nearest of all 4096 values.
# Dots are the mechanisms of the catalogue, run by their own decode step (`studies.associative_recall.memory`); lines
# are `theory.recall.recall_accuracy`, which never sees them: it knows the matrix $M$ that a rule makes of the keys and
# the law of a cosine. For $n$ pairs in a state of $d\times d$:
#
# - *Hebb*, $S=\sum_i v_ik_i^T$: signal 1, noise $(n-1)/d$;
# - *delta*, one pass: each write erases what the state says at its key, and disturbs what was written before;
# - *least squares*: exact as long as $n \le d$, then a projection.

# %%
width, loads = 32, (8, 16, 32, 64) if FAST else (8, 16, 24, 32, 48, 64, 96)
table = tt.StackedRecall(dim=width).embeddings
keys, values, ids = (np.asarray(x) for x in written(table, draws))
told = {"hebb": ("hebb", {}), "least_squares": ("ridge", {"ridge": 1e-6}), "delta": ("delta", {})}
figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
print("right among 4096 values, measured / predicted\n" + f"{'pairs':14s}" + "".join(f"{n:13d}" for n in loads))
gaps = {}
for (name, (rule, options)), colour in zip(told.items(), (BLUE, GREEN, VERMILLION), strict=True):
    read = reader(memories(width)[name], draws, keys.shape[1], width)
    measured, predicted = [], []
    for n in loads:
        reads = read(jnp.asarray(keys), jnp.asarray(values), jnp.asarray(keys), n)[:, :n]
        measured.append(np.mean(np.argmax(reads @ table.values.T, axis=-1) == ids[:, :n]))
        predicted.append(recall.recall_accuracy(rule, n, width, len(table.values), draws=2, **options).value)
    gaps[name] = np.abs(np.subtract(measured, predicted)).max()
    ax.plot(loads, predicted, color=colour, label=f"{name.replace('_', ' ')} (line: theory)")
    ax.plot(loads, measured, "o", color=colour, ms=5)
    print(f"{name:14s}" + "".join(f"{m:7.2f} /{p:5.2f}" for m, p in zip(measured, predicted, strict=True)))
ax.axvline(width, color=MUTED, ls="--", lw=0.9)
ax.set(xscale="log", xlabel="pairs written (dashed: the width)", ylabel="share of right answers", ylim=(0, 1.03))
ax.set_xticks(loads, loads)
ax.legend()
plt.show()
print("largest |measured - predicted|:", ", ".join(f"{name} {gap:.3f}" for name, gap in gaps.items()))

# %% [markdown]
# One pass of the delta rule recalls least of the three, less even than Hebb, which erases nothing: it is exact at the
# pair written last, and pays with those before. Keys are random here; a layer that trains its keys can keep them apart.
#
# ## 5. What a state can follow
# To recall is to keep; to *track* is to multiply: after every letter of a word over a group, say the product so far.
# `theory.tracking` has the answer for each family of recurrences, with a proof for every *no* and weights for every
# *yes*. What decides is which matrices may act on the state:
#
# - entries in [0, 1] (`decay`: Mamba, GLA) and delta rates up to 1: a repeated letter ends in a fixed point;
# - signs, or one delta factor with rate up to 2: a letter may flip, order 1 or 2;
# - complex phases: any cyclic factor, but they commute, so the group must be abelian;
# - $m$ delta factors a token: products of $m$ reflections; dense matrices: every group;
# - constant depth, as softmax: not for a group that is not solvable, unless $TC^0 = NC^1$.

# %%
groups = {name: Group(name) for name in ("Z2", "Z2 x Z2", "Z5", "S3", "S4", "A5")}
answers = tracking.expressivity_table(groups, factors=(1, 2, 3))
families = list(answers["Z2"])
tint = {"yes": GREEN, "no": VERMILLION, "conjecturally no": ORANGE, "not ruled out": MUTED, "open": BLUE}
figure, ax = plt.subplots(figsize=(10, 3), layout="constrained")
for y, row_of in enumerate(answers.values()):
    for x, family in enumerate(families):
        ax.add_patch(plt.Rectangle((x - 0.5, y - 0.5), 1, 1, color=tint[row_of[family].answer], alpha=0.3, ec="white"))
        ax.text(x, y, row_of[family].answer.replace("conjecturally", "conj."), ha="center", va="center", fontsize=8)
ax.set(xlim=(-0.5, len(families) - 0.5), ylim=(len(groups) - 0.5, -0.5))
ax.set_xticks(range(len(families)), [f.replace("_", " ") for f in families])
ax.set_yticks(range(len(groups)), list(groups))
ax.grid(False)
plt.show()
for name, family in (
    ("Z5", "decay"),
    ("Z5", "delta x 1"),
    ("S3", "rotation"),
    ("S3", "delta x 2"),
    ("A5", "constant_depth"),
):
    print(f"{name:3s} {family:15s} {answers[name][family].answer:17s} {answers[name][family].reason}")

# %% [markdown]
# Every *yes*, run: the weights built by hand follow a random word, token by token, and their read-out is compared with
# the product from the Cayley table. And one *no*, watched: a letter of order 5, repeated, in the weights for two delta
# factors a token, and in the same with the first factor only. Two reflections make a rotation, which is back after five
# letters; one is back after two.

# %%
rng = np.random.default_rng(0)
word_length = 100 if FAST else 1000
print(f"share of right answers over {word_length} letters, and numbers of state")
for name, group in groups.items():
    word = rng.integers(0, len(group.table), word_length)
    right = tracking.prefix_products(group, word)
    found = []
    for family in families:
        if answers[name][family].answer == "yes":
            kind, _, factors = family.partition(" x ")
            tracker = tracking.build_tracker(group, kind, factors=int(factors or 1))
            found.append(f"{family} {np.mean(tracker.run(word) == right):.2f} ({tracker.state_size})")
    print(f"  {name:8s} {', '.join(found)}")
two = tracking.build_tracker(groups["Z5"], "delta", factors=2).transition
one = tracking.Householder(two.keys[:, :1], two.rates[:, :1])
print("\nhow far A^n is from the identity, n = 1 .. 6, A the matrix of a letter of order 5")
for name, transition in {"two factors": two, "one factor": one}.items():
    powers = [np.linalg.matrix_power(transition.matrix(1), n) for n in range(1, 7)]
    print(f"  {name:12s}" + "".join(f"{np.abs(a - np.eye(len(a))).max():7.2f}" for a in powers))
