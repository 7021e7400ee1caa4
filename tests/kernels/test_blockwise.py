"""Mechanisms in blocks are those of the catalogue: values, gradients, decoding; and which cannot be."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import attention as catalogue
from attnlab.attention import Dims, Gated, causal_mask, named
from attnlab.attention.catalogue import WEIGHTED
from attnlab.config import ConfigError, decode, encode
from attnlab.kernels import Blocks, Blockwise, GatedBlockwise, blockwise

pytestmark = pytest.mark.usefixtures("x64")

BATCH, HEADS, LENGTH, WIDTH = 2, 3, 7, 4
DIMS = Dims(HEADS, WIDTH, HEADS * WIDTH)
SMALL = Blocks(4, 4)
# Sums of some 10 numbers of size 1, to 1e-16, through powers and normalisers.
CLOSE = 1e-12

WHOLE_ROWS = ("sparsemax", "entmax15", "entmax", "ssa_top")
TWICE = ("lssar", "lssar_3", "parallax", "lla")
PAIRS = ("relative", "uniform", "offset_table", "position_table", "identity")
SIGNED = ("elu_kernel_quadratic", "mlp_kernel_normalized_quadratic")
GATES = ("softmax+value_gate", "softmax+key_gate", "softmax+query_gate", "softmax+dense_gate")
OTHERS = {
    **dict.fromkeys(WHOLE_ROWS, "which logits keep a weight depends on a threshold that needs the whole row"),
    **dict.fromkeys(TWICE, "needs more than one pass over its keys"),
    **dict.fromkeys(PAIRS, "are made for all pairs at once"),
    "elu_kernel_quadratic": "with a sum as divisor, one of logistic, relu",
    "mlp_kernel_normalized_quadratic": "its divisor is not a sum of positive terms",
    **dict.fromkeys(GATES, "GatedBlockwise.place"),
    "kv_bias": r"KeyBias\(\) without a value",
    "differential": r"mechanism: got HeadNorm.*; allowed is a Weighted",
}
ALL = {mechanism.name: mechanism for mechanism in WEIGHTED}


def inputs(mechanism, seed: int = 0):
    """Parameters away from where they begin, `q, k, v, x`."""
    rng = np.random.default_rng(seed)
    params = jax.tree.map(lambda y: y + 0.3 * rng.normal(size=y.shape), mechanism.init(jax.random.key(0), DIMS))
    q, k, v = (jnp.asarray(rng.normal(size=(BATCH, HEADS, LENGTH, WIDTH))) for _ in range(3))
    return params, q, k, v, jnp.asarray(rng.normal(size=(BATCH, LENGTH, DIMS.width)))


def holes() -> np.ndarray:
    """A causal mask with holes; each row sees itself."""
    mask = np.random.default_rng(1).random((BATCH, 1, LENGTH, LENGTH)) < 0.6
    return (mask | np.eye(LENGTH, dtype=bool)) & np.asarray(causal_mask(LENGTH))


WEIGHTS = np.random.default_rng(2).normal(size=(BATCH, HEADS, LENGTH, WIDTH))


def total(mechanism, mask):
    def run(params, q, k, v, x):
        out = mechanism.apply(params, q, k, v, x=x, mask=mask).out
        return jnp.sum(WEIGHTS * out), out

    return jax.jit(jax.value_and_grad(run, (0, 1, 2, 3, 4), has_aux=True))


def same(one, two, bound: float = CLOSE) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=bound), one, two)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(OTHERS)))
def test_value_is_that_of_the_catalogue(name) -> None:
    """Under a mask with holes, where rows differ in how many keys they see; and gradients by all parameters."""
    mechanism, mask = ALL[name], holes()
    args = inputs(mechanism)
    fast = blockwise(mechanism, implementation="map")
    same(total(fast, mask)(*args), total(mechanism, mask)(*args))


@pytest.mark.parametrize("name", ["sigmoid_log_count", "ssa", "sink_logit", "softmax+gate"])
def test_so_are_blocks(name) -> None:
    """The kernel, interpreted, with nothing but what comes before."""
    mechanism = ALL[name]
    args = inputs(mechanism, 3)
    fast = blockwise(mechanism, implementation="interpret", blocks=SMALL, causal_only=True)
    same(total(fast, None)(*args), total(mechanism, causal_mask(LENGTH))(*args))


@pytest.mark.parametrize("name", sorted(OTHERS))
def test_what_cannot_be_taken_in_blocks_says_why(name) -> None:
    with pytest.raises(ConfigError, match=OTHERS[name]):
        blockwise(ALL[name])


@pytest.mark.parametrize("causal_only", [False, True])
@pytest.mark.parametrize("name", ["ssa", "softmax+gate"])
def test_decoding_is_the_full_pass(name, causal_only) -> None:
    mechanism = ALL[name]
    params, q, k, v, x = inputs(mechanism)
    fast = blockwise(mechanism, implementation="scan", blocks=SMALL, causal_only=causal_only)
    full = mechanism.apply(params, q, k, v, x=x, mask=causal_mask(LENGTH)).out
    state = fast.start(params, (BATCH,), LENGTH + 3, DIMS, q.dtype)
    step = jax.jit(fast.step)
    for t in range(LENGTH):
        out, state = step(params, state, q[:, :, t], k[:, :, t], v[:, :, t], x=x[:, t])
        same(out, full[:, :, t])


@pytest.mark.parametrize("name", ["sigmoid", "softmax+gate", "sink_logit"])
def test_a_map_is_made_only_where_someone_asks_for_it(name) -> None:
    mechanism = ALL[name]
    fast, mask = blockwise(mechanism, implementation="interpret", blocks=SMALL), causal_mask(LENGTH)
    params, q, k, v, x = inputs(mechanism)
    shape = f"f64[{BATCH},{HEADS},{LENGTH},{LENGTH}]"

    def program(**options):
        run = lambda *args: fast.apply(*args[:4], x=args[4], mask=mask, **options).out  # noqa: E731
        return str(jax.make_jaxpr(run)(params, q, k, v, x))

    assert shape not in program() and shape in program(view="map")
    by_map, expected = (m.apply(params, q, k, v, x=x, mask=mask, view="map") for m in (fast, mechanism))
    same(by_map, expected, 0)

    def doubled(site_name, value):
        return 2 * value if site_name == "weights" else value

    edited, expected = (m.apply(params, q, k, v, x=x, mask=mask, site=doubled).out for m in (fast, mechanism))
    same(edited, expected, 0)
    bias = jnp.asarray(np.random.default_rng(3).normal(size=(LENGTH, LENGTH)))
    biased, expected = (m.apply(params, q, k, v, x=x, bias=bias).out for m in (fast, mechanism))
    same(biased, expected, 0)


def test_causal_only_believes_no_other_mask() -> None:
    mechanism = blockwise(catalogue.softmax, causal_only=True)
    params, q, k, v, _ = inputs(mechanism)
    with pytest.raises(ValueError, match="got a mask that is not the causal one"):
        mechanism.apply(params, q, k, v, mask=np.ones((LENGTH, LENGTH), bool))


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"map": catalogue.Sigmoid(), "columns": catalogue.ZeroLogit()}, "own.columns: got ZeroLogit"),
        ({"cap": 2.0, "columns": catalogue.SinkLogit()}, "own.columns: got SinkLogit.* and no cap"),
        ({"post": catalogue.Reweight()}, "own.post: got Reweight"),
    ],
)
def test_refused(slots, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Blockwise("own", **slots)


def test_gates_refused() -> None:
    with pytest.raises(ConfigError, match=r"GatedBlockwise.base: got .* allowed is a Blockwise mechanism"):
        GatedBlockwise(catalogue.softmax)
    with pytest.raises(ConfigError, match=r"GatedBlockwise.base: got .* a map without a divisor"):
        blockwise(Gated(catalogue.relu))


def test_they_are_values_like_any_mechanism() -> None:
    for mechanism in (catalogue.lssa, catalogue.output_gated):
        fast = blockwise(mechanism, blocks=SMALL, causal_only=True)
        assert isinstance(fast, catalogue.Mechanism)
        assert decode(encode(fast)) == fast and hash(fast) == hash(blockwise(mechanism, blocks=SMALL, causal_only=True))
        same(fast.init(jax.random.key(0), DIMS), mechanism.init(jax.random.key(0), DIMS), 0)
    assert blockwise(catalogue.output_gated).name == "softmax_blockwise+gate"
    assert named(blockwise(catalogue.softmax), "other").name == "other"
