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
# # The catalogue of attention: every mechanism on one sequence
#
# Softmax, sigmoid, linear attention, the delta rule, gates, state spaces: whatever a mechanism does inside, out come
# values that were mixed, $o_t = \sum_u A_{tu} v_u$. So all of them can be laid side by side: same queries, same keys,
# and we look at the *mixing matrix* $A$. What each name means, with formula and source, is in
# [docs/mechanisms.md](../docs/mechanisms.md). Nothing is trained until the last section, where we add mechanisms of
# our own.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import re
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.transforms import Bbox

import toy_tasks as tt
from attnlab import analysis, attention
from attnlab.attention import recurrent_catalogue
from attnlab.attention.features import Each, l2_silu
from attnlab.attention.rules import Delta, Hebb
from attnlab.report.style import BLUE, DIVERGING, GREEN, MUTED, RC, SEQUENTIAL, VERMILLION

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
HANDFUL = tuple(
    getattr(attention, n) for n in ("softmax", "sigmoid", "differential", "head_gated", "delta_net", "mesa")
)
some = (*HANDFUL, *attention.MECHANISMS[::-12])
shown = tuple(m for m in attention.MECHANISMS if m in some or not FAST)
steps, seeds = (10, 1) if FAST else (300, 2)
print(f"{len(attention.MECHANISMS)} mechanisms in the catalogue, {len(shown)} shown")

# %% [markdown]
# ## 1. The sequence
# Letters with repetitions, made so that mechanisms can disagree:
#
# - a letter's query meets its own key and the keys of all earlier copies of it, and no other letter's;
# - a capital is the *opposite* of its small letter: it is written with a negative score;
# - every query gives `<s>` the same small score, as a trained sink does;
# - the last query asks for `f`, twice as loudly, and `f` was seen once before.
#
# Every key is off by a little, so that no two scores tie: a mechanism that keeps the largest ones would let rounding
# decide.
#
# Queries, keys, values and the layer's input `x` (for gates and decays) are looked up by token: what a layer's
# matrices would make of them. Two heads in rotated copies of the same geometry; we draw the first.

# %%
tokens = ["<s>", *"abcadbaecfadcaBbedacdAf"]
heads, width, like, sink = 2, 8, 3.0, 1.5  # `like`, `sink`: the scores q·k / √K of a match, and of <s>
rng = np.random.default_rng(0)
size = np.sqrt(like) * width**0.25
letters = {letter: i for i, letter in enumerate(dict.fromkeys(t.lower() for t in tokens if t != "<s>"))}
q, k, v = np.zeros((3, heads, len(tokens), width))
x = np.zeros((len(tokens), heads * width))
for h in range(heads):
    basis = size * np.linalg.qr(rng.normal(size=(width, width)))[0]
    for t, token in enumerate(tokens):
        if token == "<s>":
            q[h, t] = k[h, t] = basis[-1]
        else:
            direction = basis[letters[token.lower()]] * (1 if token.islower() else -1)
            q[h, t], k[h, t] = direction + sink / like * basis[-1], direction
q[:, -1] *= 2
k += 0.05 * rng.normal(size=k.shape)
value_of, input_of = rng.normal(size=(2, len(set(tokens)), heads, width))
for t, number in enumerate(np.unique(tokens, return_inverse=True)[1]):
    v[:, t], x[t] = value_of[number], input_of[number].ravel()
q, k, v, x = (a.astype(np.float32) for a in (q, k, v, x))
mask = np.asarray(attention.causal_mask(len(tokens)))

figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
scores = np.where(mask, q[0] @ k[0].T / np.sqrt(width), np.nan)
softmax = attention.softmax.apply({}, q, k, v, mask=mask, view="map").weights[0]
for ax, image, cmap, bound, title in (
    (axes[0], scores, DIVERGING, 2 * like, "scores $q_t\\cdot k_u/\\sqrt{K}$"),
    (axes[1], softmax, SEQUENTIAL, 1, "their softmax"),
):
    drawn = ax.imshow(image, cmap=cmap, vmin=-bound if cmap is DIVERGING else 0, vmax=bound)
    ax.set(xticks=range(len(tokens)), yticks=range(len(tokens)), xlabel="key u", ylabel="query t", title=title)
    ax.set_xticklabels(tokens, fontsize=6.5)
    ax.set_yticklabels(tokens, fontsize=7)
    ax.grid(False)
    figure.colorbar(drawn, ax=ax, shrink=0.75)
plt.show()

# %% [markdown]
# ## 2. Every map
# A mechanism is a value with three views: `apply(..., view="map")` returns $A$, `apply(...)` is the form one trains
# with, `start` and `step` decode one token at a time. Here is all of it, for any mechanism, at its initial parameters.
# A mechanism that mixes every *channel* by a matrix of its own has a map where a head is one channel wide, so there
# each channel is given as a head. One whose output is not linear in the values has no map at all, and says so.

# %%
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # compiled once, run once


def look(mechanism):
    """What the three views say: the map `A [H, T, U]` or None, outputs `[H, T, K]` of each, the last state."""
    dims, inputs = attention.Dims(heads, width, heads * width), (q, k, v)
    has_map = getattr(mechanism, "has_map", lambda head_dim: True)
    if not has_map(width) and has_map(1):
        dims = attention.Dims(heads * width, 1, heads * width)
        inputs = tuple(a.transpose(0, 2, 1).reshape(heads * width, -1, 1) for a in inputs)

    def views(key, x, *inputs):
        params = mechanism.init(key, dims)
        parallel = by_map = mechanism.apply(params, *inputs, x=x, mask=mask)
        if has_map(dims.head_dim):
            by_map = mechanism.apply(params, *inputs, x=x, mask=mask, view="map")
        empty = mechanism.start(params, (), len(tokens), dims)

        def step(state, token):
            out, state = mechanism.step(params, state, *token[:3], x=token[3])
            return state, out

        state, by_step = jax.lax.scan(step, empty, (*(a.swapaxes(0, 1) for a in inputs), x))
        return {
            "A": by_map.weights if has_map(dims.head_dim) else None,
            "null": by_map.null,
            "map": by_map.out,
            "parallel": parallel.out,
            "step": by_step.swapaxes(0, 1),
            "state": state,
        }

    found = jax.jit(views, compiler_options=QUICK)(jax.random.key(0), x, *inputs)
    return jax.tree.map(np.asarray, found) | {"values": inputs[2]}


with ThreadPoolExecutor() as pool:  # most of the time is compilation, which may use all cores
    seen = dict(zip((m.name for m in shown), pool.map(look, shown), strict=True))
maps = {name: found["A"] for name, found in seen.items() if found["A"] is not None}
print("without a map:", *(name for name in seen if name not in maps))

# %% [markdown]
# One panel per mechanism, grouped by how it is built. The colour says what kind of map it is *here*:
#
# - **blue**: all weights $\ge 0$ and every row sums to 1, a weighted mean of values (the simplex);
# - **green**: all weights $\ge 0$, rows sum to something else;
# - **orange, with blue where negative**: weights of both signs.
#
# Every panel has its own scale, up to its largest $|A_{tu}|$, and colours grow with the square root, so that small
# weights are seen. The number under the panel is the row mass $\sum_u |A_{tu}|$: of the row that has least, and of
# the one that has most.


# %%
FIXED = (attention.Zero, attention.OffsetTable, attention.PositionTable, attention.Itself)


def family(m):
    """How a mechanism is built, read off its slots."""
    if isinstance(m, attention.Gated):
        return "gates around softmax"
    for name in ("KERNELS", "DECAYS", "LEARNING_RULES", "PER_CHANNEL"):
        if m in getattr(recurrent_catalogue, name):
            return f"recurrences: {name.lower().replace('_', ' ')}"
    if isinstance(m, attention.Weighted):
        if isinstance(m.score, FIXED) or isinstance(m.tokens, attention.KeyOnly):
            return "no query meets a key"
        if m.columns or m.value_bias:
            return "softmax with null columns or a value"
        if isinstance(m.map, attention.Softmax) and not m.post:
            return "softmax of other scores"
    return "other maps of the scores"


def kind(a):
    """`simplex`, `non-negative` or `signed`, to rounding."""
    if a.min() < -1e-6 * np.abs(a).max():
        return "signed"
    return "simplex" if np.allclose(a.sum(axis=-1), 1, atol=1e-5) else "non-negative"


def span(mass):
    """Smallest and largest, briefly."""
    low, high = (f"{m:.2g}" if m < 9.95 else f"{m:.0f}" for m in (mass.min(), mass.max()))
    return low if low == high else f"{low} … {high}"


def broken(name, limit=17):
    """A long name in lines, broken behind `_` and before `+`."""
    lines = [""]
    for part in re.findall(r"\+?[^_+]+_?", name):
        if lines[-1] and len(lines[-1]) + len(part) > limit:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


GREENS = LinearSegmentedColormap.from_list("greens", ["#ffffff", "#bfe5d6", "#4bb592", GREEN, "#00402f"])
COLOURS = {"simplex": (BLUE, SEQUENTIAL), "non-negative": (GREEN, GREENS), "signed": (VERMILLION, DIVERGING)}


def draw_map(ax, a, title):
    colour, cmap = COLOURS[kind(a)]
    image = np.sign(a) * np.sqrt(np.abs(a) / np.abs(a).max())
    ax.imshow(image, cmap=cmap, vmin=-1 if cmap is DIVERGING else 0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.8)
    ax.set_title(title, fontsize=6.4, loc="center", pad=2.5, parse_math=False)
    ax.set_xlabel(span(np.abs(a).sum(axis=-1)), fontsize=6.4, color=colour, labelpad=2)


def shelves(groups, columns):
    """`(row, column, name, title or None)`: groups one after the other, a gap between two that share a row."""
    row, column = 0, 0
    for title, names in groups.items():
        for start in range(0, len(names), columns):
            piece = names[start : start + columns]
            if column and column + len(piece) > columns:
                row, column = row + 1, 0
            yield from ((row, column + i, name, None if i else title) for i, name in enumerate(piece))
            column += len(piece) + 1


groups = {}
for m in shown:
    if m.name in maps:
        groups.setdefault(family(m), []).append(m.name)
columns = 13
places = list(shelves(groups, columns))
rows = places[-1][0] + 1
figure = plt.figure(figsize=(13.5, 1.43 * rows + 0.3))
for row, column, name, title in places:
    ax = figure.add_subplot(rows, columns, row * columns + column + 1)
    draw_map(ax, maps[name][0], broken(name))
    if title:
        ax.set_ylabel(textwrap.fill(title, 15), fontsize=7.5, fontweight="bold")
figure.subplots_adjust(left=0.035, right=0.995, bottom=0.15 / rows, top=1 - 0.35 / rows, wspace=0.12, hspace=0.55)
legend = {"simplex": "simplex: a weighted mean", "non-negative": "non-negative: other row sums", "signed": "signed"}
for i, (name, text) in enumerate(legend.items()):
    figure.text(0.035 + 0.2 * i, 1 - 0.05 / rows, text, color=COLOURS[name][0], fontweight="bold", va="top")
plt.show()

# %% [markdown]
# How many are of which kind, and which maps are *equal* here. A map says where values come from, not what happens to
# them afterwards: a gate on the output, on the values or behind the output matrix does not show in it, nor does an
# added value. Others differ only in what their parameters begin with.

# %%
kinds = {name: kind(a) for name, a in maps.items()}
for name in COLOURS:
    print(f"{list(kinds.values()).count(name):3d} {name}")
twins = {}
for name, a in maps.items():
    same = (first for first in twins if maps[first].shape == a.shape and np.allclose(maps[first], a, atol=1e-5))
    twins.setdefault(next(same, name), []).append(name)
print("\nequal maps:")
for names in twins.values():
    if len(names) > 1:
        print("  " + " = ".join(names))
outside = [n for n, a in maps.items() if not np.allclose(a @ seen[n]["values"], seen[n]["map"], rtol=1e-4, atol=1e-4)]
print("\nthe output is more than A @ v:", ", ".join(outside))

# %% [markdown]
# ## 3. Three views of one thing
# The map is for looking: it costs $O(T^2)$ whatever the mechanism. The parallel view is what one trains with and need
# not build $A$; a recurrence works in chunks there. The step view decodes with a state: a cache that grows, for
# mechanisms that compare pairs, or a matrix of fixed size. Here $A$ is read out of all three: from the other two by
# sending in unit vectors as values, a few columns at a time. (Of `differential` without its norm of heads, which is
# not linear in the values; of the gates the one per head, which a matrix can hold.)


# %%
def matrices(mechanism):
    """`A [T, U]` of the first head, as map, parallel form and decode step have it."""
    dims = attention.Dims(heads, width, heads * width)
    units = np.eye(len(tokens), dtype=np.float32).reshape(len(tokens), -1, width).swapaxes(0, 1)  # [pieces, T, K]

    def views(key, x, q, k, v):
        params = mechanism.init(key, dims)

        def outputs(unit):
            values = jnp.broadcast_to(unit, v.shape)
            parallel = mechanism.apply(params, q, k, values, x=x, mask=mask).out
            empty = mechanism.start(params, (), len(tokens), dims)

            def step(state, token):
                out, state = mechanism.step(params, state, *token[:3], x=token[3])
                return state, out

            _, out = jax.lax.scan(step, empty, (*(a.swapaxes(0, 1) for a in (q, k, values)), x))
            return parallel[0], out[:, 0]

        by_map = mechanism.apply(params, q, k, v, x=x, mask=mask, view="map").weights[0]
        parallel, step = (jnp.concatenate(list(a), axis=-1) for a in jax.lax.map(outputs, units))
        return by_map, parallel, step

    return jax.tree.map(np.asarray, jax.jit(views, compiler_options=QUICK)(jax.random.key(0), x, q, k, v))


handful = tuple(attention.differential_unnormalized if m.name == "differential" else m for m in HANDFUL)
figure, axes = plt.subplots(3, len(handful), figsize=(2 * len(handful), 6.6), layout="constrained")
for column, m in zip(axes.T, handful, strict=True):
    read = matrices(m)
    for ax, name, a in zip(column, ("map", "parallel", "step"), read, strict=True):
        draw_map(ax, a, "")
        apart = np.abs(a - read[0]).max()
        ax.set_xlabel("" if name == "map" else f"largest difference {apart:.0e}", fontsize=7.5, color=MUTED)
        if m is handful[0]:
            ax.set_ylabel(name, fontsize=9)
    column[0].set_title(m.name, fontsize=8, loc="center")
plt.show()


def kept(mechanism, length):
    """How many numbers a decoder keeps after `length` tokens."""
    dims = attention.Dims(heads, width, heads * width)
    state = jax.eval_shape(lambda key: mechanism.start(mechanism.init(key, dims), (), length, dims), jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(state))


lengths = (len(tokens), 100 * len(tokens))
print(f"numbers kept while decoding, both heads, after {lengths[0]} and {lengths[1]} tokens")
for m in handful:
    print(f"  {m.name:28s} {kept(m, lengths[0]):8d} {kept(m, lengths[1]):8d}")

# %% [markdown]
# And all of them: the largest difference of an output between the views, over the largest output. Numbers are
# float32, so views agree to rounding; a linear system that is solved for every query, as in `lla`, makes more of it.

# %%
lines = []
for name, found in seen.items():
    scale = np.abs(found["parallel"]).max()
    to_map = np.abs(found["map"] - found["parallel"]).max() / scale
    to_step = np.abs(found["step"] - found["parallel"]).max() / scale
    lines.append((name, f"{to_map:9.0e}" if name in maps else "   no map", f"{to_step:9.0e}", max(to_map, to_step)))
half = -(-len(lines) // 2)
head = f"{'to parallel, from':32s} {'map':>9s} {'step':>9s}"
print(f"{head}    {head}")
for i in range(half):
    print("    ".join(f"{name:32s} {a} {b}" for name, a, b, _ in lines[i::half]))
worst = max(lines, key=lambda line: line[-1])
print(f"\nlargest: {worst[-1]:.1e} ({worst[0]})")

# %% [markdown]
# ## 4. Diagnostics over the catalogue
# `attnlab.analysis` reads maps, not mechanisms, so each figure below is one call for all of them. Signed and
# unnormalised rows count by size, $p_{tu} = |A_{tu}| / \sum_w |A_{tw}|$; where mass and share say different things,
# both are given. Of the first head, means over all queries but the first:
#
# - `mass` $\sum_u |A_{tu}|$; `evenness`, the entropy of $p_t$ over $\ln n_t$ (0: one key, 1: all keys alike);
# - `<s> share`, `<s> mass`: what goes to the first token;
# - `rank`: effective rank of $A$ (exponential of the entropy of its singular values);
# - `match`: the share that the last query, `f`, gives to the `f` it has seen before.

# %%
stack, causal = jnp.stack([a[0] for a in maps.values()]), jnp.asarray(mask)
on_sink = analysis.on_key(stack, 0, causal)
match = tokens.index("f")
rows = {
    "mass": analysis.row_mass(stack, causal).absolute,
    "evenness": analysis.evenness(stack, causal),
    "<s> share": on_sink.share,
    "<s> mass": on_sink.mass,
}
figures = {name: np.nanmean(np.asarray(value)[:, 1:], axis=1) for name, value in rows.items()}
figures["rank"] = np.asarray(analysis.entropy_rank(stack))
figures["match"] = np.asarray(analysis.row_shares(stack, causal)[:, -1, match])
names = list(maps)
print(f"{'':32s} {'kind':>13s}" + "".join(f"{name:>11s}" for name in figures))
for m in HANDFUL:
    i = names.index(m.name)
    print(f"{m.name:32s} {kinds[m.name]:>13s}" + "".join(f"{value[i]:11.3g}" for value in figures.values()))
print()
for name, value in figures.items():
    order = [names[i] for i in np.argsort(value)]
    print(f"{name:10s} least: {', '.join(order[:4]):75s} most: {', '.join(order[:-5:-1])}")

# %% [markdown]
# The same, drawn; names where there is room for one. Left: a row can be even or spiky whatever its mass, and only the
# simplex ties the mass to 1. Right: what a row gives to a key that everybody likes a little, against what it gives to
# the one that is asked for. A mechanism that only looks nearby has neither.


# %%
def name_points(ax, xs, ys, labels, colours):
    """Write as many names as fit without touching another name or point, first come first served."""
    figure = ax.figure
    figure.draw_without_rendering()
    taken = [Bbox.from_bounds(px - 3, py - 3, 6, 6) for px, py in ax.transData.transform(np.column_stack([xs, ys]))]
    for px, py, label, colour in zip(xs, ys, labels, colours, strict=True):
        for shift, align in (((4, 3), "left"), ((4, -8), "left"), ((-4, 3), "right"), ((-4, -8), "right")):
            style = {"fontsize": 6.5, "color": colour, "ha": align, "parse_math": False}
            text = ax.annotate(label, (px, py), shift, textcoords="offset points", **style)
            box = text.get_window_extent()
            if ax.bbox.contains(box.x0, box.y0) and ax.bbox.contains(box.x1, box.y1) and not box.count_overlaps(taken):
                taken.append(box)
                break
            text.remove()


ranks = [np.argsort(np.argsort(value)) / (len(names) - 1) for value in figures.values()]
extreme = np.max([np.abs(2 * rank - 1) for rank in ranks], axis=0)  # 1: the least or the most in something
chosen = [m.name for m in HANDFUL]
firsts = [i for i, n in enumerate(names) if n in twins]  # of equal maps the first
order = sorted(firsts, key=lambda i: (names[i] not in chosen, -extreme[i]))
point_colours = [COLOURS[kinds[names[i]]][0] for i in order]
figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
for ax, (first, second) in zip(axes, (("evenness", "mass"), ("<s> share", "match")), strict=True):
    ax.scatter(figures[first][order], figures[second][order], s=18, c=point_colours, alpha=0.8)
    ax.set(xlabel=first, ylabel=second, yscale="log" if second == "mass" else "linear")
    ax.margins(0.06)
    name_points(ax, figures[first][order], figures[second][order], [names[i] for i in order], point_colours)
plt.show()

# %% [markdown]
# ## 5. Write your own in ten lines
# **A map of pairs** is its parameters and a function. Here weights fall with the *distance* of query and key like
# Student's t, with heavy tails where softmax has light ones. It gets the cache, the decode step and every diagnostic
# for nothing.


# %%
def init(key, dims):
    return {"log_sharpness": jnp.zeros(dims.num_heads)}


def student_t(params, q, k, *, mask):  # -> A[*B, H, T, U]
    square = jnp.sum(jnp.square(q[..., :, None, :] - k[..., None, :, :]), axis=-1)
    sharpness = jnp.exp(params["log_sharpness"])[:, None, None]
    weights = jnp.where(mask, 1 / (1 + sharpness * square), 0)
    return weights / jnp.sum(weights, axis=-1, keepdims=True)


distance = attention.from_weights(init, student_t)

# %% [markdown]
# **A composition** of slots that are there is one line: sparsemax, a null column to leave mass on, and forgetting.
#
# **A recurrence** is a rule with its slots filled. A fixed decay of the catalogue is exponential in time; this one is a
# power of it, so that no time scale is built in: $A_{tu} \propto q_t\cdot k_u \left(\frac{u+1}{t+1}\right)^p$ under the
# Hebbian rule, $p$ learned per head. The same decay goes into the delta rule.

# %%
sparse = attention.Weighted(
    "sparse_forgetting", attention.Sparsemax(), attention.ZeroLogit(), tokens=attention.Forget()
)


@dataclass(frozen=True)
class PowerLaw:
    per_channel: ClassVar[bool] = False

    def init(self, key, dims):
        return {"log_power": jnp.zeros(dims.num_heads)}

    def __call__(self, params, stream):  # -> log of the decay, [*B, H, T]
        log_ratio = jnp.log(jnp.maximum(stream.at, 1)) - jnp.log(stream.at + 1.0)
        return jnp.broadcast_to(jnp.exp(params["log_power"])[:, None] * log_ratio, stream.k.shape[:-1])


fading = attention.Recurrent("power_law", Hebb(PowerLaw()))
fading_delta = attention.Recurrent("power_law_delta", Delta(PowerLaw()), feature=Each(l2_silu))

# %% [markdown]
# They are mechanisms like all others: the same `look`, the same picture, the same agreement of views. Decoding a
# recurrence token by token is tested against its chunks without a line about either.

# %%
mine = (distance, sparse, fading, fading_delta)
figure, axes = plt.subplots(1, len(mine), figsize=(2.6 * len(mine), 3), layout="constrained")
for ax, m in zip(axes, mine, strict=True):
    found = look(m)
    scale = np.abs(found["parallel"]).max()
    gaps = [np.abs(found[view] - found["parallel"]).max() / scale for view in ("map", "step")]
    print(f"{m.name:20s} views differ by {gaps[0]:.0e} (map), {gaps[1]:.0e} (step); {kind(found['A'])}")
    draw_map(ax, found["A"][0], m.name)
    ax.title.set_fontsize(8)
    ax.xaxis.label.set_fontsize(8)
plt.show()
ratio = (np.arange(len(tokens)) + 1) / (np.arange(len(tokens))[:, None] + 1)
by_hand = np.where(mask, q[0] @ k[0].T * ratio, 0)
print("power_law against its formula:", np.abs(look(fading)["A"][0] - by_hand).max())

# %% [markdown]
# ## 6. Train them
# *Paired recall*: every place of the context shows a key with its value, then keys come alone and ask. One layer of
# attention without MLP, a few seconds each. The probe `mixing` asks nothing of a mechanism but its map; here it
# watches the rows of the queries that ask (`active`), while we train.

# %%
task = tt.PairedRecall(num_keys=16, num_values=16, num_pairs=8)
print(task.describe())
sizes = {"vocab_size": task.vocab_size, "input_dim": task.width, "length": task.length, "head_dim": 16}
record = {"mixing": al.log_spaced(25, of=analysis.mixing(task, active="query", parts=("mass", "spread")))}
runs = {}
for m in (attention.softmax, distance, fading_delta):
    model = al.Transformer(**sizes, mechanism=m, positions="none", norm="none", no_mlp=(0,))
    runs[m.name] = al.run(task, model, al.adamw(4e-3), steps=steps, seeds=seeds, record=record, progress=False)
    print(runs[m.name])

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for (name, run), colour in zip(runs.items(), (BLUE, GREEN, VERMILLION), strict=True):
    mixed = run.trajectory.mixing.isel(layer=0, head=0)
    axes[0].plot(run.trajectory.loss.step, run.trajectory.loss.T, color=colour, linewidth=1.2)
    axes[1].plot(mixed.step, mixed.evenness_active.T, color=colour, linewidth=1.2)
    axes[2].plot(mixed.step, mixed.absolute_mass_active.T, color=colour, linewidth=1.2)
    axes[0].plot([], [], color=colour, label=name)
for (name, plateau), dashes in zip(task.plateaus.items(), ("--", ":"), strict=True):
    axes[0].axhline(plateau.loss, color=MUTED, linewidth=0.9, linestyle=dashes, label=f"knows the {name}")
for ax, title in zip(axes, ("loss (nats)", "evenness of rows that ask", "their mass Σ|A|"), strict=True):
    ax.set(xlabel="step", title=title, ylim=(0, None))
figure.legend(loc="outside lower center", ncols=5)
plt.show()
for name, run in runs.items():
    last, loss = run.trajectory.mixing.isel(layer=0, head=0, step=-1), run.trajectory.loss.isel(step=-1)
    print(
        f"{name:16s} loss {np.round(loss.values, 3)}, evenness {np.round(last.evenness_active.values, 2)} (each seed)"
    )
learned = runs["power_law_delta"].params["blocks"]["0"]["attn"]["mechanism"]["log_power"]
print("the power p, 1 before training:", np.round(np.exp(learned).ravel(), 2))

# %% [markdown]
# Both maps of pairs learn to look at few keys. The recurrence has a state of fixed size and begins with too much
# fading for this task: $p$ falls while it trains.
#
# `al.compare(task, [attention.softmax, distance, fading_delta])` does the same in one line, with a table and two
# pictures; `attnlab compare --task paired-recall --mechanisms ...` takes the names of the catalogue. Formulas and
# sources: [docs/mechanisms.md](../docs/mechanisms.md).
