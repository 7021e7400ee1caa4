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
# # Quickstart: train, open the trajectory, scrub, compare with theory
#
# A task makes batches, a model reads them, training writes a trajectory, and everything after that reads the
# trajectory. Here: a one-layer transformer on **Bigram-Backcopy**. Characters follow the bigram law of Tiny
# Shakespeare, but after a *trigger* (space, e, t) the character *before* the trigger comes again. The model has to
# learn when to look back.

# %%
import attnlab as al

al.use_all_cores()  # one JAX device per core, before anything is computed

import numpy as np

import theory
import toy_tasks as tt

FAST = False  # True: tiny and quick, to see that everything runs
steps, length, width, seeds = (60, 16, 16, 2) if FAST else (1500, 64, 64, 4)

# %% [markdown]
# ## The task knows its own truth
# The oracle is exact: at a trigger the next token is certain, elsewhere it is a row of the bigram matrix.

# %%
task = tt.BigramBackcopy.tiny_shakespeare(num_triggers=3, length=length)
print(task.describe())
exact = tt.expected_risks(task)
print(f"share of triggers {exact.trigger_fraction:.3f}; best possible loss {exact.overall:.4f} nats per position")
print(f"backcopy risk of the best predictor without attention: {exact.plateau:.3f} nats")

# %% [markdown]
# ## Train four seeds at once, and record as you go
# `record` is an argument: full parameters at a few steps, sink measures at many. Uneven schedules cost one
# compilation.

# %%
model = al.Transformer(vocab_size=task.vocab_size, length=length, width=width)
run = al.run(
    task,
    model,
    al.adamw(1e-3),
    steps=steps,
    seeds=seeds,
    record={
        "params": al.log_spaced(30),
        "sinks": al.log_spaced(80, of=al.analysis.sinks(task)),
        "maps": al.log_spaced(30, of=al.analysis.attention_maps(task)),
    },
)
run

# %% [markdown]
# ## The trajectory opens lazily, labelled by seed and step

# %%
trajectory = run.trajectory
trajectory

# %%
backcopy = trajectory.sinks.backcopy
print(backcopy.dims, "at the last step:", np.round(backcopy.isel(step=-1).values, 4))

# %% [markdown]
# ## Theory beside measurement
# The plateau is a closed form of the kernel, computed without any training. The head switches on when backcopy
# leaves it.

# %%
from attnlab.report import dynamics

dynamics(
    backcopy.step.values,
    {
        "backcopy risk (nats)": backcopy.values,
        "attention on <s>": trajectory.sinks.bos_attention.isel(layer=0, head=0).values,
    },
    log_y=("backcopy risk (nats)",),
    levels={"backcopy risk (nats)": {"attention-free plateau": exact.plateau}},
    title="Backcopy is learned when attention leaves the plateau",
)

# %% [markdown]
# ## Scrub attention, KQ and OV over training
# Move the slider (or the arrow keys). Click a cell to see its value over training.

# %%
al.show(run)

# %% [markdown]
# ## One theorem, solved
# With the value of `<s>` frozen, gradient flow makes every sink logit grow like half the logarithm of time, plus a
# constant that the theorem gives in closed form.

# %%
rng = np.random.default_rng(1)
rows, weights = rng.dirichlet(np.ones(12), size=12), rng.dirichlet(5 * np.ones(12))
reduced = theory.ReducedModel.from_counts(
    rows, (), weights, rng.multinomial(20, np.ones(12) / 12), rng.uniform(0.5, 2, 12)
)
times = np.array([1e4, 1e6, 1e8])
flow = theory.integrate(reduced, 0.0, 0.3, times, freeze="beta")
gap = flow.alpha - 0.5 * np.log(times)[:, None] - theory.sink_log_asymptote(reduced.P, reduced.pi, reduced.B)
for t, g in zip(times, np.abs(gap).max(axis=1), strict=True):
    print(f"t = {t:.0e}: largest distance from the closed form {g:.1e}")
