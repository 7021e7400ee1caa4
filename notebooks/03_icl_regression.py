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
# # In-context regression: from random weights to a step of debiased gradient descent
#
# A transformer reads a few labelled examples of a linear function it has never seen, and predicts the label of one
# more input. It was never told how. We train the smallest model that can do it, one layer of softmax attention, watch
# what its weights become, and find that it does *one step of gradient descent with centred inputs*. Every number
# comes from a cell of this notebook. The paper is He, Pan, Chen, Yang, *In-Context Linear Regression Demystified*,
# arXiv 2503.12734.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import jax
import matplotlib.pyplot as plt
import numpy as np

import toy_tasks as tt
from attnlab import analysis
from attnlab.report import Panel, Scrubber
from attnlab.report.style import BLUE, DIVERGING, GREEN, MUTED, PALETTE, PURPLE, RC, VERMILLION
from theory import icl

plt.rcParams.update(RC | {"text.parse_math": True})
FAST = False  # True: tiny and quick, to see that everything runs
steps, seeds, batch, prompts = (200, 2, 32, 500) if FAST else (10_000, 8, 256, 8000)

# %% [markdown]
# ## 1. The task
# A *prompt* is $L$ labelled pairs and a query. Each prompt has its own hidden vector $\beta$, drawn anew:
#
# $$\beta \sim N(0, I_d/d), \qquad x_1,\dots,x_L,\,x_q \sim N(0, I_d), \qquad y_l = \beta\cdot x_l + \text{noise of
# variance } s^2.$$
#
# The model sees the pairs $(x_l, y_l)$ and $x_q$, and is asked for $y_q$. To learn one $\beta$ by heart is useless;
# only a *method* of finding $\beta$ from the context helps.

# %%
task = tt.LinearRegression()  # the setting of the paper
print(task.describe())
examples = analysis.evaluation_batch(task, prompts)  # prompts that no training step sees
x, y, query = (np.asarray(part[0], np.float64) for part in task.prompt(examples).__dict__.values())
y, asked = y[:, 0], float(examples.targets[0, 0, 0])
print(f"one prompt: x {x.shape}, y {y.shape}, query {query.shape}; the label asked for is {asked:.3f}")

# %% [markdown]
# Four methods, by hand. With $g = \frac1L\sum_l y_l x_l$, which is minus the gradient of the squared error at
# $\beta = 0$:
#
# | method | prediction |
# |---|---|
# | averaging | $g\cdot x_q$ |
# | gradient descent (GD), one step | $\eta\, g\cdot x_q$ |
# | debiased gradient descent (DGD) | $\eta\,\frac1L\sum_l y_l (x_l-\bar x)\cdot x_q$, with $\bar x$ the mean input |
# | ridge $=$ Bayes, the best there is | $x_q^T (X^TX + d s^2 I)^{-1} X^T y$ |
#
# `toy_tasks` has them all; we check that it agrees with our own lines.

# %%
data = icl.Setting(task.dim, task.context, task.noise_variance)  # the same law, for the theory
d, L, noise = data.dim, data.context, data.noise_variance
eta = icl.dgd_optimum(data).eta
by_hand = {
    "averaging": (y @ x / L) @ query,
    "GD": eta * (y @ x / L) @ query,
    "DGD": eta * (y @ (x - x.mean(axis=0)) / L) @ query,
    "ridge": query @ np.linalg.solve(x.T @ x + d * noise * np.eye(d), x.T @ y),
}
library = {
    "averaging": tt.Averaging(),
    "GD": tt.GradientStep(eta),
    "DGD": tt.DebiasedStep(eta),
    "ridge": tt.Ridge(d * noise),
}
for name, value in by_hand.items():
    ours = float(task.predict(library[name], examples)[0, 0, 0])
    print(f"{name:10s} by hand {value:8.4f}   toy_tasks {ours:8.4f}   asked for {asked:8.4f}")

# %% [markdown]
# The prompt, drawn. Each point is a pair: what an estimate of $\beta$ says of its label, and the label. Around the
# diagonal ridge scatters by the noise; DGD by more, for its $\beta$ is only a first step towards ridge's. The star is
# the query, whose label no method has seen.

# %%
estimates = {
    "ridge": np.linalg.solve(x.T @ x + d * noise * np.eye(d), x.T @ y),
    "DGD": eta * (y @ (x - x.mean(axis=0)) / L),
}
figure, axes = plt.subplots(1, 2, figsize=(8, 3.3), sharey=True, layout="constrained")
for ax, (name, weights) in zip(axes, estimates.items(), strict=True):
    ax.scatter(x @ weights, y, s=14, color=BLUE, label=f"the {L} pairs")
    ax.scatter([query @ weights], [asked], s=70, marker="*", color=VERMILLION, label="the query and its label")
    ax.axline((0, 0), slope=1, color=MUTED, linestyle="--", linewidth=1)
    ax.set(xlabel=f"x · (estimate of β by {name})", title=name)
axes[0].set_ylabel("label y")
axes[0].legend(loc="upper left")
plt.show()

# %% [markdown]
# ## 2. The model: one layer of attention, and nothing else
# With tokens $z_l = (x_l, y_l)$ and $z_q = (x_q, 0)$, head $h$ gives pair $l$ the weight
# $A_l^h = \mathrm{softmax}_l(z_l^T\, KQ^h z_q)$, and
#
# $$\hat y = \sum_h \sum_l A_l^h \; z_l\cdot OV^h .$$
#
# $KQ^h$ (a $(d+1)\times(d+1)$ matrix: *whom* the query looks at) and $OV^h$ (a vector: *what* is read there) are the
# head's two circuits. Training moves their factors $W_K, W_Q, W_V, W_O$. We train several random starts at once: what
# one seed does is an anecdote.


# %%
def train(task, model, steps, seeds):
    record = {
        "params": al.log_spaced(40),
        "heads": al.log_spaced(200, of=analysis.head_patterns(matrices=True)),
    }
    # These prompts are small: the gradient of a batch is taken in one piece (microbatch).
    sizes = {"steps": steps, "seeds": seeds, "batch_size": batch, "microbatch": batch}
    return al.run(task, model, al.adam(1e-3), record=record, **sizes)


model = al.RegressionAttention(task.dim, num_heads=2)
run = train(task, model, steps, seeds)
run

# %% [markdown]
# Risk (mean squared error on fresh prompts) of every seed during training. It is measured now, on stored parameters.
# Four levels to compare with: always saying 0; the best that *one* head can do; the best DGD step; Bayes.

# %%
heads = run.trajectory.heads.isel(output=0).load()
final = heads.isel(step=-1)
same_early = heads.same_sign.sel(step=min(1000, steps), method="nearest").values > 0
same_late = final.same_sign.values > 0
colours = [VERMILLION if late else PURPLE if early else BLUE for early, late in zip(same_early, same_late, strict=True)]
names = {BLUE: "heads of opposite signs", PURPLE: "of one sign at first, then opposite", VERMILLION: "of one sign"}

risk_probe = analysis.context_risk(task, (L,), batch_size=prompts // 4, num_batches=4)
risk = analysis.apply(run.trajectory, risk_probe).risk.isel(context=0)
one_head = icl.exact_one_head(data, prompts)
levels = {
    "always 0": 1 + noise,
    "best single head": one_head.risk.value,
    "best DGD step": icl.dgd_optimum(data).risk,
    "Bayes": icl.bayes_risk(data).value,
}
figure, ax = plt.subplots(figsize=(8, 3.8), layout="constrained")
for s, colour in enumerate(colours):
    ax.plot(risk.step[1:], risk[s, 1:], color=colour, linewidth=1.2, label=names[colour])
for name, level in levels.items():
    ax.axhline(level, color=MUTED, linestyle="--", linewidth=1)
    ax.text(1.1, level, f"{name}: {level:.3f}", va="top", fontsize=8, color=MUTED)
ax.set(xscale="log", xlabel="training step", ylabel="risk", title=f"{seeds} seeds, two heads each")
handles, labels = ax.get_legend_handles_labels()
ax.legend(*zip(*{label: (h, label) for h, label in zip(handles, labels, strict=True)}.values(), strict=True))
plt.show()

# %% [markdown]
# ## 3. A pattern emerges
# Scrub $KQ$ and $OV$ of every seed over training (slider or arrow keys; click a cell for its curve). In the end
#
# $$KQ^h = \begin{pmatrix}\omega^h I_d & *\\ 0 & *\end{pmatrix},\qquad OV^h = (0,\dots,0,\mu^h):$$
#
# a head compares inputs by their inner product, and reads labels. Two numbers are left of it, $\omega^h$ and $\mu^h$.

# %%
inputs = [f"x{i + 1}" for i in range(d)]
kq, ov = heads.kq.values, run.trajectory.heads.ov.values[..., 0]
panels = [
    Panel(f"KQ, head {h}", kq[:, :, h], [*inputs, "y"], [*inputs, "(y)"], "diverging", "key reads", "query reads")
    for h in range(model.num_heads)
]
panels.append(Panel("OV, both heads", ov, ["head 0", "head 1"], [*inputs, "y"], "diverging", "head", "value reads"))
curves = {"omega, head 0": heads.omega[..., 0].values, "omega, head 1": heads.omega[..., 1].values}
scrubber = Scrubber(heads.step.values, heads.seed.values, panels, curves, note="Column (y): never read, see below.")
al.show(scrubber.thin(60))

# %% [markdown]
# The same without a slider, for seed 0 (OV: a row per head).

# %%
shown = [int(np.argmin(np.abs(heads.step.values - f * steps))) for f in (0, 0.02, 0.05, 0.1, 0.3, 1)]
figure, axes = plt.subplots(3, len(shown), figsize=(11, 5.2), height_ratios=(6, 6, 2), layout="constrained")
for column, place in enumerate(shown):
    for h in range(2):
        image = axes[h, column].imshow(kq[0, place, h], cmap=DIVERGING, vmin=-0.5, vmax=0.5)
        axes[h, column].axvline(d - 0.5, color=GREEN, linestyle="--", linewidth=1)
    image_ov = axes[2, column].imshow(ov[0, place], cmap=DIVERGING, vmin=-3, vmax=3, aspect="auto")
    axes[0, column].set_title(f"step {int(heads.step[place])}")
for ax in axes.flat:
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
for ax, name in zip(axes[:, 0], ("KQ, head 0", "KQ, head 1", "OV"), strict=True):
    ax.set_ylabel(name)
figure.colorbar(image, ax=axes[:2], shrink=0.7)
figure.colorbar(image_ov, ax=axes[2:])
plt.show()

# %% [markdown]
# **The unidentified column** (right of the green line) multiplies the last entry of $z_q$, which is always 0. No
# prediction depends on it, so nothing ever corrects it, and whatever is there has no meaning. Two checks: the row of
# $W_Q$ behind it never moves, and we may put anything there.

# %%
start, end = run.trajectory.params_at(0), run.params
print("moved in training, at most:", float(abs(end["query"][:, d] - start["query"][:, d]).max()))
predict = jax.jit(jax.vmap(lambda p: model.apply(p, examples.inputs)[0][:, 0, 0]))
said = predict(end)  # [seeds, prompts]
nonsense = {**end, "query": end["query"].copy()}
nonsense["query"][:, d] += 100.0
print("predictions change by at most:", float(abs(predict(nonsense) - said).max()))

# %% [markdown]
# How clean is the rest? `diagonality`: share of the input block that is its diagonal. `homogeneity`: spread of the
# diagonal over its mean. `label row`: does the query look at labels of keys? `OV purity`: share of $OV$ that is the
# label's entry. The worse head of each seed is shown; 1, 0, 0, 1 would be perfect. Seeds whose heads have one sign
# are not as clean.

# %%
print("seed  diagonality  homogeneity  label row  OV purity     omega (heads)       mu (heads)   sum mu  signs")
for s in range(seeds):
    f = final.isel(seed=s)
    print(
        f"{s:4d} {float(f.diagonality.min()):12.4f} {float(f.homogeneity.max()):12.3f} "
        f"{float(f.label_row_norm.max()):10.4f} {float(f.ov_purity.min()):10.4f}   {np.round(f.omega.values, 3)!s:>18}"
        f"  {np.round(f.mu.values, 2)!s:>15} {float(f.zero_sum):8.3f}  {'SAME' if same_late[s] else 'opposite'}"
    )

# %% [markdown]
# $\omega$ and $\mu$ of both heads, every seed by itself. Signs of $\omega^h$ and $\mu^h$ agree in each head. In most
# seeds one head ends positive and one negative, with one $|\omega|$ and with $\mu^1+\mu^2 = 0$. Afterwards $|\omega|$
# creeps down while $|\mu|$ creeps up: section 6 says why.

# %%
figure, axes = plt.subplots(2, seeds, figsize=(1.55 * seeds, 4.2), sharex=True, sharey="row", layout="constrained")
for s in range(seeds):
    for ax, name in zip(axes[:, s], ("omega", "mu"), strict=True):
        for h in range(2):
            ax.plot(heads.step[1:], heads[name][s, 1:, h], color=colours[s], linestyle=("-", "--")[h], linewidth=1.4)
        ax.axhline(0, color=MUTED, linewidth=0.6)
        ax.set(xscale="log", xticks=[1, 100, 10_000], xlim=(1, steps))
    axes[0, s].set_title(f"seed {s}")
    axes[1, s].set_xlabel("step")
axes[0, 0].set_ylabel("ω (solid: head 0, dashed: head 1)")
axes[1, 0].set_ylabel("μ")
figure.suptitle("   ".join(f"{name}: {colours.count(c)} seeds" for c, name in names.items()), fontsize=9)
plt.show()

# %% [markdown]
# **Why do some seeds have two heads of one sign?** Two equal heads $\omega^1=\omega^2$ do together what one head with
# $\mu = \mu^1+\mu^2$ does. How they share $\mu$ does not matter, so these solutions form a valley. Near it the
# approximate loss of section 6 curves up in every other direction as long as both shares are positive (left). A head
# that starts with more than a critical fraction of the other's size gets there in time to share (right); a smaller
# one is still small when the first is grown, and turns round. Gradient noise makes a seed walk along the flat valley.
# It leaves when one share reaches zero.

# %%
shares = np.linspace(0.5, 1.1, 5 if FAST else 25)
lowest = [np.delete(e := icl.same_sign_curvature(data, s), np.argmin(np.abs(e))).min() for s in shares]
balances = np.linspace(0.03, 0.5, 3 if FAST else 16)
ends = [icl.integrate_heads([0.02, 0.02 * b], [0.02, 0.02 * b], [0, 300], data).mu[-1] for b in balances]
critical = icl.critical_balance(data, tolerance=0.05 if FAST else 0.001)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
axes[0].plot(shares, lowest, "o-", color=VERMILLION, markersize=3)
axes[0].axhline(0, color=MUTED, linewidth=0.8)
axes[0].set(xlabel="share of μ of the first head", ylabel="smallest curvature across the valley")
axes[1].plot(balances, [e[0] for e in ends], "o-", color=BLUE, markersize=3, label="μ of the first head")
axes[1].plot(balances, [e[1] for e in ends], "s-", color=VERMILLION, markersize=3, label="μ of the second head")
axes[1].axvline(critical, color=MUTED, linestyle="--", label=f"critical fraction {critical:.3f}")
axes[1].set(xlabel="start of second head / start of first head", ylabel="μ when the flow has settled")
axes[1].legend()
plt.show()
print(f"random starts of gradient flow that end in the valley: {icl.same_sign_probability(data):.2f} (theory)")
print(f"our seeds in it at step {min(1000, steps)}: {same_early.mean():.2f}; at the end: {same_late.mean():.2f}")

# %% [markdown]
# ## 4. What the heads compute
# For small $\omega$, expand the softmax:
#
# $$\mathrm{softmax}_l(\omega\, x_l\cdot x_q) = \tfrac1L\bigl(1 + \omega\,(x_l-\bar x)\cdot x_q + O(\omega^2)\bigr).$$
#
# Sum over heads. The first term gives $(\sum_h\mu^h)\,\bar y$, which is zero. The second is DGD with the step
#
# $$\eta = \sum_h \mu^h\omega^h ,$$
#
# and the next, $\sum_h\mu^h(\omega^h)^2$, cancels between opposite heads. Softmax always subtracts the mean of what it
# looks at: the *debiasing* is not learned, it is built in. What is left, at fixed $\eta$, should fall like
# $\omega^2$:

# %%
step_dgd, step_gd = tt.DebiasedStep(eta), tt.GradientStep(icl.gd_optimum(data).eta)


def apart(one, other):
    """Root mean square of the difference, relative to `other`."""
    return float(np.sqrt(np.mean((one - other) ** 2) / np.mean(other**2)))


target = np.asarray(task.predict(step_dgd, examples))[:, 0, 0]
for w in (0.4, 0.2, 0.1, 0.05):
    pair = tt.SoftmaxHeads((w, -w), (eta / (2 * w), -eta / (2 * w)))
    gap = apart(np.asarray(task.predict(pair, examples))[:, 0, 0], target)
    print(f"omega = {w:4.2f}: distance from DGD {gap:.5f},  over omega² {gap / w**2:.2f}")

# %% [markdown]
# So is the trained model this predictor? Compare on fresh prompts. First with *its own two numbers per head*, put into
# ideal heads; then with the best DGD step; then with the best plain GD step.

# %%
print("seed   own omega, mu     DGD      GD    step size   best DGD step   (distances, relative)")
for s in range(seeds):
    ideal = tt.SoftmaxHeads(final.omega.values[s], final.mu.values[s])
    distances = [
        apart(np.asarray(said[s]), np.asarray(task.predict(p, examples))[:, 0, 0]) for p in (ideal, step_dgd, step_gd)
    ]
    print(
        f"{s:4d} {distances[0]:15.3f} {distances[1]:7.3f} {distances[2]:7.3f} {float(final.eta[s]):12.3f} {eta:15.3f}"
    )

# %% [markdown]
# A finer test: not only the value but its slope in the query, $\partial\hat y/\partial x_q$, which is the regression
# vector that the model uses. Its cosine with DGD's, and the step size, over training:

# %%
aligned = analysis.apply(run.trajectory, analysis.gd_alignment(task, step_dgd, batch_size=prompts // 16))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for s, colour in enumerate(colours):
    axes[0].plot(aligned.step[1:], aligned.gradient_cosine[s, 1:, 0], color=colour, linewidth=1.2)
    axes[1].plot(heads.step[1:], heads.eta[s, 1:], color=colour, linewidth=1.2)
axes[0].set(xscale="log", xlabel="training step", ylabel="cosine of slopes, model and DGD", ylim=(-0.3, 1.05))
axes[1].axhline(eta, color=GREEN, linestyle="--", label=f"best DGD step, {eta:.3f}")
axes[1].set(xscale="log", xlabel="training step", ylabel="step size Σ μω")
axes[1].legend(loc="lower right")
plt.show()

# %% [markdown]
# The step is not fitted to anything: $\eta^* = 1/(1+(1+s^2)\,d/L)$ follows from the data alone. Seeds of one sign have
# a step too, but they are no DGD: without a negative head they average labels near the query, as a kernel smoother.
#
# ## 5. Risk against the length of the context
# Softmax weights sum to one for any number of pairs, so the model makes the step it was trained for on shorter and
# longer prompts too. Points: measured, all on the same prompts. Lines: closed forms (Bayes and one head: averages over
# inputs). The step of every method is that for the training length.

# %%
lengths = (40,) if FAST else (10, 15, 20, 30, 40, 60, 80, 100)
options = {"batch_size": prompts // 4, "num_batches": 4}
trained = analysis.risk_curve(model, run.params, task, lengths, **options)
w1, m1 = float(one_head.omega[0]), float(one_head.mu[0])
rivals = {
    "averaging": (tt.Averaging(), lambda s: float(icl.gd_risk(1.0, s))),
    "one head": (tt.SoftmaxHeads((w1,), (m1,)), lambda s: icl.exact_head_risk([w1], [m1], s, prompts).value),
    "GD": (step_gd, lambda s: float(icl.gd_risk(step_gd.eta, s))),
    "DGD": (step_dgd, lambda s: float(icl.dgd_risk(eta, s))),
    "least squares": (tt.LeastSquares(), lambda s: noise + icl.least_squares_risk(d, s.context, noise)),
    "ridge = Bayes": (tt.Ridge(d * noise), lambda s: icl.bayes_risk(s).value),
}
if FAST:
    rivals = {"DGD": rivals["DGD"]}
figure, ax = plt.subplots(figsize=(9, 4.6), layout="constrained")
table = {}
for (name, (predictor, exact)), colour in zip(rivals.items(), PALETTE[::-1], strict=False):
    table[name] = analysis.predictor_curve(predictor, task, lengths, **options).risk
    line = [exact(data.at(n)) for n in lengths]
    ax.plot(lengths, line, color=colour, linewidth=1.3)
    ax.plot(lengths, table[name], "o", color=colour, markersize=4, label=name)
for s in range(seeds):
    ax.plot(lengths, trained.risk[s], "k_", markersize=13, label="trained, a dash per seed" if s == 0 else None)
ax.axvline(L, color=MUTED, linestyle=":")
ax.set(xlabel="pairs in the prompt (dotted: in training)", ylabel="risk", ylim=(0, None))
ax.legend()
plt.show()
print("pairs       " + "".join(f"{n:>9d}" for n in lengths))
for name, values in {"trained": np.median(trained.risk, axis=0), **table}.items():
    print(f"{name:14s}" + "".join(f"{float(v):9.3f}" for v in values))

# %% [markdown]
# Three things to see. The trained model lies on DGD (seeds of one sign: on "one head"). DGD and GD hardly differ here,
# as inputs have mean 0; exercise 2 changes that. And "gradient descent" is not "optimal": least squares and ridge are
# far better, since a single step cannot undo the correlations between inputs of one prompt.
#
# ## 6. The reduced model: why training goes this way
# Keep only $\omega^h,\mu^h$. For long contexts the risk is, with $c = (1+s^2)/L$ and the moments
# $m_k = \sum_h \mu^h (\omega^h)^k$,
#
# $$\tilde L = 1 + s^2 - 2m_1 + m_1^2 + c\,\sum_{k\ge 0} \frac{d^k}{k!}\, m_k^2 .$$
#
# Only $m_1$, the step, is rewarded. Every moment costs. $m_0 = 0$ asks for heads of both signs; a pair $\pm\omega$
# has no even moments; the odd ones $m_3, m_5, \dots$ vanish as $\omega\to 0$ at fixed $m_1$. Gradient descent at a
# small rate is the flow $\dot\theta = -\nabla\tilde L/2$, solved here from eight small random starts.

# %%
times = np.concatenate([[0.0], np.geomspace(0.1, 1e4, 60 if FAST else 300)])
flows = [icl.integrate_heads(*icl.small_start(2, seed=s), times, data) for s in range(3 if FAST else 8)]
mixed = [f for f in flows if f.mu[-1].min() < 0 < f.mu[-1].max()]
print(f"{len(mixed)} of {len(flows)} flows end with opposite signs")
phases = icl.find_phases(mixed[0], data)
ends = {"plateau": phases.plateau, "rise": phases.rise, "balance": phases.zero_sum}
print("one of them, ends of phases at time:", {name: round(t, 1) for name, t in ends.items()})
figure, axes = plt.subplots(1, 3, figsize=(12, 3.5), layout="constrained")
for f in flows:
    colour = BLUE if any(f is m for m in mixed) else VERMILLION
    size = np.abs(f.omega).mean(axis=1)
    for ax, values in zip(axes, (f.loss, f.moments()[:, 0], size), strict=True):
        ax.plot(times[1:], values[1:], color=colour, linewidth=1.1, alpha=1 if f is mixed[0] else 0.45)
late = times > 30
axes[2].plot(times[late], icl.valley_omega(times[late], data), color=GREEN, linestyle="--", label="law of the valley")
axes[0].axhline(icl.loss_infimum(data), color=GREEN, linestyle="--", label="infimum")
axes[0].axhline(icl.one_head_optimum(data).risk, color=MUTED, linestyle="--", label="one head")
for ax, name in zip(axes, ("approximate risk", "m₀ = Σ μ", "mean |ω|"), strict=True):
    ax.set(xscale="log", xlabel="flow time", ylabel=name)
    for t in ends.values():
        ax.axvline(t, color=MUTED, linestyle=":", linewidth=0.9)
axes[2].set_yscale("log")
axes[0].legend()
axes[2].legend()
figure.suptitle(
    "Blue: opposite signs, red: one sign. Dotted: plateau | rise | balance | valley, of one flow", fontsize=9
)
plt.show()

# %% [markdown]
# Four phases. **Plateau**: from tiny weights only $\omega^h=\mu^h$ grows, like $e^t$, so their signs agree. **Rise**:
# the largest head becomes a kernel smoother. **Balance**: a head of the other sign grows until $m_0=0$. **Valley**:
# the step is right, and all that is left to gain is $\omega\to0$, along a floor so flat that $|\omega|\sim t^{-1/6}$.
# The two numbers $\omega,\mu$ never settle; only their product is a fact about the data. How little is left to gain:

# %%
late = times >= 400
slopes = [np.polyfit(np.log(times[late]), np.log(np.abs(f.omega[late]).mean(axis=1)), 1)[0] for f in mixed]
print(f"log-log slope of |omega|, t from 400 to 10,000: {np.mean(slopes):.3f}; the law says {-1 / 6:.3f} in the end")
best = icl.loss_infimum(data)
for w in (0.3, 0.17, 0.13):
    print(f"|omega| = {w:.2f}: loss above its infimum by {float(icl.valley_loss(w, data)) - best:.5f}")
opposite = ~same_late
if opposite.any():
    print(
        f"our opposite seeds have |omega| = {np.abs(final.omega.values[opposite]).mean():.3f} after {steps} Adam steps"
    )

# %% [markdown]
# ## 7. Try it yourself
# Predict first, train second. For other data, the best that heads with small $\omega$ can do is
#
# $$\hat y = \alpha\,\bar y + x_q^T\,\Gamma\,\tfrac1L\sum_l y_l (x_l-\bar x),\qquad
# \alpha = \sum_h\mu^h,\quad \Gamma=\sum_h\mu^h\, KQ^{h\,T} \text{ (input block)}.$$
#
# So $\alpha$ need not be 0, and the step $\Gamma$ need not be one number. What theory expects of three changes:


# %%
def law_of(task):
    return icl.Setting(task.dim, task.context, task.noise_variance, task.covariance, task.mean)


shifted = tt.LinearRegression(mean=1.0)
place = np.arange(task.dim)
skewed = tt.LinearRegression(covariance=0.5 ** abs(place[:, None] - place))
print(f"one head: omega {w1:.3f}, mu {m1:.3f}, risk {one_head.risk.value:.3f}, all up to sampling error")
for name, law in (("shifted", law_of(shifted)), ("skewed", law_of(skewed))):
    aim = icl.best_small_weights(law)
    gd, dgd = icl.gd_optimum(law).risk, icl.dgd_optimum(law).risk
    print(f"{name}: risk of GD {gd:.3f}, of DGD {dgd:.3f}, of the best small heads {aim.risk:.3f},", end=" ")
    print(f"which have α = {aim.alpha:.3f} and the first row of Γ {np.round(aim.gamma[0], 2)}")

# %% [markdown]
# 1. **One head** (as the cell stands). Without a partner $\mu$ cannot sum to zero. Expect $\omega,\mu$ of the best
#    single head in every seed, up to a common sign, and its risk.
# 2. **`shifted`** for `task`, with two heads. Debiasing now matters: see how far apart GD and DGD are. Labels have a
#    mean that is worth knowing, so $\alpha$ is not 0. Some seeds end with one sign and stay far above the best; with
#    `num_heads=4` that is rare.
# 3. **`skewed`** for `task`, with two heads and all `steps`, since some seeds stay long on the plateau. $KQ$ is no
#    multiple of the identity any more, but of a preconditioner: neighbours of the diagonal of $\Gamma$ are negative.

# %%
mine, my_model, my_steps = task, al.RegressionAttention(task.dim, num_heads=1), steps // 2  # <- change this line
if FAST:
    my_model, again = model, run
else:
    again = train(mine, my_model, my_steps, seeds // 2)
found = again.trajectory.heads.isel(step=-1, output=0)
my_risk = analysis.risk_curve(my_model, again.params, mine, (mine.context,), **options).risk[:, 0]
for s in range(len(found.seed)):
    print(f"seed {s}: risk {float(my_risk[s]):.3f}  ω {np.round(found.omega.values[s], 3)}", end="  ")
    print(f"μ {np.round(found.mu.values[s], 2)}  α {float(found.zero_sum[s]):.3f}", end="  ")
    print(f"first row of Γ {np.round(found.step_matrix.values[s, 0], 2)}")
