"""What is measured without training, by name; at `evening` also what one layer learns to recall."""

from __future__ import annotations

from typing import Any

import toy_tasks as tt
from attnlab.attention import catalogue, relu_for, sigmoid_for
from attnlab.attention import recurrent_catalogue as known
from attnlab.attention.wrappers import HeadNorm
from attnlab.models import Transformer
from attnlab.studies.associative_memory import capacity, conditioning, ladder
from attnlab.studies.associative_memory.figures import figures as figures
from attnlab.studies.measured import Experiment
from attnlab.training import adamw

THEORY = {
    "cosines": capacity.cosines,
    "rights": capacity.rights,
    "order": capacity.order,
    "chains": capacity.chains,
    "redundancy": capacity.redundancy,
    "chain_gaps": capacity.chain_gaps,
    "certain": capacity.certain,
    "conditioning": conditioning.curves,
    "effects": conditioning.findings,
    "noisy": ladder.noisy,
    "clean": ladder.clean,
    "ladder": ladder.findings,
}


def mechanisms(pairs: int) -> dict[str, Any]:
    """What learns paired recall, by the name of its run."""
    return {
        "softmax": catalogue.softmax,
        "sigmoid": sigmoid_for(2 * pairs),
        "relu": relu_for(2 * pairs),
        "taylor": known.taylor,
        "identity": HeadNorm(known.identity_kernel),
        "delta": known.delta_net,
        "elu": known.linear,
        "hedgehog": known.hedgehog,
        "inline": known.inline,
        "uniform": catalogue.uniform,
    }


def experiments(preset: str) -> dict[str, Experiment]:
    """Paired recall of 48 pairs at `evening`: one layer, one head of width 16, no MLP, no positions."""
    if preset != "evening":
        return {}
    task = tt.PairedRecall(num_pairs=48)
    found = {}
    for name, mechanism in mechanisms(task.num_pairs).items():
        model = Transformer(
            task.vocab_size,
            task.length,
            input_dim=task.width,
            head_dim=16,
            no_mlp=(0,),
            positions="none",
            norm="rmsnorm",
            mechanism=mechanism,
        )
        steps = 4000 if name == "softmax" else 1000  # softmax stays at log V for more than a thousand steps
        found[name] = Experiment(task, model, adamw(4e-3), steps)
    return found
