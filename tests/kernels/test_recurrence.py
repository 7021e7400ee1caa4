"""The kernel of recurrences, in both its forms, against the recurrence token by token; and that chips can have it."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
from kernel_checks import (
    holds_to_reference,
    is_the_same_every_time,
    maps_over_seeds,
    reads_nothing_hidden,
)

from attnlab.accelerators.count import count
from attnlab.attention.scan import Steps, inverse_of_unit_lower, scan_core
from attnlab.config import ConfigError
from attnlab.kernels.recurrence import delta_rule, recurrence
from attnlab.kernels.recurrence_chunk import inverse_flops
from attnlab.kernels.targets import INTERPRETED, Pallas

BATCH, HEADS, LENGTH, KEYS, VALUES, CHUNK = 2, 3, 40, 5, 3, 16
FORMS = {target: Pallas(target, interpret=True) for target in ("tpu", "gpu")}


def draw(decay: bool, erase: bool, seed: int = 0, length: int = LENGTH) -> tuple[np.ndarray | None, ...]:
    """`q, k, v, log_decay, a, b, state`; keys of norm 1, strengths in [0, 1], rates of forgetting about 1/3."""
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(BATCH, HEADS, *shape))

    k = normal(length, KEYS)
    k /= np.linalg.norm(k, axis=-1, keepdims=True)
    b = -rng.uniform(size=(BATCH, HEADS, length, 1)) * k
    log_decay = -rng.exponential(size=(BATCH, HEADS, length)) / 3
    state = normal(KEYS, VALUES)
    return (
        normal(length, KEYS),
        -b if erase else k,
        normal(length, VALUES),
        log_decay if decay else None,
        k if erase else None,
        b if erase else None,
        state,
    )


def by_kernel(form: Pallas, q, k, v, log_decay, a, b, state, *, early: bool = False, chunk: int = CHUNK):
    return recurrence(Steps(q, k, log_decay, a, b, early=early), v, state, chunk=chunk, pallas=form)


def by_token(q, k, v, log_decay, a, b, state, *, early: bool = False):
    return scan_core(Steps(q, k, log_decay, a, b, early=early), v, state)


ROUNDING = "sums of up to 40 numbers of the largest's size, and the same on the way back"


@pytest.mark.parametrize(
    ("form", "decay", "erase"),
    [("tpu", False, False), ("tpu", True, False), ("tpu", False, True), ("tpu", True, True), ("gpu", True, True)],
)
def test_value_and_gradient_are_those_of_the_recurrence(form, decay, erase) -> None:
    """Linear attention, with decay, delta rule, gated delta rule; 40 tokens are no whole number of chunks of 16."""
    args, early = draw(decay, erase), decay and erase
    kernel = partial(by_kernel, FORMS[form], early=early)
    reference = partial(by_token, early=early)
    holds_to_reference(kernel, reference, args, dtype=np.float64, bound=1e-14, gradient_bound=1e-13, reason=ROUNDING)


def test_float32() -> None:
    kernel = partial(by_kernel, FORMS["gpu"])
    holds_to_reference(kernel, by_token, draw(True, True), bound=2e-6, reason=f"6e-8 in {ROUNDING}")


def test_bfloat16() -> None:
    """Sums are float32 whatever comes in."""
    kernel, reason = partial(by_kernel, INTERPRETED), "outputs are rounded to 8 bits, nothing else is"
    found = holds_to_reference(kernel, by_token, draw(True, True), dtype=jnp.bfloat16, bound=2**-8, reason=reason)
    assert [x.dtype for x in found.out] == [jnp.bfloat16, np.float32]
    assert all(g.dtype == jnp.bfloat16 for g in jax.tree.leaves(found.gradients))


@pytest.mark.parametrize(("length", "chunk"), [(1, 64), (32, 16)])
def test_any_length(length, chunk) -> None:
    """Less than a chunk, and a whole number of them."""
    args = draw(True, True, length=length)
    kernel = partial(by_kernel, INTERPRETED, chunk=chunk)
    holds_to_reference(kernel, by_token, args, dtype=np.float64, bound=1e-14, gradient_bound=1e-13, reason=ROUNDING)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_every_time(form) -> None:
    is_the_same_every_time(partial(by_kernel, FORMS[form]), draw(True, True))


def test_mapped_over_seeds() -> None:
    draws = [draw(True, True, seed) for seed in (0, 1)]
    maps_over_seeds(partial(by_kernel, INTERPRETED), draws, bound=2e-6, reason=f"6e-8 in {ROUNDING}")


def test_what_comes_later_is_not_read() -> None:
    """In the same chunk and in the next; to the bit."""
    args, seen = draw(True, True), 20

    def changed(place: int, x: np.ndarray) -> np.ndarray:
        other = -np.abs(x - 0.5) if place == 3 else x + 0.5
        return x if place == 6 else np.where(np.arange(LENGTH).reshape(-1, *(1,) * (x.ndim - 3)) < seen, x, other)

    other = [changed(place, x) for place, x in enumerate(args)]
    reads_nothing_hidden(lambda *args: by_kernel(INTERPRETED, *args)[0][..., :seen, :], args, other)


def test_decays_that_underflow_leave_the_others_exact() -> None:
    """Logarithms of -1e4 beside some of -0.1: prefix sums of that size would round at 1e-3."""
    args = list(draw(True, True))
    args[3] = 0.1 * args[3]
    args[3][..., [1, 4, 5, 17]] = -1e4
    found = holds_to_reference(
        partial(by_kernel, INTERPRETED), by_token, args, bound=2e-6, reason=f"6e-8 in {ROUNDING}"
    )
    assert (found.gradients[3][..., [1, 4, 5, 17]] == 0).all(), "no gradient through a weight of 0"


def test_steps_and_states_may_be_shared_and_values_may_skip() -> None:
    """Axes of 1 where nothing depends on them, no state, a skip: as in the chunked form."""
    q, k, v, log_decay, *_ = draw(True, False)
    skip = np.random.default_rng(1).normal(size=(HEADS, LENGTH))

    def shared(core, q, k, v, log_decay, skip):
        return core(Steps(q[:, :1], k[:, :1], log_decay[:1], skip=skip), v)

    def reference(*args):
        return shared(lambda steps, v: scan_core(steps, v, jnp.zeros((BATCH, HEADS, KEYS, VALUES), v.dtype)), *args)

    kernel = partial(shared, partial(recurrence, chunk=CHUNK, pallas=INTERPRETED))
    args = (q, k, v, log_decay, skip)
    holds_to_reference(kernel, reference, args, dtype=np.float64, bound=1e-14, gradient_bound=1e-13, reason=ROUNDING)


def test_delta_rule_by_its_definition() -> None:
    """Decay, then erase what the key reads, then write: token by token."""
    q, k, v, log_decay, _, b, state = draw(True, True)
    beta = np.linalg.norm(b, axis=-1)
    k = -b / beta[..., None]

    def definition(q, k, v, beta, log_decay, state):
        def one(state, token):
            q, k, v, beta, log_decay = token
            state = jnp.exp(log_decay)[..., None, None] * state
            wrong = v - jnp.einsum("bhkw,bhk->bhw", state, k)
            state = state + beta[..., None, None] * k[..., None] * wrong[..., None, :]
            return state, jnp.einsum("bhkw,bhk->bhw", state, q)

        state, out = jax.lax.scan(one, state, [jnp.moveaxis(x, 2, 0) for x in (q, k, v, beta, log_decay)])
        return jnp.moveaxis(out, 0, 2), state

    kernel = partial(delta_rule, chunk=CHUNK, pallas=INTERPRETED)
    args = (q, k, v, beta, log_decay, state)
    holds_to_reference(kernel, definition, args, dtype=np.float64, bound=1e-14, gradient_bound=1e-13, reason=ROUNDING)


def test_what_is_refused() -> None:
    q = jnp.zeros((2, 20, 4))
    with pytest.raises(
        ConfigError, match=r"steps\.log_decay: got 'one per channel'; allowed is one per head and token"
    ):
        recurrence(Steps(q, q, q), q)
    for chunk in (8, 48, 16.0):
        with pytest.raises(ConfigError, match=f"chunk: got {chunk}; allowed is a power of 2 that is at least 16"):
            recurrence(Steps(q, q), q, chunk=chunk)
    with pytest.raises(ConfigError, match=r"Pallas\.target: got 'cpu'; allowed is tpu \| gpu \| None"):
        Pallas("cpu")
    with pytest.raises(NotImplementedError, match="cpu"):  # there is no other form behind it
        jax.jit(recurrence).lower(Steps(q, q), q)


def gradient(q, k, v, log_decay, a, b):
    def total(*args):
        out, last = recurrence(Steps(args[0], args[1], *args[3:]), args[2])
        return jnp.sum(out.astype(jnp.float32)) + jnp.sum(last)

    return jax.grad(total, tuple(range(6)))(q, k, v, log_decay, a, b)


def shapes(heads: int, length: int, width: int, dtype: np.dtype) -> tuple[jax.ShapeDtypeStruct, ...]:
    token, one = (jax.ShapeDtypeStruct((heads, length, *rest), dtype) for rest in ((width,), ()))
    return token, token, token, one, token, token


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated")
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_lowered_for_both_kinds_of_chips(dtype) -> None:
    """One kernel forward and one backward; head width 40 is no power of 2."""
    args = shapes(2, 200, 40, dtype)
    text = jax.jit(gradient).trace(*args).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") == 2
    device = AbstractDevice(device_kind="NVIDIA H100 80GB HBM3", num_cores=132, platform="gpu")
    mesh = AbstractMesh((1,), ("x",), (AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        text = jax.jit(gradient).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
    assert text.count("gpu.triton") == 2


@pytest.mark.parametrize(("decay", "erase"), [(False, False), (True, True)])
def test_operations_are_those_of_its_products(decay, erase) -> None:
    """Forward by hand, `2 M N K` each, and less than a tenth besides; backward makes them anew and has two for each.

    One for sums of logarithms, and two for the inverse however large it is: `P^T G P^T`.
    """
    heads, length, width, chunk = 2, 256, 64, 64
    q, k, v, logs, a, b = shapes(heads, length, width, jnp.float32)
    args = (q, k, v, logs if decay else None, *((a, b) if erase else (None, None)))
    state = jax.ShapeDtypeStruct((heads, width, width), jnp.float32)
    # `[C, C]` from channels and as many from it to channels; with the state; `[C, C]` times `[C, C]`.
    scores, reads = (4, 4) if erase else (1, 2)
    channels = 2 * scores * chunk**2 * width + reads * chunk * width**2
    sums, doublings = 2 * decay, 5 * erase  # the first doubling of six, from 1 to 2, is no product
    there = 2 * (channels + (sums + 2 * doublings) * chunk**3)
    back = there + 2 * (2 * channels + (sums + 2 * erase) * chunk**3)

    def forward(*args):
        return by_kernel(Pallas("tpu"), *args, chunk=chunk)

    def both(*args):
        out, pull = jax.vjp(forward, *args)
        return pull(out)

    for function, products in ((forward, there), (both, there + back)):
        found = count(jax.make_jaxpr(function)(*args, state).jaxpr).flops
        expected = heads * (length // chunk) * products
        assert expected <= found <= 1.1 * expected


def test_the_inverse_is_counted() -> None:
    lower = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    found = count(jax.make_jaxpr(inverse_of_unit_lower.fun)(lower).jaxpr).flops
    assert inverse_flops(64) <= found <= 1.1 * inverse_flops(64)
