"""`attnlab run`: one configuration from the command line."""

from __future__ import annotations

from typing import Any

import toy_tasks as tt
from attnlab import analysis, attention, training
from attnlab.config import require
from attnlab.models import Transformer


def train(options: Any) -> training.Run:
    """Train what the options of the command line say."""
    t, m, o = options.task, options.model, options.optimizer
    common = {
        "num_triggers": t.num_triggers,
        "length": t.length,
        "triggers": t.triggers,
        "bos": t.bos,
        "smoothing": t.smoothing,
    }
    task = (
        tt.BigramBackcopy.tiny_shakespeare(**common)
        if t.text is None
        else tt.BigramBackcopy.from_text(t.text, **common)
    )
    mechanisms = {found.name: found for found in attention.MECHANISMS}
    require(m.mechanism in mechanisms, "--model.mechanism", m.mechanism, ", ".join(mechanisms))
    rules = {
        "adamw": lambda: training.adamw(o.learning_rate, weight_decay=o.weight_decay),
        "adam": lambda: training.adam(o.learning_rate),
        "sgd": lambda: training.sgd(o.learning_rate, o.momentum, o.weight_decay),
    }
    require(o.name in rules, "--optimizer.name", o.name, ", ".join(rules))
    model = Transformer(
        vocab_size=task.vocab_size,
        length=t.length,
        num_layers=m.num_layers,
        num_heads=m.num_heads,
        width=m.width,
        mlp_width=m.mlp_width,
        mechanism=mechanisms[m.mechanism],
        positions=m.positions,
        norm=m.norm,
        no_attention=tuple(m.no_attention),
        no_mlp=tuple(m.no_mlp),
    )
    require(options.snapshots >= 2, "--snapshots", options.snapshots, "an integer >= 2")
    record = {
        "params": training.log_spaced(options.snapshots),
        "sinks": training.log_spaced(options.snapshots, analysis.sinks(task)),
        "maps": training.log_spaced(options.snapshots, analysis.attention_maps(task, sequences=2)),
    }
    return training.run(
        task,
        model,
        rules[o.name](),
        steps=options.steps,
        seeds=options.seeds,
        batch_size=options.batch_size,
        precision=training.precision.called(options.precision),
        remat=options.remat,
        record=record,
        path=options.path,
    )
