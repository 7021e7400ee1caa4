"""Each mistake is one clear error that names the setting, what it was and what is allowed, and nothing is written."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from training_cases import tiny_model, tiny_task, train

import attnlab as al
from attnlab import tape
from attnlab.config import ConfigError
from attnlab.trajectory import RunDirError


def explode(model, params):
    raise ZeroDivisionError("of the user")


MISTAKES = {
    "no steps": ({"steps": 0}, ConfigError, "steps: got 0; allowed is an integer >= 1"),
    "half a step": ({"steps": 1.5}, ConfigError, "steps: got 1.5"),
    "steps is True": ({"steps": True}, ConfigError, "steps: got True"),
    "negative batch": ({"batch_size": -8}, ConfigError, "batch_size: got -8"),
    "no chunk": ({"chunk_steps": 0}, ConfigError, "chunk_steps: got 0"),
    "short model": (
        {"model": tiny_model(length=8)},
        ConfigError,
        "model.length: got 8; allowed is >= the task's length=16",
    ),
    "small vocabulary": (
        {"model": tiny_model(vocab_size=8)},
        ConfigError,
        "model.vocab_size: got 8; allowed is >= the",
    ),
    "microbatch": ({"microbatch": 3}, ConfigError, "microbatch: got 3; allowed is a divisor of batch_size=8"),
    "microbatch 0": ({"microbatch": 0}, ConfigError, "microbatch: got 0"),
    "record called loss": ({"record": {"loss": al.every(2)}}, ConfigError, "'loss' is always recorded"),
    "record called steps": ({"record": {"steps": al.every(2)}}, RunDirError, "record name 'steps'"),
    "record is a number": ({"record": {"params": 50}}, ConfigError, r"record['params']: got 50; allowed is a schedule"),
    "record is a list": ({"record": [al.every(2)]}, ConfigError, "record: got"),
    "beyond the end": ({"record": {"params": al.at([25])}}, ConfigError, "at: got (25,); allowed is steps in 0..24"),
    "before the start": ({"record": {"params": al.at([-1])}}, ConfigError, "at: got (-1,)"),
    "record that fails": ({"record": {"mine": al.every(2, explode)}}, ZeroDivisionError, "of the user"),
    "record of a key": ({"record": {"k": al.every(2, lambda m, p: jax.random.key(0))}}, RunDirError, "key_data"),
    "same seed twice": ({"seeds": (1, 1)}, ConfigError, "seeds: got (1, 1); allowed is distinct seeds"),
    "negative seed": ({"seeds": [0, -1]}, ConfigError, "seeds: got [0, -1]"),
    "no seeds": ({"seeds": 0}, ConfigError, "seeds: got 0"),
    "empty seeds": ({"seeds": []}, ConfigError, "seeds: got []"),
    "half a seed": ({"seeds": 2.5}, ConfigError, "seeds: got 2.5"),
    "seeds as text": ({"seeds": "12"}, ConfigError, "seeds: got '12'"),
    "rates": (
        {"optimizer": al.sgd([0.1, 0.2])},
        ConfigError,
        "optimizer.learning_rate: got (2,); allowed is a number or",
    ),
    "optimizer": ({"optimizer": 0.1}, ConfigError, "optimizer: got 0.1"),
    "seed axis": ({"seed_axis": "pmap"}, ConfigError, "seed_axis: got 'pmap'; allowed is 'auto', 'map', 'vmap'"),
    "no devices": ({"devices": []}, ConfigError, "devices: got []"),
    "no task": ({"task": "backcopy"}, ConfigError, "task: got 'backcopy'"),
    "no model": ({"model": tiny_task()}, ConfigError, "allowed is an object with init(key)"),
    "edit of nothing": ({"edits": [tape.zero("blocks.7.attn.out")]}, tape.SiteError, "matches no activation"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_clear_error_and_nothing_written(mistake, tmp_path):
    settings, error, message = MISTAKES[mistake]
    with pytest.raises(error) as caught:
        train(tmp_path / "run", **settings)
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_seeds_of_any_kind(tmp_path):
    for seeds, labels in ((2, (0, 1)), (np.array([4, 2]), (4, 2)), (range(3, 5), (3, 4)), ((np.int64(7),), (7,))):
        assert al.training.RunConfig(tiny_task(), tiny_model(), seeds=seeds).seeds == labels
