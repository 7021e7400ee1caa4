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
# # Attention sinks: when they form, what they do, and which attention has none
#
# A head that has nothing to do still has to put its attention somewhere. Under softmax, rows sum to one, so an idle
# (*dormant*) query parks on a token that does no harm: `<s>`, whose value drains until attending to it adds
# nothing. Here we train the same model with four kinds of attention and read three measures of one sink, which must
# be read together.

# %%
import attnlab as al

al.use_all_cores()


import toy_tasks as tt
from attnlab import analysis, attention, report

FAST = False  # True: tiny and quick, to see that everything runs
steps, length, width, seeds, batch = (40, 16, 16, 2, 8) if FAST else (1000, 64, 64, 3, 32)
task = tt.BigramBackcopy.tiny_shakespeare(num_triggers=3, length=length)

# %% [markdown]
# ## Four mechanisms, one line each
# Softmax rows sum to one. Softmax-off-by-one may leave part of its mass nowhere. Sigmoid and ReLU weights need not
# sum to anything.

# %%
mechanisms = (attention.softmax, attention.softmax_off_by_one, attention.sigmoid, attention.relu)
runs = {}
for mechanism in mechanisms:
    model = al.Transformer(vocab_size=task.vocab_size, length=length, width=width, mechanism=mechanism)
    record = {"params": al.log_spaced(10), "sinks": al.log_spaced(60, of=analysis.sinks(task))}
    runs[mechanism.name] = al.run(task, model, steps=steps, seeds=seeds, batch_size=batch, record=record)
    print(runs[mechanism.name])

# %% [markdown]
# ## Raw mass, proxy and value ratio
# The *proxy* metric renormalises rows that do not sum to one. A sigmoid row that is nearly empty becomes a perfect
# "sink" by that rule, although hardly any attention is there and the value of `<s>` has not drained. So never read
# it alone.

# %%
print(f"medians over {seeds} seeds")
print(f"{'mechanism':20s} {'backcopy':>9s} {'raw mass':>9s} {'proxy':>6s} {'value ratio':>12s}")
for name, run in runs.items():
    last = run.trajectory.sinks.isel(step=-1)
    numbers = [
        float(last[key].isel(layer=0, head=0).median()) if "layer" in last[key].dims else float(last[key].median())
        for key in ("backcopy", "bos_attention", "value_ratio")
    ]
    proxy = float(last.sink_rate_proxy.isel(layer=0, head=0, key=0).median())
    print(f"{name:20s} {numbers[0]:9.4f} {numbers[1]:9.3f} {proxy:6.2f} {numbers[2]:12.2f}")

# %% [markdown]
# ## When does the sink form?
# The first step at which attention on `<s>` reaches one half, with an interval over seeds.

# %%
sinks = runs["softmax"].trajectory.sinks
times = analysis.phase_times(sinks, {"backcopy": (1.0, "down"), "bos_attention": 0.25})
for name in times:
    print(f"{name} crosses {times[name].level}: {analysis.bootstrap_interval(times[name].values, censored='late')}")

# %%
report.dynamics(
    sinks.step.values,
    {
        "attention on <s>": sinks.bos_attention.isel(layer=0, head=0).values,
        "‖value of <s>‖": sinks.value_norm_bos.isel(layer=0, head=0).values,
        "sink logit": sinks.sink_logit.isel(layer=0, head=0).values,
    },
    split=None,
    title="Sink and value drain under softmax attention",
)

# %% [markdown]
# ## What is the head for? Ask by taking it away
# An edit is a pure function at a named activation. It works at inference and inside training.

# %%
softmax = runs["softmax"]
last = [int(softmax.trajectory.steps("params")[-1])]
effects = analysis.apply(softmax.trajectory, analysis.interventions(task), steps=last)
for part in ("full", "no_attention", "no_mlp"):
    risks = {risk: float(effects[f"{part}.{risk}"].median()) for risk in ("backcopy", "excess_bigram")}
    print(f"{part:14s}", {name: round(value, 3) for name, value in risks.items()})

# %% [markdown]
# ## Clamp the sink during training
# What if dormant queries could *never* park on `<s>`? Train with the weight from every query to `<s>` set to zero:
# the same edit, inside the training step.

# %%
import jax.numpy as jnp

from attnlab.tape import zero

first_column = jnp.arange(length) == 0
clamped = al.run(
    task,
    softmax.config.model,
    steps=steps,
    seeds=seeds,
    batch_size=batch,
    record={"sinks": al.log_spaced(60, of=analysis.sinks(task))},
    edits=(zero("blocks.0.attn.weights", mask=first_column),),
)
for name, run in (("free", softmax), ("clamped", clamped)):
    loss = run.trajectory.loss.isel(step=-1)
    low, high = float(loss.min()), float(loss.max())
    print(f"{name:8s} training loss at the end {float(loss.median()):.4f} (range {low:.4f} to {high:.4f})")
