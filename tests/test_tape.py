"""Reading and writing activations by name: exact, free when not asked for, without retracing."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention, tape
from attnlab.models import Transformer
from attnlab.tape import Edit, SiteError, Sites

MODEL = Transformer(vocab_size=11, length=6, num_layers=2, num_heads=2, width=8, no_mlp=(1,))
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 6)))
SITES = [
    "embed",
    *(f"blocks.0.attn.{name}" for name in ("in", "q", "k", "v", "logits", "weights", "head_out", "out")),
    *(f"blocks.0.mlp.{name}" for name in ("in", "hidden", "out")),
    "blocks.0.out",
    *(f"blocks.1.attn.{name}" for name in ("in", "q", "k", "v", "logits", "weights", "head_out", "out")),
    "blocks.1.out",
    "final",
    "logits",
]


@pytest.fixture(scope="module")
def params():
    return MODEL.init(jax.random.key(0))


@pytest.fixture(scope="module")
def everything(params):
    """Logits and every activation, computed operation by operation, so that bits can be compared."""
    return MODEL.apply(params, TOKENS, tape=("*",))


def test_names_are_those_of_the_model(params, everything) -> None:
    assert tape.names(partial(MODEL.forward, params, TOKENS)) == SITES
    assert list(everything[1]) == SITES
    biased = Transformer(vocab_size=11, length=6, mechanism=attention.kv_bias)
    made = jax.eval_shape(biased.init, jax.random.key(0))
    assert "blocks.0.attn.null" in tape.names(lambda p, s: biased.forward(p, TOKENS, s), made)


def test_patterns_choose(params) -> None:
    read = lambda *patterns: set(MODEL.apply(params, TOKENS, tape=patterns)[1])  # noqa: E731
    assert read("blocks.*.attn.weights") == {"blocks.0.attn.weights", "blocks.1.attn.weights"}
    assert read("blocks.1.out", "logits") == {"blocks.1.out", "logits"}
    assert read("blocks.?.attn.[qk]") == {f"blocks.{i}.attn.{n}" for i in (0, 1) for n in "qk"}
    assert read() == set()
    assert set(MODEL.apply(params, TOKENS, tape="logits")[1]) == {"logits"}, "one pattern needs no tuple"


@pytest.mark.parametrize("name", ["blocks.1.mlp.out", "blocks.2.out", "block.0.out", "Logits", ""])
def test_a_name_that_matches_nothing_lists_the_names(params, name) -> None:
    for wrong in ({"tape": ("logits", name)}, {"edits": (tape.zero(name),)}):
        with pytest.raises(SiteError) as caught:
            MODEL.apply(params, TOKENS, **wrong)
        message = str(caught.value)
        assert repr(name) in message
        assert all(site in message for site in SITES)
        assert isinstance(caught.value, KeyError)


class _Absent:
    """What a model without any tape would call."""

    def __call__(self, name, value):
        return value

    def at(self, place):
        return self

    def wants(self, name):
        return False


def test_what_is_not_asked_for_costs_nothing(params) -> None:
    """The traced program is the one without a tape, letter for letter; reading everything adds no operation."""
    plain = jax.make_jaxpr(lambda p: MODEL.forward(p, TOKENS, _Absent()))(params)
    unread = jax.make_jaxpr(lambda p: MODEL.apply(p, TOKENS)[0])(params)
    full = jax.make_jaxpr(lambda p: MODEL.apply(p, TOKENS, tape=("*",)))(params)
    assert str(unread) == str(plain)
    assert [e.primitive for e in full.eqns] == [e.primitive for e in plain.eqns]
    assert len(full.jaxpr.outvars) == 1 + len(SITES)


def test_reading_does_not_change_the_result(params, everything) -> None:
    logits, _ = MODEL.apply(params, TOKENS)
    assert logits.tobytes() == everything[0].tobytes()


@pytest.mark.parametrize(
    "edit",
    [
        tape.scale("*", 1.0),
        tape.add("*", 0.0),
        tape.mix("*", 5.0, 0.0),
        tape.replace("*", 7.0, mask=False),
        tape.zero("*", mask=jnp.zeros(1, bool)),
    ],
    ids=["scale 1", "add 0", "mix 0", "replace nowhere", "zero nowhere"],
)
def test_an_edit_that_changes_nothing_changes_no_bit(params, everything, edit) -> None:
    logits, _ = MODEL.apply(params, TOKENS, edits=(edit,))
    np.testing.assert_array_equal(logits, everything[0], strict=True)


@pytest.mark.parametrize("site", SITES)
def test_every_site_can_be_written(params, everything, site) -> None:
    """What is read there is what was written, and it matters downstream."""
    wanted = jnp.full_like(everything[1][site], 0.125)
    logits, read = MODEL.apply(params, TOKENS, tape=(site,), edits=(tape.replace(site, wanted),))
    assert (read[site] == wanted).all()
    assert not np.array_equal(logits, everything[0])


def test_the_kinds_of_edit_do_what_they_say(params, everything) -> None:
    site, x = "blocks.0.mlp.out", np.asarray(everything[1]["blocks.0.mlp.out"])
    new = np.random.default_rng(0).normal(size=x.shape[-2:]).astype(np.float32)
    edits = {
        "zero": (tape.zero(site), 0 * x),
        "replace": (tape.replace(site, new), np.broadcast_to(new, x.shape)),
        "scale": (tape.scale(site, 3.0), 3 * x),
        "add": (tape.add(site, new), x + new),
        "mix": (tape.mix(site, new, 0.25), 0.75 * x + 0.25 * new),
        "mask": (tape.zero(site, mask=jnp.arange(6)[:, None] == 2), np.where(np.arange(6)[:, None] == 2, 0, x)),
        "own": (Edit(site, lambda x, _, tokens: x * (tokens[..., None] > 4)), x * (np.asarray(TOKENS)[..., None] > 4)),
    }
    for name, (edit, expected) in edits.items():
        _, read = MODEL.apply(params, TOKENS, tape=(site,), edits=(edit,))
        # One multiplication and one addition in float32.
        np.testing.assert_allclose(read[site], expected, rtol=0, atol=1e-6, err_msg=name)


def test_edits_of_one_site_apply_in_order(params, everything) -> None:
    site = "blocks.0.out"
    _, read = MODEL.apply(params, TOKENS, tape=(site,), edits=(tape.add(site, 1.0), tape.scale(site, 2.0)))
    np.testing.assert_allclose(read[site], 2 * (everything[1][site] + 1), rtol=1e-6)


def test_zero_ablation_is_zero_even_of_nan() -> None:
    sites = Sites(edits=tape.zero("x"))
    assert (sites("x", jnp.array([jnp.nan, jnp.inf, 1.0])) == 0).all()


def test_edits_keep_the_dtype_of_the_activation() -> None:
    sites = Sites(edits=(tape.add("x", jnp.float32(1)), tape.mix("x", 0.5, 0.5)))
    assert sites("x", jnp.zeros(3, jnp.bfloat16)).dtype == jnp.bfloat16


def test_new_values_do_not_retrace(params) -> None:
    traces = 0

    @jax.jit
    def run(params, edits):
        nonlocal traces
        traces += 1
        return MODEL.apply(params, TOKENS, edits=edits)[0]

    def edits(i):
        masked = tape.replace("blocks.0.out", jnp.full(8, float(i)), mask=jnp.arange(6)[:, None] == i)
        return tape.scale("blocks.0.attn.out", i), tape.add("embed", i + 1.0), tape.mix("final", 0.0, i / 4), masked

    outcomes = [run(params, edits(i)) for i in range(4)]
    assert traces == 1
    assert len({x.tobytes() for x in outcomes}) == 4


def test_vmap_over_values_is_the_loop(params) -> None:
    factors = jnp.array([0.0, 0.5, 2.0])
    with_factor = lambda f: MODEL.apply(params, TOKENS, edits=(tape.scale("blocks.0.attn.head_out", f),))[0]  # noqa: E731
    many = jax.vmap(with_factor)(factors)
    edits = jax.vmap(lambda f: tape.scale("blocks.0.attn.head_out", f))(factors)
    as_pytree = jax.vmap(lambda e: MODEL.apply(params, TOKENS, edits=(e,))[0])(edits)
    for i, factor in enumerate(factors):
        # float32 sums, batched differently: 1e-7 of logits of size 2.
        np.testing.assert_allclose(many[i], with_factor(factor), rtol=0, atol=3e-6)
        np.testing.assert_allclose(as_pytree[i], many[i], rtol=0, atol=3e-6)


def loss(params, edits):
    logits, _ = MODEL.apply(params, TOKENS, edits=edits)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - logits[..., 0])


def test_gradient_with_respect_to_an_edit_is_its_slope(params) -> None:
    def of(factor):
        return loss(params, (tape.scale("blocks.0.attn.out", factor),))

    h = 1e-2
    # Central differences in float32: h^2 and 1e-7 / h, both 1e-5 or 1e-4.
    assert float(jax.grad(of)(0.7)) == pytest.approx(float(of(0.7 + h) - of(0.7 - h)) / (2 * h), abs=3e-4)
    assert abs(float(jax.grad(of)(0.7))) > 1e-3


def test_training_under_an_edit_leaves_what_it_cuts_without_gradient(params) -> None:
    gradient = jax.grad(loss)(params, (tape.zero("blocks.1.attn.out"),))
    cut = gradient["blocks"]["1"]["attn"]
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(cut))
    kept = gradient["blocks"]["0"]["attn"]
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(kept))


def test_a_patch_from_another_run_reproduces_what_follows(params, everything) -> None:
    """Other weights and other tokens up to the patch; from there on the same numbers, to the bit."""
    logits, other = MODEL.apply(params, (TOKENS + 3) % 11, tape=("*",))
    assert not np.array_equal(logits, everything[0])
    after = SITES[SITES.index("blocks.1.attn.in") :]
    patch = (tape.replace("blocks.0.out", everything[1]["blocks.0.out"]),)
    changed = {**params, "embed": jax.tree.map(lambda x: 2 * x, params["embed"])}
    _, patched = MODEL.apply(changed, (TOKENS + 3) % 11, tape=("*",), edits=patch)
    for site in after:
        assert patched[site].tobytes() == everything[1][site].tobytes(), site
    assert patched["blocks.0.attn.out"].tobytes() != other["blocks.0.attn.out"].tobytes()


def test_patching_one_head(params, everything) -> None:
    mask = tape.head_mask(2, 1)
    clean, other = everything[1]["blocks.0.attn.head_out"], MODEL.apply(params, (TOKENS + 3) % 11, tape="*")[1]
    edit = tape.replace("blocks.0.attn.head_out", clean, mask)
    _, read = MODEL.apply(params, (TOKENS + 3) % 11, tape=("*.head_out",), edits=(edit,))
    got = read["blocks.0.attn.head_out"]
    assert (got[:, 1] == clean[:, 1]).all() and (got[:, 0] == other["blocks.0.attn.head_out"][:, 0]).all()


def test_head_mask() -> None:
    assert tape.head_mask(4, (0, 2))[:, 0, 0].tolist() == [True, False, True, False]
    assert tape.head_mask(4, 3).shape == (4, 1, 1)
    for bad in (4, -1):
        with pytest.raises(ValueError, match=f"heads: got {bad}; allowed is 0 to 3"):
            tape.head_mask(4, (0, bad))


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (tape.replace("blocks.0.out", jnp.zeros((6, 9))), r"a value of shape \(6, 9\)"),
        (tape.zero("blocks.0.out", mask=jnp.ones((3, 1, 1), bool)), r"a mask of shape \(3, 1, 1\)"),
        (tape.zero("blocks.0.out", mask=jnp.ones((2, 2, 1, 1), bool)), r"a mask of shape \(2, 2, 1, 1\)"),
    ],
)
def test_an_edit_that_does_not_fit_names_site_and_shapes(params, edit, what) -> None:
    with pytest.raises(ValueError, match=rf"edit of 'blocks.0.out': got {what}; .* of shape \(2, 6, 8\)"):
        MODEL.apply(params, TOKENS, edits=(edit,))
