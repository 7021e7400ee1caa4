"""Paths from head to head: exact in an attention-only model without norms, and the limits of the method."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits, tape
from attnlab.analysis import path_patching as paths
from attnlab.config import ConfigError
from attnlab.models import Transformer

PLAIN = Transformer(
    vocab_size=11, length=6, num_layers=3, num_heads=2, width=8, no_mlp=(0, 1, 2), norm="none", init_kind="scaled"
)
NORMED = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8)
RNG = np.random.default_rng(0)
CLEAN, CORRUPT = (jnp.asarray(RNG.integers(0, 11, (4, 6))) for _ in range(2))


def score(logits):
    return jnp.mean(logits[:, -1, 3] - logits[:, -1, 5])


@pytest.fixture(scope="module")
def params():
    return PLAIN.init(jax.random.key(0))


@pytest.fixture(scope="module")
def runs(params):
    return [PLAIN.apply(params, x, tape=("*",)) for x in (CLEAN, CORRUPT)]


def test_what_arrives_at_a_query_is_what_the_sender_wrote(params, runs) -> None:
    """Attention only, no norms: the change of a later query is `Δz W_O W_Q` exactly."""
    (_, clean), (_, other) = runs
    sender = jnp.zeros((3, 2)).at[0, 1].set(1)
    receiver = paths.Receiver(2, 0, "q")
    arrived, _ = paths._arriving(PLAIN, params, CLEAN, clean, other, sender, (receiver,), False, None)
    change = (arrived[paths.site_of(receiver)] - clean[paths.site_of(receiver)])[:, 0]
    site = "blocks.0.attn.head_out"
    attn = params["blocks"]["0"]["attn"], params["blocks"]["2"]["attn"]
    written = (other[site] - clean[site])[:, 1] @ attn[0]["output"][1]
    np.testing.assert_allclose(change, written @ attn[1]["query"][:, 0], rtol=0, atol=1e-5)


def test_direct_paths_to_the_logits_add_up(params, runs) -> None:
    """Attention only, no norms: all direct effects and the embedding's are the whole difference."""
    found = paths.path_effects(PLAIN, params, CLEAN, CORRUPT, score)
    (_, clean), (_, other) = runs
    embedding = score((other["embed"] - clean["embed"]) @ params["unembed"])
    total = (found.patched - found.clean).sum() + embedding
    assert float(total) == pytest.approx(float(found.corrupt - found.clean), abs=1e-5)


def test_a_run_patched_with_itself(params) -> None:
    found = paths.path_effects(PLAIN, params, CLEAN, CLEAN, score, (paths.LOGITS, *paths.all_receivers(PLAIN)))
    np.testing.assert_array_equal(found.patched, found.clean)


@pytest.mark.parametrize("freeze", [False, True])
def test_one_path_against_its_definition(freeze) -> None:
    """Three passes written out, in a model with norms and MLPs."""
    params = NORMED.init(jax.random.key(1))
    receiver = paths.Receiver(1, 1, "v")
    found = paths.path_effects(
        NORMED, params, CLEAN, CORRUPT, score, (receiver,), freeze_mlps=freeze, at=edits.rows(6, (1, 2))
    )
    _, clean = NORMED.apply(params, CLEAN, tape=("*",))
    _, other = NORMED.apply(params, CORRUPT, tape=("*",))
    for head in range(2):
        z = np.array(clean["blocks.0.attn.head_out"])
        z[:, head, 1:3] = other["blocks.0.attn.head_out"][:, head, 1:3]
        held = [tape.replace("blocks.0.attn.head_out", z)]
        held.append(tape.replace("blocks.1.attn.head_out", clean["blocks.1.attn.head_out"]))
        if freeze:
            held += [tape.replace(f"blocks.{i}.mlp.out", clean[f"blocks.{i}.mlp.out"]) for i in (0, 1)]
        _, arrived = NORMED.apply(params, CLEAN, tape=("blocks.1.attn.v",), edits=held)
        v = np.array(clean["blocks.1.attn.v"])
        v[:, 1] = arrived["blocks.1.attn.v"][:, 1]
        wanted = score(NORMED.apply(params, CLEAN, edits=(tape.replace("blocks.1.attn.v", v),))[0])
        assert float(found.patched[0, head, 0]) == pytest.approx(float(wanted), abs=2e-6)
    np.testing.assert_allclose(
        found.patched[1, :, 0], found.clean, atol=2e-6, err_msg="a sender is before its receiver"
    )
    expected = (found.patched - found.clean) / (found.corrupt - found.clean)
    np.testing.assert_array_equal(found.effect, expected)


def test_a_set_of_receivers_at_once(params) -> None:
    receivers = paths.all_receivers(PLAIN)
    assert len(receivers) == 2 * 2 * 3 and all(r.layer > 0 for r in receivers)
    assert len(paths.all_receivers(PLAIN, ("q",))) == 4
    _, other = PLAIN.apply(params, CORRUPT, tape=("*",))
    joint = paths.patched_score(PLAIN, params, CLEAN, score, receivers, other)
    held = [tape.replace(f"blocks.{i}.attn.{p}", other[f"blocks.{i}.attn.{p}"]) for i in (1, 2) for p in "qkv"]
    wanted = score(PLAIN.apply(params, CLEAN, edits=held)[0])
    assert float(joint) == pytest.approx(float(wanted), abs=1e-6)


def test_one_trace_for_all_senders(params) -> None:
    traces = 0

    def counted(logits):
        nonlocal traces
        traces += 1
        return score(logits)

    paths.path_effects(PLAIN, params, CLEAN, CORRUPT, counted, chunk=3)
    assert traces == 3, "clean, corrupted, all senders (6 in chunks of 3)"


def test_layers_without_attention_are_missing() -> None:
    model = dataclasses.replace(NORMED, no_attention=(0,))
    params = model.init(jax.random.key(0))
    found = paths.path_effects(model, params, CLEAN, CORRUPT, score)
    assert np.isnan(found.patched[0]).all() and np.isfinite(found.patched[1]).all()


@pytest.mark.parametrize(
    ("receiver", "told"),
    [("logit", "LOGITS"), (paths.Receiver(3, 0, "q"), "layer"), (paths.Receiver(1, 2, "q"), "0 to 1")],
)
def test_receivers_that_are_not_there(params, receiver, told) -> None:
    with pytest.raises(ConfigError, match=told):
        paths.path_effects(PLAIN, params, CLEAN, CORRUPT, score, (receiver,))


def test_a_part_that_is_none() -> None:
    with pytest.raises(ConfigError, match="part"):
        paths.Receiver(0, 0, "z")  # pyright: ignore[reportArgumentType]
