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
# # Local linear attention: a line where softmax takes a mean
#
# Softmax attention answers with a weighted mean of the values it has seen: a *locally constant* regression of values on
# keys. Local linear attention (LLA; Zuo et al., arXiv 2510.01450) fits a weighted *line* there and reads it at the
# query. We look at what it computes, at its weights, at its limits, and at what it costs:
# `attnlab.kernels.local_linear_attention` needs memory linear in the length. With claims and verdicts:
# `attnlab reproduce local-linear-attention`.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import toy_tasks as tt
from attnlab import attention, keys
from attnlab.attention import LocalLinear, Weighted
from attnlab.kernels import CG, EXACT, Solver, lla_blockwise, local_linear_attention, solve_report
from attnlab.report.style import BLUE, GREEN, MUTED, ORANGE, PURPLE, RC, VERMILLION
from attnlab.studies.local_linear import stream
from attnlab.studies.local_linear.identities import dense, identities
from theory import recall

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
steps, seeds, draws = (10, 1, 2) if FAST else (300, 2, 4)

# %% [markdown]
# ## 1. A mean and a line
# Keys and queries are numbers here, values a curve. With logits $q k/h^2 - k^2/2h^2$, softmax weights are a Gaussian
# kernel $p_{tu} \propto e^{-(q_t-k_u)^2/2h^2}$: softmax attention is the local mean $\sum_u p_{tu} v_u$. LLA is the
# $b$ of
#
# $$\min_{b,\,W} \sum_u p_{tu}\,\lVert v_u - b - W(k_u - q_t)\rVert^2 + \rho\,\lVert W\rVert^2 .$$
#
# There is a gap in the data, and it ends at both sides.


# %%
def smooth(points, seen, values, bandwidth, ridge=None):
    """Values at `points`, and the map `[P, n]`: softmax with a Gaussian kernel, or LLA with this ridge."""
    q, k, v = (jnp.asarray(x, jnp.float64)[None, :, None] for x in (points, seen, values))
    bias = -jnp.square(k[..., 0])[:, None, :] / (2 * bandwidth**2)
    q, k = q / bandwidth, k / bandwidth  # then the logits are q k, and the ridge is in units of h^2
    post = None if ridge is None else LocalLinear(ridge / bandwidth**2, "relative")
    mechanism = attention.softmax if ridge is None else Weighted("lla_relative", post=post)
    params = mechanism.init(jax.random.key(0), attention.Dims(1, 1, 1))
    mask = np.ones((len(points), len(seen)), bool)
    found = mechanism.apply(params, q, k, v, bias=bias, mask=mask, view="map")
    return np.asarray(found.out[0, :, 0]), np.asarray(found.weights[0])


rng = np.random.default_rng(0)
seen = np.sort(np.concatenate([rng.uniform(0, 0.45, 22), rng.uniform(0.65, 1, 18)]))


def curve(x):
    return np.sin(5 * x) + 1.5 * x


values, points, bandwidth = curve(seen) + 0.05 * rng.normal(size=len(seen)), np.linspace(-0.05, 1.05, 221), 0.08
with jax.enable_x64(True):
    mean, softmax_map = smooth(points, seen, values, bandwidth)
    lines = {ridge: smooth(points, seen, values, bandwidth, ridge) for ridge in (1e-6, 1e-3, 1e-2, 1e3)}
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True, layout="constrained")
for ax in axes:
    ax.plot(points, curve(points), color=MUTED, ls="--", lw=1, label="the curve")
    ax.scatter(seen, values, s=12, color=MUTED)
    ax.set(xlabel="key, query", xlim=(-0.06, 1.06))
axes[0].plot(points, mean, color=BLUE, label="softmax: local mean")
axes[0].plot(points, lines[1e-6][0], color=VERMILLION, label="LLA: local line, ridge 1e-06")
axes[0].set(ylabel="value", title="At the ends and beside the gap a mean is biased")
for (ridge, (line, _)), colour in zip(lines.items(), (VERMILLION, ORANGE, GREEN, BLUE), strict=True):
    axes[1].plot(points, line, color=colour, label=f"ridge {ridge:g}", lw=1.4)
axes[1].set(title="A large ridge takes the slope away: softmax again")
for ax in axes:
    ax.legend()
plt.show()
inside = (points >= 0) & (points <= 1)
parts = {
    "at the ends": inside & (np.minimum(points, 1 - points) < 0.05),
    "in the gap": (points > 0.47) & (points < 0.63),
}
parts["elsewhere"] = inside & ~parts["at the ends"] & ~parts["in the gap"]
print(f"{'root mean square error':24s}" + "".join(f"{part:>14s}" for part in parts))
for name, line in {"softmax": mean, **{f"LLA, ridge {r:g}": line for r, (line, _) in lines.items()}}.items():
    errors = (np.sqrt(np.mean(np.square(line - curve(points))[at])) for at in parts.values())
    print(f"{name:24s}" + "".join(f"{error:14.3f}" for error in errors))
apart = [
    np.abs(softmax_map - recall.kernel_weights(points, seen, bandwidth)).max(),
    *(np.abs(a - recall.local_linear_weights(points, seen, bandwidth, r)).max() for r, (_, a) in lines.items()),
]
print(f"\nlargest difference of any weight from theory.recall's: {max(apart):.1e}")

# %% [markdown]
# ## 2. Weights of a row
# LLA is linear in the values too: $A_{tu} = p_{tu}\,(1 + (k_u-\bar k_t)^T C_t^{-1} (q_t-\bar k_t))$, with mean key
# $\bar k_t$ and covariance $C_t$ (ridge included) under $p_t$. Rows sum to one, and $\sum_u A_{tu}k_u = q_t$ when the
# ridge is small. If all keys are on one side of the query, only *negative* entries can do that.

# %%
figure, axes = plt.subplots(1, 3, figsize=(11, 3), sharey=True, layout="constrained")
for ax, (name, query) in zip(axes, {"inside": 0.25, "at the end": 1.0, "in the gap": 0.5}.items(), strict=True):
    t = int(np.argmin(np.abs(points - query)))
    p, a = softmax_map[t], lines[1e-6][1][t]
    ax.vlines(seen, 0, a, color=VERMILLION, lw=2, label="LLA")
    ax.plot(seen, p, "o", color=BLUE, ms=3.5, label="softmax")
    ax.axvline(query, color=MUTED, ls="--", lw=1)
    ax.set(title=f"query {name}", xlabel="key")
    print(
        f"{name:11s} query {query:.2f}: mean key {p @ seen:.3f} (softmax), {a @ seen:.3f} (LLA); sum of the row "
        f"{a.sum():.3f}; negative mass {a[a < 0].sum():.3f}"
    )
axes[0].set_ylabel("weight")
axes[0].legend()
plt.show()

# %% [markdown]
# ## 3. Limits
# What LLA becomes, in float64, one causal head of random tokens (`studies.local_linear.identities`). *Parallax*
# (arXiv 2605.29157) tilts the row by a learned probe $r_t$ instead of solving for it; with the $r_t$ of the regression
# it is LLA.

# %%
told = {
    "uncentred": "the paper's formula, not centred",
    "sum": "rows sum to one: values 1 give 1",
    "softmax": "ridge 1e9: softmax attention",
    "ridge": "scale 0: ridge regression with an intercept",
    "affine": "affine values, ridge 1e-9: exact once K + 1 keys are seen",
    "parallax": "Parallax with the regression's own probe",
    "first": "the first token returns its value",
}
print("largest difference of an output")
for name, gap in identities(None).items():
    print(f"  {told[name]:60s} {gap:.0e}")
with jax.enable_x64(True):
    q, k, v = (jax.random.normal(keys.stream(keys.root(0), name), (1, 24, 6), jnp.float64) for name in "qkv")
    mask = attention.causal_mask(24)
    plain = attention.softmax.apply({}, q, k, v, mask=mask).out

    @jax.jit
    def lla(ridge):
        return local_linear_attention(q, k, v, ridge, solver=EXACT)

    print("\nridge                    " + "".join(f"{r:9.0e}" for r in (1e-2, 1, 1e2, 1e4)))
    print(
        "distance from softmax    " + "".join(f"{float(abs(lla(r) - plain).max()):9.0e}" for r in (1e-2, 1, 1e2, 1e4))
    )

# %% [markdown]
# ## 4. The kernel: exact, or by conjugate gradients
# Every query has its own $K\times K$ system $C_t x_t = q_t - \bar k_t$. `EXACT` builds a block of them and factors
# them; `CG` never builds one: a product $C_t x$ is a sweep over the keys, like attention itself. `solve_report` says
# how many sweeps each row took.
#
# Rows with few keys are easy: $C_t$ less its ridge has rank $t-1$, so few distinct eigenvalues. Rows with many keys are
# easy as well: an estimated covariance is then close to a multiple of the identity. In between, at about as many keys
# as channels, its smallest eigenvalues reach down to the ridge.

# %%
length, width = (96, 16) if FAST else (384, 32)
q, k, v = (jax.random.normal(keys.stream(keys.root(1), name), (1, length, width)) for name in "qkv")
ridges = jnp.array([1.0, 0.1, 0.01])  # as three heads that share their keys
heads = jnp.repeat(q, len(ridges), axis=0)


@jax.jit
def both(q, k, v):
    report = solve_report(q, k, ridges, solver=Solver(tol=1e-3))
    outs = [local_linear_attention(q, k, v, ridges, solver=s) for s in (EXACT, Solver(tol=1e-3), CG)]
    return report, outs


report, (exact, loose, tight) = both(heads, k, v)
figure, ax = plt.subplots(figsize=(8, 3.3), layout="constrained")
print("ridge   sweeps: median  most  (row)   error of tol 1e-3, of tol 1e-5 (relative, worst row)")
for h, colour in enumerate((BLUE, GREEN, VERMILLION)):
    taken = np.asarray(report.iterations[h])
    ax.plot(taken, color=colour, lw=0.6, alpha=0.4)
    smooth_taken = np.convolve(np.pad(taken, 8, mode="edge"), np.ones(17) / 17, "valid")
    ax.plot(smooth_taken, color=colour, label=f"ridge {float(ridges[h]):g} (thick: mean of 17 rows)")
    off = [np.max(np.linalg.norm(x[h] - exact[h], axis=-1) / np.linalg.norm(exact[h], axis=-1)) for x in (loose, tight)]
    print(
        f"{float(ridges[h]):5g} {np.median(taken):15.0f} {taken.max():5d}  ({taken.argmax()})"
        f" {off[0]:15.1e} {off[1]:15.1e}"
    )
ax.axvline(width, color=MUTED, ls="--", lw=1)
ax.text(width, ax.get_ylim()[1], f" t = K = {width}", va="top", color=MUTED)
ax.set(
    xlabel="row t (keys seen)", ylabel="sweeps to residual 1e-3", title="Hard rows have about as many keys as channels"
)
ax.legend()
plt.show()

# %% [markdown]
# **The gradient** is a second solve with the same matrix. Against autodiff of the dense definition, in float64, and for
# the ridge against a finite difference as well. The ridge is a parameter like others: it is learned per head.

# %%
with jax.enable_x64(True):
    small = [jax.random.normal(keys.stream(keys.root(2), name), (24, 6), jnp.float64) for name in ("q", "k", "v", "g")]
    ridge = jnp.asarray(0.1, jnp.float64)

    def total(solver):
        def loss(q, k, v, ridge):
            if solver is None:
                return jnp.sum(dense(q, k, v, ridge) * small[3])
            return jnp.sum(local_linear_attention(q[None], k[None], v[None], ridge, solver=solver)[0] * small[3])

        return loss

    def gradient(solver):
        return jax.jit(jax.grad(total(solver), (0, 1, 2, 3)))(*small[:3], ridge)

    right = gradient(None)
    print(f"{'relative difference':26s}" + "".join(f"{name:>10s}" for name in ("dq", "dk", "dv", "dridge")))
    for name, solver in {"exact": EXACT, "CG, tol 1e-14": Solver(tol=1e-14, max_iters=60)}.items():
        gaps = [jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in zip(gradient(solver), right, strict=True)]
        print(f"{name:26s}" + "".join(f"{float(gap):10.0e}" for gap in gaps))
    loss, h = jax.jit(total(None)), 1e-5
    slope = (loss(*small[:3], ridge + h) - loss(*small[:3], ridge - h)) / (2 * h)
    print(f"dridge {float(right[3]):.8f}, by finite difference {float(slope):.8f}")

# %% [markdown]
# **Memory.** Both forms compiled, forward and backward, and asked what they need besides arguments and results. Nothing
# is run, so the dense form may ask for what this machine does not have.

# %%
lengths = (64, 128) if FAST else (128, 512, 2048)


def held(function, length):
    """Bytes of temporaries of the compiled gradient: one head, K = 32, float32."""
    shape = jax.ShapeDtypeStruct((length, 32), jnp.float32)
    pull = jax.jit(jax.grad(lambda q, k, v: jnp.sum(function(q, k, v)), (0, 1, 2)))
    return pull.lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes


forms = {
    "dense definition": lambda q, k, v: dense(q, k, v, jnp.float32(0.1)),
    "blockwise kernel": lambda q, k, v: local_linear_attention(q[None], k[None], v[None], 0.1)[0],
}
found = {name: np.array([held(f, n) for n in lengths], float) for name, f in forms.items()}
figure, ax = plt.subplots(figsize=(7, 3.2), layout="constrained")
for (name, sizes), colour in zip(found.items(), (MUTED, VERMILLION), strict=True):
    power = np.log(sizes[-1] / sizes[-2]) / np.log(lengths[-1] / lengths[-2])
    ax.plot(lengths, sizes / 2**20, "o-", color=colour, label=f"{name}: length to the {power:.2f} at the end")
    print(f"{name:18s}" + "".join(f"{n:7d}: {size / 2**20:9.2f} MB" for n, size in zip(lengths, sizes, strict=True)))
ax.set(xscale="log", yscale="log", xlabel="length", ylabel="MB of temporaries")
ax.set_xticks(lengths, lengths)
ax.minorticks_off()
ax.legend()
plt.show()

# %% [markdown]
# ## 5. A stream that changes
# Test-time regression: pairs $(k_i, v_i)$ come one by one, $v_i$ is to be said from $k_i$ and the pairs before. Every
# 128 pairs the linear map changes, and the place of the keys with it. Nothing is trained; each mechanism is a memory
# (`studies.local_linear.stream`). Thin dashed: what theory expects *for these keys*, exact over maps and noise
# (`theory.recall.stream_risk`; `predict_stream` is its mean over draws of keys). Where two segments happen to lie close
# to each other, every local memory pays, so few streams say little about the mean over all.
#
# - *Mesa*, one ridge regression for everything, is the best while there is one law, and never again;
# - *softmax* looks at the right pairs and knows no slope; the *delta rule* follows each change, step by step;
# - *LLA* looks at the right pairs and fits them; its mean hides how much streams differ, see the last lines.

# %%
task, bandwidth = stream.task_of("8"), stream.SETTINGS["8"][2]
law = recall.Stream(task.dim, task.radius, task.num_pairs, task.segment, task.noise)
memories = recall.stream_memories(bandwidth, stream.RIDGE)
batch = task.sample(keys.stream(keys.root(0), "streams"), draws)
tints = dict(zip(stream.NAMES, (VERMILLION, BLUE, GREEN, PURPLE), strict=True))
figure, ax = plt.subplots(figsize=(9, 3.8), layout="constrained")
print(f"{'squared error':10s}   measured ({draws} streams)    predicted;   all, first segment, last 32")
late = {}  # each stream by itself
with jax.enable_x64(True):
    k, v = (jnp.asarray(np.asarray(x, np.float64)) for x in task.pairs(batch))
    expected = {
        n: np.mean([recall.stream_risk(law, x, m.weights(x)) for x in np.asarray(k)], 0) for n, m in memories.items()
    }
    for name, colour in tints.items():
        said = jax.jit(stream.predictions, static_argnums=(0, 3))(name, k, v, bandwidth)
        each = np.asarray(jnp.mean(jnp.square(said - v), axis=2))  # [streams, n]
        errors = each.mean(axis=0)
        pair = [np.asarray(x, float).reshape(-1, 16).mean(axis=1) for x in (errors, expected[name])]
        at = 16 * np.arange(len(pair[0])) + 8
        ax.plot(at, pair[0], color=colour, label=name)
        ax.plot(at, pair[1], color=colour, ls="--", lw=1)
        rows = [[x.mean(), x[: task.segment].mean(), x[-32:].mean()] for x in (errors, expected[name])]
        print(f"{name:10s} " + "   ".join("".join(f"{x:8.4f}" for x in row) for row in rows))
        late[name] = np.round(each[:, -32:].mean(axis=1), 4)
for s in range(1, task.num_segments):
    ax.axvline(s * task.segment, color=MUTED, lw=0.8, ls=":")
for name in ("lla", "delta"):
    print(f"{name}: last 32 steps, stream by stream: {late[name]}")
ax.set(yscale="log", xlabel="pairs seen (dotted: the law changes)", ylabel="squared error, means of 16 steps")
ax.legend(ncols=4)
plt.show()

# %% [markdown]
# ## 6. In a Transformer
# `mechanism=lla_blockwise` is all it takes: the parameters of `attention.lla` (a log ridge per head), the kernel
# inside. A task where it should help: the stream again, short and with one law only. One layer of attention, behind a
# convolution of width 2 that brings a key and its value together, trained for seconds beside softmax. (Loss over all
# places of a stream, the first among them, where nothing can be known.)

# %%
task = tt.PiecewiseRegression(dim=2, segment=16, num_segments=1, radius=0.0)
print(task.describe())
runs = {}
for name, mechanism in {"softmax": attention.softmax, "LLA": lla_blockwise}.items():
    model = al.Transformer(
        length=task.length,
        input_dim=task.width,
        output_dim=task.num_outputs,
        width=16,
        no_mlp=(0,),
        positions="none",
        norm="none",
        short_conv=2,
        mechanism=mechanism,
    )
    runs[name] = al.run(task, model, al.adamw(1e-2), steps=steps, seeds=seeds, batch_size=32, progress=False)
    print(f"{name:8s} {runs[name]}")

# %%
figure, ax = plt.subplots(figsize=(7, 3.3), layout="constrained")
for (name, run), colour in zip(runs.items(), (BLUE, VERMILLION), strict=True):
    loss = run.trajectory.loss
    ax.plot(loss.step, loss.rolling(step=min(10, len(loss.step))).mean().T, color=colour, lw=1.2)
    ax.plot([], [], color=colour, label=name)
    late = loss.isel(step=slice(-max(len(loss.step) // 10, 1), None)).mean("step").values
    print(f"{name:8s} squared error, mean of the last tenth, of each seed: {np.round(late, 3)}")
for (name, plateau), dashes in zip([(n, p) for n, p in task.plateaus.items() if n != "mean"], ("--", ":"), strict=True):
    ax.axhline(plateau.loss, color=MUTED, lw=0.9, ls=dashes)
    ax.text(steps, plateau.loss, name, ha="right", va="bottom", fontsize=7.5, color=MUTED)
ax.set(xlabel="step", ylabel="squared error", ylim=(0, None))
ax.legend()
plt.show()
learned = runs["LLA"].params["blocks"]["0"]["attn"]["mechanism"]["log_ridge"]
print("the ridge, learned, of each seed:", np.round(np.exp(np.asarray(learned)).ravel(), 3))
