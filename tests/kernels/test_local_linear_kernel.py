"""The Pallas kernels of local linear attention, in both their forms: they are the whole map, and the loops."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dense import dense
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from kernel_checks import holds_to_reference, is_the_same_every_time, maps_over_seeds, measured, reads_nothing_hidden
from kernel_masks import holes, padding

from attnlab.accelerators.count import count
from attnlab.attention import causal_mask
from attnlab.config import ConfigError
from attnlab.kernels import EXACT, Solver, local_linear_attention
from attnlab.kernels.targets import INTERPRETED, Pallas

BATCH, HEADS, GROUPS, LENGTH, WIDTH, VALUES = 2, 4, 2, 40, 5, 3
PADDING, HOLES = padding(BATCH, LENGTH), holes(BATCH, HEADS, LENGTH)
SCALE = WIDTH**-0.5
TIGHT = Solver(tol=1e-14, max_iters=60, block_q=16, block_k=16)  # to rounding; 80 rows and 40 keys of a key head


def arrays(seed: int = 0) -> tuple[np.ndarray, ...]:
    """Standard normal `q, k, v`, ridges from 0.02 to 1."""
    rng = np.random.default_rng(seed)
    shapes = ((HEADS, LENGTH, WIDTH), (GROUPS, LENGTH, WIDTH), (GROUPS, LENGTH, VALUES))
    return *(rng.normal(size=(BATCH, *shape)) for shape in shapes), np.exp(rng.uniform(-4, 0, HEADS))


def kernel(pallas: Pallas, *args, solver: Solver = TIGHT, floor: float | None = 0.0, **options):
    return local_linear_attention(*args, floor=floor, solver=solver, pallas=pallas, **options)


def close(one, two, bound: float) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert np.max(np.abs(a - b)) <= bound * np.max(np.abs(b))


@pytest.mark.parametrize(
    ("target", "options", "seen", "penalty"),
    [
        (
            "tpu",
            {"window": 20, "mask": PADDING},
            causal_mask(LENGTH, window=20) & PADDING,
            "relative",
        ),
        ("gpu", {"causal": False, "mask": HOLES}, HOLES, "absolute"),
    ],
    ids=["tpu", "gpu"],
)
def test_value_and_gradient_are_those_of_the_whole_map(target, options, seen, penalty) -> None:
    options = options | {"penalty": penalty}
    holds_to_reference(
        partial(kernel, Pallas(target, interpret=True), **options),
        lambda *args: dense(*args, seen, SCALE, penalty),
        arrays(),
        dtype=np.float64,
        bound=1e-10,
        reason="1e-16 times conditions up to 1e3, in two solves, in sums of 40; as the loops",
    )


def test_it_is_the_loops_of_the_same_blocks() -> None:
    """The floor and its gradient, a decode step's positions; the same steps, in sums of another order at most."""
    args = arrays()
    options = {"solver": TIGHT, "floor": 0.05, "at": np.arange(LENGTH)[::-1].copy(), "penalty": "absolute"}
    found, loops = (
        measured(partial(local_linear_attention, pallas=pallas, **options), args, dtype=np.float64)
        for pallas in (INTERPRETED, None)
    )
    close(found, loops, 1e-11)  # rounding 1e-16 times conditions up to 1e3, in sums of 40


def test_float32() -> None:
    """As the catalogue's settings have it: early exit at a residual of 1e-5, which the error is about as large as."""
    reference = partial(dense, seen=causal_mask(LENGTH), scale=SCALE)
    solver = Solver(block_q=16, block_k=16)
    holds_to_reference(
        partial(kernel, INTERPRETED, solver=solver),
        reference,
        arrays(),
        bound=5e-5,
        gradient_bound=5e-4,
        reason="1 to 2.5 times the tolerance 1e-5 of the solver; on the way back times |x| and rho, up to 10",
    )


def test_bfloat16_is_computed_in_float32() -> None:
    """Its output is that of float32 on the same numbers, rounded."""
    args = [np.asarray(x).astype(jnp.bfloat16) for x in arrays()]
    options = {"pallas": INTERPRETED, "solver": Solver(block_q=16, block_k=16)}
    run = jax.jit(partial(local_linear_attention, **options))
    found, wide = run(*args), run(*(x.astype(np.float32) for x in args))
    assert found.dtype == jnp.bfloat16 and (np.asarray(wide.astype(jnp.bfloat16)) == np.asarray(found)).all()


def test_the_same_every_time_and_mapped_over_seeds() -> None:
    run = partial(kernel, INTERPRETED, solver=Solver(block_q=16, block_k=16))
    is_the_same_every_time(run, arrays())
    reason = "rows rest at residuals of 1e-5; sums of another order may move the step at which they do"
    maps_over_seeds(run, [arrays(0), arrays(1)], bound=5e-5, reason=reason)


def test_what_is_hidden_is_not_read() -> None:
    """Values of keys that padding hides; to the bit. (Their keys move the mean that all keys are taken less of.)"""
    args = arrays()
    v = args[2].copy()
    v[0, :, -3:] = 1e6
    run = partial(kernel, INTERPRETED, mask=PADDING, causal=False)
    reads_nothing_hidden(run, args, (*args[:2], v, args[3]))


def gradient(q, k, v, ridge, mask):
    def total(*args):
        return jnp.sum(local_linear_attention(*args, mask=mask, pallas=Pallas()).astype(jnp.float32))

    return jax.grad(total, (0, 1, 2, 3))(q, k, v, ridge)


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
def test_it_is_lowered_for_both_kinds_of_chips() -> None:
    """One kernel forward, two backward; head width 40 is no power of 2, 200 tokens no whole number of blocks."""
    token = jax.ShapeDtypeStruct((2, 200, 40), jnp.float32)
    ridge, mask = jax.ShapeDtypeStruct((2,), jnp.float32), jax.ShapeDtypeStruct((200, 200), jnp.bool_)
    traced = jax.jit(gradient)
    args = (token, token, token, ridge, mask)
    assert traced.trace(*args).lower(lowering_platforms=("tpu",)).as_text().count("tpu_custom_call") == 3
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    with jax.sharding.use_abstract_mesh(AbstractMesh((1,), ("x",), (AxisType.Auto,), abstract_device=device)):
        assert traced.trace(*args).lower(lowering_platforms=("cuda",)).as_text().count("gpu.triton") == 3


@pytest.mark.parametrize(("options", "blocks"), [({}, 10), ({"causal": False}, 16), ({"window": 64}, 7)])
def test_its_cost_is_that_of_the_blocks_it_reads(options, blocks) -> None:
    """256 tokens in blocks of 64; forward seven products with `K` and one with `E`, with one step of the solver."""
    token, values = (jax.ShapeDtypeStruct((2, 256, width), jnp.float32) for width in (32, 16))
    solver = Solver(block_q=64, block_k=64)
    run = partial(local_linear_attention, solver=solver, pallas=Pallas("tpu"), **options)
    found = count(jax.make_jaxpr(run)(token, token, values, jax.ShapeDtypeStruct((2,), jnp.float32)).jaxpr)
    expected = 2 * blocks * 64**2 * 2 * (7 * 32 + 16)
    assert expected <= found.flops <= 1.01 * expected + 2 * 256 * 100 and found.open


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (EXACT, r"solver: got Solver\(kind='exact'.*allowed is CG, or a Solver"),
        (Solver(block_q=48), r"solver\.block_q: got 48; allowed is a power of 2 that is at least 16, for kernels"),
        (Solver(block_k=8), r"solver\.block_k: got 8; allowed is a power of 2"),
    ],
)
def test_refused(solver, message) -> None:
    q = jnp.zeros((2, 20, 4))
    with pytest.raises(ConfigError, match=message):
        local_linear_attention(q, q, q, 1.0, solver=solver, pallas=Pallas())
