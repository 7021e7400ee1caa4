"""All single-head ablations in one program, against the loop of whole edited passes; patches between runs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import edits
from attnlab.analysis.head_effects import head_effects, head_outputs
from attnlab.config import ConfigError
from attnlab.models import Transformer

MODEL = Transformer(vocab_size=11, length=6, num_layers=3, num_heads=2, width=8, no_mlp=(1,))
RNG = np.random.default_rng(0)
CLEAN, CORRUPT = (jnp.asarray(RNG.integers(0, 11, (4, 6))) for _ in range(2))


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


def score(logits):
    return jnp.mean(logits[:, -1, 3] - logits[:, -1, 5])


@pytest.mark.parametrize("kind", edits.KINDS)
def test_they_are_the_loop_of_edited_passes(params, kind) -> None:
    source = head_outputs(MODEL, params, CORRUPT) if kind == "resample" else None
    clean = head_outputs(MODEL, params, CLEAN)
    at = edits.rows(6, (2, -1)) if kind == "bos" else None
    found = jax.jit(lambda p: head_effects(MODEL, p, CLEAN, score, kind, source=source, at=at, chunk=1))(params)
    assert found.kind == kind and found.ablated.shape == (3, 2)
    for layer in range(3):
        site = f"blocks.{layer}.attn.head_out"
        given = {"resample": CORRUPT is not None and source and source[site], "mean": edits.mean_outputs(clean[site])}
        for head in range(2):
            edit = edits.ablate_heads(layer, head, 2, kind, given.get(kind), at)
            wanted = score(MODEL.apply(params, CLEAN, edits=(edit,))[0])
            # float32, logits of size 1 by another order of operations.
            assert float(found.ablated[layer, head]) == pytest.approx(float(wanted), abs=2e-6)
    assert float(abs(found.effect).max()) > 1e-3


def test_a_run_patched_with_itself_has_no_effect(params) -> None:
    found = head_effects(MODEL, params, CLEAN, score, "resample", source=head_outputs(MODEL, params, CLEAN))
    np.testing.assert_array_equal(found.effect, 0)


def test_patching_every_head_and_mlp_is_the_other_run(params) -> None:
    """All heads, MLPs and the embedding from the corrupted run: the corrupted score."""
    from attnlab import tape

    _, other = MODEL.apply(params, CORRUPT, tape=("embed", "blocks.*.attn.head_out", "blocks.*.mlp.out"))
    held = [tape.replace(site, value) for site, value in other.items()]
    patched = score(MODEL.apply(params, CLEAN, edits=held)[0])
    assert float(patched) == pytest.approx(float(score(MODEL.apply(params, CORRUPT)[0])), abs=1e-6)


def test_one_trace_for_all_heads_and_layers_without_attention(params) -> None:
    model = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=4, width=8, no_attention=(0,))
    own, traces = model.init(jax.random.key(0)), 0

    def counted(logits):
        nonlocal traces
        traces += 1
        return score(logits)

    found = head_effects(model, own, CLEAN, counted)
    assert traces == 2, "the clean run, and the four heads of the one layer"
    assert np.isnan(found.ablated[0]).all() and np.isfinite(found.ablated[1]).all()


def test_it_maps_over_parameters(params) -> None:
    both = jax.tree.map(lambda *x: jnp.stack(x), params, MODEL.init(jax.random.key(1)))
    found = jax.vmap(lambda p: head_effects(MODEL, p, CLEAN, score).ablated)(both)
    np.testing.assert_allclose(found[0], head_effects(MODEL, params, CLEAN, score).ablated, rtol=0, atol=2e-6)


def test_towards_another_run(params) -> None:
    found = head_effects(MODEL, params, CLEAN, score)
    np.testing.assert_allclose(found.towards(found.base + 2), found.effect / 2, rtol=1e-5)


def test_errors(params) -> None:
    with pytest.raises(ConfigError, match="source"):
        head_effects(MODEL, params, CLEAN, score, "resample")
    with pytest.raises(ConfigError, match="source"):
        head_effects(MODEL, params, CLEAN, score, "zero", source={})
    with pytest.raises(ConfigError, match="attention in some layer"):
        bare = Transformer(vocab_size=11, length=6, width=8, no_attention=(0,))
        head_effects(bare, bare.init(jax.random.key(0)), CLEAN, score)
