"""Who computes attention: kernels that others maintain, ours, the whole map; what it holds; what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from kernel_checks import holds_to_reference

from attnlab import attention as catalogue
from attnlab.config import ConfigError
from attnlab.kernels import Blocks, attention, implementations, row_maps, which
from attnlab.kernels.dispatch import _call


def softmax(q, k, v):
    """Causal, queries the last positions."""
    num, num_keys = q.shape[-2], k.shape[-2]
    share = q.shape[-3] // k.shape[-3]
    k, v = (jnp.repeat(x, share, axis=-3) for x in (k, v))
    logits = q.shape[-1] ** -0.5 * q @ jnp.swapaxes(k, -1, -2)
    return jax.nn.softmax(jnp.where(np.tri(num, num_keys, num_keys - num, dtype=bool), logits, -1e30)) @ v


def call(q, k, v, gate=None):
    return _call(q, k, v, map=row_maps.SOFTMAX, causal=True, gate=gate)


def draw(heads: int, groups: int, num: int, num_keys: int, width: int):
    rng = np.random.default_rng(0)
    return tuple(
        rng.normal(size=(1, *shape, width)) for shape in ((heads, num), (groups, num_keys), (groups, num_keys))
    )


def test_splash_attention_is_given_what_it_takes() -> None:
    """Interpreted: heads that share keys, fewer queries than keys, a gate; products there are of float32."""

    def splash(q, k, v):
        return implementations.by_splash(call(q, k, v), interpret=True)

    holds_to_reference(splash, softmax, draw(2, 1, 128, 256, 64), bound=5e-6, reason="rounding of 6e-8 in sums of 256")


def test_cudnn_is_given_what_it_takes(monkeypatch) -> None:
    """The library's form without cuDNN in its place: axes, heads that share keys, scale."""
    library = jax.nn.dot_product_attention
    asked = []

    def in_its_place(*args, implementation, **options):
        asked.append(implementation)
        return library(*args, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", in_its_place)

    def cudnn(q, k, v):
        return attention(q, k, v, implementation="cudnn")

    args = draw(4, 2, 16, 16, 8)
    bound = 5 * 2**-9
    holds_to_reference(cudnn, softmax, args, bound=bound, reason="2^-9 for each rounding", dtype=jnp.bfloat16)
    assert set(asked) == {"cudnn"}


SHAPE = jax.ShapeDtypeStruct((2, 4, 256, 64), jnp.bfloat16)
LONG = jax.ShapeDtypeStruct((2, 4, 1024, 64), jnp.float32)
SHORT = jax.ShapeDtypeStruct((2, 4, 100, 64), jnp.bfloat16)
SIGMOID = {"map": row_maps.sigmoid(-3.0)}


@pytest.mark.parametrize(
    ("platform", "x", "options", "expected", "why"),
    [
        ("cpu", SHAPE, {}, "map", "small"),
        ("cpu", LONG, {}, "scan", "large"),
        ("gpu", SHAPE, {}, "cudnn", "maintained"),
        ("gpu", SHAPE, {"map": catalogue.Softmax()}, "cudnn", "maintained"),
        ("gpu", LONG, {}, "pallas", "it takes bfloat16 and float16, not float32"),
        ("gpu", SHAPE, SIGMOID, "pallas", "map is given"),
        ("tpu", SHAPE, {}, "splash", "maintained"),
        ("tpu", SHAPE, {"causal": False}, "splash", "maintained"),
        ("tpu", SHAPE, {"sink": 0.0, "window": 5}, "pallas", "window, sink is given"),
        ("tpu", SHORT, {}, "pallas", "multiples of 128"),
    ],
)
def test_who_computes_it(platform, x, options, expected, why) -> None:
    choice = which(x, x, x, platform=platform, **options)
    assert choice.implementation == expected and why in choice.why


def test_what_is_chosen_is_what_is_run() -> None:
    """On this machine: without a name, the bits of the one that `which` names."""
    for length in (16, 600):
        x = jnp.asarray(np.random.default_rng(0).normal(size=(4, length, 8)), jnp.float32)
        chosen = which(x, x, x).implementation
        assert chosen == {16: "map", 600: "scan"}[length]
        both = (attention(x, x, x, implementation=name) for name in (None, chosen))
        assert len({np.asarray(out).tobytes() for out in both}) == 1


def test_memory_is_linear_in_the_length() -> None:
    """Compiled, forward and backward, 2 heads of 16: slope of log bytes at most 1.1; the whole map is 15 times that."""

    def held(length: int, implementation: str) -> float:
        x = jax.ShapeDtypeStruct((2, length, 16), jnp.float32)

        def total(q, k, v):
            return jnp.sum(attention(q, k, v, implementation=implementation))

        compiled = jax.jit(jax.grad(total, (0, 1, 2))).lower(x, x, x).compile()
        return float(compiled.memory_analysis().temp_size_in_bytes)

    small, large = held(1024, "scan"), held(2048, "scan")
    assert np.log2(large / small) <= 1.1
    assert held(2048, "map") > 15 * large


def test_no_array_of_pairs() -> None:
    x = jax.ShapeDtypeStruct((2, 512, 16), jnp.float32)
    for implementation, has in (("interpret", False), ("map", True)):
        total = jax.grad(lambda q, k, v, i=implementation: jnp.sum(attention(q, k, v, implementation=i)), (0, 1, 2))
        assert ("512,512]" in str(jax.make_jaxpr(total)(x, x, x))) == has


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"implementation": "triton"}, "implementation: got 'triton'; allowed is map | scan | pallas"),
        ({"implementation": "cudnn"}, "implementation: got 'cudnn'; .* it takes bfloat16 and float16, not float32"),
        ({"implementation": "splash", "sink": 0.0}, "implementation: got 'splash'; .* sink is given"),
        ({"map": catalogue.Sparsemax()}, r"map: got Sparsemax\(\), which cannot be taken in blocks: which logits keep"),
        ({"map": catalogue.Sigmoid(bias=None)}, "map: got Sigmoid.*; allowed is a map that does not count the keys"),
        ({"map": jax.nn.softmax}, "cannot be taken in blocks: it is given for whole rows only"),
        ({"map": row_maps.sigmoid(), "sink": 0.0}, "sink: got 'a logit'; allowed is None: this map has no normaliser"),
        ({"blocks": 128}, r"blocks: got 128; allowed is Blocks\(q, k\)"),
        ({"window": 0}, "window: got 0; allowed is an integer >= 1, or None"),
        ({"gate": jnp.zeros((2, 4, 5, 3))}, r"gate: got 'shape \[2, 4, 5, 3\]'; allowed is what broadcasts to"),
        ({"mask": np.ones((3, 4), bool)}, "mask: got"),
        ({"clock": (None, jnp.zeros((3, 8)))}, r"clock\[1\]: got .* Heads that share keys share their clocks"),
        ({"heads": 3}, "k: got '3 heads'; allowed is a divisor of the 4 heads of q"),
        ({"keys": 4}, "q: got '8 queries'; allowed is at most as many as the 4 keys"),
    ],
)
def test_refused(wrong, message) -> None:
    q = jnp.zeros((2, 4, 8, 4))
    k = jnp.zeros((2, wrong.pop("heads", 2), wrong.pop("keys", 8), 4))
    with pytest.raises(ConfigError, match=message):
        attention(q, k, k, **{"implementation": "scan"} | wrong)


def test_blocks_refused() -> None:
    with pytest.raises(ConfigError, match=r"Blocks.k: got 0; allowed is an integer >= 1"):
        Blocks(k=0)
    with pytest.raises(ConfigError, match=r"RowMap.top: got .*; allowed is None without a total"):
        row_maps.RowMap(row_maps.exponential, top=row_maps.itself)
