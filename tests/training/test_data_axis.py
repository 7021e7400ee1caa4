"""Devices that share each batch: the same run up to the order of a sum, on any mesh; and what cannot be shared."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import count
from pathlib import Path

import jax
import numpy as np
import pytest
from training_cases import BATCH, same_bits, tiny_model, train

import attnlab as al
from attnlab.config import ConfigError
from attnlab.training import devices as device_rules
from attnlab.training.session import Session

CLOSE = 2e-5  # parameters of size 1 after 24 steps of Adam: sums of 8 sequences in another order, 1e-7 a step, grown


def placed(data_shards: int, seeds: int = 3):
    return device_rules.place(seeds, tiny_model(), "map", None, data_shards)


def error_of(one, two) -> float:
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return train(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return train(tmp_path_factory.mktemp("shared") / "run", devices=None, data_shards=2)


def test_two_devices_share_a_batch(plain, shared) -> None:
    assert shared.stats["devices"] == shared.stats["data_shards"] == 2 and "data_shards" not in plain.stats
    assert not same_bits(plain.params, shared.params) and error_of(plain, shared) < CLOSE
    one, two = (np.asarray(run.trajectory["loss"]) for run in (plain, shared))
    np.testing.assert_allclose(one, two, rtol=0, atol=CLOSE)


def test_it_is_written_down_and_repeats_bit_for_bit(shared, tmp_path) -> None:
    assert al.training.load_config(shared.path).data_shards == 2
    again = train(tmp_path / "again", devices=None, data_shards=2)
    assert same_bits(again.params, shared.params)


def test_resumed_as_it_was_begun_bit_for_bit_and_elsewhere_up_to_rounding(shared, tmp_path) -> None:
    for name, devices, exact in (("same", None, True), ("one", jax.devices()[:1], False)):
        asked = count()
        cut = train(tmp_path / name, devices=None, data_shards=2, stop=lambda asked=asked: next(asked) > 0)
        assert cut.interrupted
        rest = al.resume(tmp_path / name, devices=devices, progress=False)
        assert rest.stats["resumed_at"] == 8 and not rest.interrupted
        assert same_bits(rest.params, shared.params) == exact
        assert error_of(rest, shared) < CLOSE


def test_only_the_data_axis_exchanges_anything(plain) -> None:
    for shards in (1, 2):
        session = Session(plain.config, placed(shards, seeds=3))
        text = session.trace().lower().as_text()
        assert ("all_reduce" in text) == (shards == 2)


def test_eight_devices(tmp_path) -> None:
    """Groups of 1, 2, 4 and 8 devices for three seeds; a run cut on groups of four goes on with two devices."""
    script = Path(__file__).with_name("eight_devices.py")
    done = subprocess.run([sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    used = {name: (row["devices"], row["padded"]) for name, row in found.items() if "padded" in row}
    assert used == {"seeds alone": (3, 3), "pairs": (6, 3), "fours": (8, 4), "all eight": (8, 3)}
    assert found["seeds alone"]["error"] < 1e-6, "groups exchange nothing: rounding alone"
    for name, row in found.items():
        assert row["error"] < CLOSE and row.get("loss_error", 0) < CLOSE, (name, row)
    assert found["resumed"]["devices"] == 2 and found["resumed"]["resumed_at"] == 8


@pytest.mark.parametrize(
    ("seeds", "devices", "shards", "used", "padded"),
    [(1, 8, 8, 8, 1), (2, 8, 4, 8, 2), (3, 8, 2, 6, 3), (5, 8, 2, 6, 6), (2, 7, 3, 6, 2), (4, 3, 2, 2, 4)],
)
def test_groups_of_devices(seeds, devices, shards, used, padded) -> None:
    found = device_rules.place(seeds, tiny_model(), "map", [jax.devices()[0]] * devices, shards)
    assert (len(found.devices), found.padded, found.data_shards) == (used, padded, shards)


def test_seeds_come_first() -> None:
    """By default a batch is shared by what the seeds leave over, as far as that divides it; never on CPU."""

    class Chip:
        platform = "tpu"

    chips = [Chip()] * 16
    assert [device_rules.shards_for(seeds, 64, chips) for seeds in (1, 2, 4, 5, 16, 40)] == [16, 8, 4, 2, 1, 1]
    assert device_rules.shards_for(1, 10, chips) == 10 and device_rules.shards_for(1, 7, chips) == 7
    assert device_rules.shards_for(1, 64, jax.devices()) == 1


def test_what_cannot_be_shared_is_an_error(shared, tmp_path) -> None:
    with pytest.raises(ConfigError, match="data_shards: got 3; allowed is 1 to 2, the number of devices"):
        train(tmp_path / "a", devices=None, data_shards=3)
    with pytest.raises(ConfigError, match="data_shards: got 2; allowed is a divisor of batch_size=9"):
        train(tmp_path / "b", devices=None, data_shards=2, batch_size=9)
    with pytest.raises(ConfigError, match="microbatch: got 8; allowed is a divisor of the 4 sequences of a device"):
        train(tmp_path / "c", devices=None, data_shards=2, microbatch=BATCH)
    with pytest.raises(ConfigError, match="data_shards: got 0"):
        train(tmp_path / "d", devices=None, data_shards=0)
    assert not any(tmp_path.iterdir()), "nothing is written"
    with pytest.raises(ConfigError, match="data_shards: got 3"):
        al.resume(shared.path, data_shards=3)
