"""What each precision does to one step and to a run: its error is bounded; sums, parameters and records are float32."""

from __future__ import annotations

import dataclasses
import json
import re
from itertools import count

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training_cases import FixedPoints, TwoLayerLinear, same_bits, squared_error, tiny_model, tiny_task, train

import attnlab as al
from attnlab import attention
from attnlab.attention.narrow import product, wide_product
from attnlab.config import ConfigError, decode, encode
from attnlab.training import devices as device_rules
from attnlab.training import losses
from attnlab.training.precision import called
from attnlab.training.session import Session

U = 2.0**-8  # unit roundoff of bfloat16: half of the spacing 2^-7 of its numbers from 1 to 2
NARROW, EXACT = al.precision.bfloat16, al.precision.highest
BATCH = tiny_task().sample(jax.random.key(1), 8)


def gradients(model, params):
    return jax.jit(jax.grad(losses.on_batch(model, BATCH)))(params)


def distance(one, two) -> float:
    """`|one - two| / |two|` over all numbers of two trees, in float64."""
    flat = [np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(t)]) for t in (one, two)]
    return float(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))


@pytest.mark.parametrize("num_layers", [1, 4])
def test_error_of_a_gradient_against_float64(num_layers) -> None:
    """Roundings on the way, each of relative size <= U and of either sign: they add up like a random walk.

    A layer rounds the stream twice, q, k, v, the weights, what the heads read out, the hidden layer, what both norms
    give and the matrices it multiplies with: 10 on any path through it, as many on the way back, and 4 at the ends. By
    sqrt(20 L + 4) U a stream that nothing amplifies is off; the worst case, were all of one sign, is (20 L + 4) U.
    """
    model = tiny_model(num_layers=num_layers, num_heads=2, norm="layernorm")
    params = model.init(jax.random.key(0))
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)), params)
        exact = jax.tree.map(np.asarray, gradients(model, wide))
    assert jax.tree.leaves(exact)[0].dtype == np.float64
    found = gradients(model.computed("bfloat16"), params)
    roundings = 20 * num_layers + 4
    assert U / 8 < distance(found, exact) < roundings**0.5 * U, "narrow, and no worse than its roundings"
    assert distance(gradients(model, params), exact) < roundings**0.5 * 2.0**-20, "float32: 2^-24, sums of up to 2^8"
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(found)), "gradients of the parameters"


def test_long_sums_add_in_float32() -> None:
    """Of positive numbers a bfloat16 sum would stop at 2^8 times its terms; here the error does not see the length."""
    for terms in (2**6, 2**10, 2**14):
        draws = np.random.default_rng(0).uniform(0.5, 1.5, (2, 8, terms))
        a, b = (jnp.asarray(x, jnp.bfloat16) for x in draws)
        exact = np.asarray(a, np.float64) @ np.asarray(b, np.float64).T
        once = np.abs(np.asarray(product(a, b.T), np.float64) / exact - 1).max()
        never = np.abs(np.asarray(wide_product(a, b.T), np.float64) / exact - 1).max()
        assert once <= U, "one rounding to nearest, at the end"
        assert never <= terms * 2.0**-24 * 1.1, "products are exact, terms have one sign: a rounding of 2^-24 each"

    def add(total, term):
        return total + term[0] * term[1], None

    stuck = jax.lax.scan(add, jnp.zeros((), jnp.bfloat16), (a[0], b[0]))[0]
    assert float(stuck) < 0.1 * exact[0, 0], "what the test would see of a bfloat16 sum"


def test_gradients_of_products_add_in_float32() -> None:
    """The weight gradient is a sum over all tokens: it, too, is rounded once."""
    tokens = 2**14
    x, slope = (jnp.asarray(d, jnp.bfloat16) for d in np.random.default_rng(1).uniform(0.5, 1.5, (2, tokens, 4)))
    exact = np.asarray(x, np.float64).T @ np.asarray(slope, np.float64)
    w = jnp.ones((4, 4), jnp.bfloat16)
    for multiply, given in ((product, slope), (wide_product, slope.astype(jnp.float32))):
        (found,) = jax.vjp(lambda w, m=multiply: m(x, w), w)[1](given)
        assert found.dtype == jnp.bfloat16
        assert np.abs(np.asarray(found, np.float64) / exact - 1).max() <= U


def test_every_parameter_that_sums_over_tokens_adds_in_float32() -> None:
    """Embedding, positions, gains: their gradients are sums over the batch, and none of them is made in bfloat16.

    A batch of one sequence, repeated, has the gradient of that sequence whatever its size. bfloat16 sums of equal terms
    would be off by whole percents at 512 (they stop growing at 256).
    """
    model = tiny_model(num_heads=2, norm="layernorm", positions="learned").computed("bfloat16")
    params = model.init(jax.random.key(0))

    def gradient(size: int):
        batch = jax.tree.map(lambda x: jnp.repeat(x[:1], size, axis=0), BATCH)
        return jax.jit(jax.grad(losses.on_batch(model, batch)))(params)

    one, many = gradient(1), gradient(512)
    assert distance(many, one) < U, "what is left: terms divided by 512 before or after they are rounded"


def test_activations_are_narrow_and_what_must_not_be_is_float32() -> None:
    model = tiny_model(num_heads=2, norm="layernorm").computed("bfloat16")
    params = model.init(jax.random.key(0))
    logits, tape = model.apply(params, BATCH.inputs, tape=("*",))
    wide = {name for name, x in tape.items() if x.dtype == jnp.float32}
    assert logits.dtype == jnp.float32 and wide == {"logits", "blocks.0.attn.logits"}
    assert {str(x.dtype) for x in tape.values()} == {"float32", "bfloat16"}


@pytest.mark.parametrize("name", ["delta_net", "softmax+gate", "lla"])
def test_mechanisms_of_their_own_arithmetic_stay_in_float32(name) -> None:
    """Those with states, slots or solvers read widened tokens: close to the float32 map of the same rounded tokens."""
    known = {m.name: m for m in attention.MECHANISMS}
    assert not getattr(known[name], "reads_narrow", False)
    model = tiny_model(num_heads=2, mechanism=known[name])
    params = model.init(jax.random.key(0))
    exact = model.apply(params, BATCH.inputs)[0]
    found = model.computed("bfloat16").apply(params, BATCH.inputs)[0]
    scale = float(jnp.abs(exact).max())
    assert float(jnp.abs(found - exact).max()) < 16 * U * scale, "14 roundings on the way through a layer"


def lowered(precision) -> str:
    config = al.training.RunConfig(
        tiny_task(),
        tiny_model(num_heads=2),
        record={"sinks": al.every(10, al.analysis.sinks(tiny_task()))},
        precision=precision,
    )
    return Session(config, device_rules.place(1, config.model, "map", jax.devices()[:1])).trace().lower().as_text()


def test_highest_is_highest_in_every_product() -> None:
    """Forward, backward and in the records."""
    products = re.findall(r"dot_general.*", lowered(EXACT))
    assert len(products) > 20 and all("precision = [HIGHEST, HIGHEST]" in line for line in products)
    assert not any("HIGHEST" in line for line in re.findall(r"dot_general.*", lowered(al.precision.full)))


def test_narrow_products_say_that_they_add_in_float32() -> None:
    """Every product of two bfloat16 matrices in the program names float32 as the type of its sums."""
    products = re.findall(r"dot_general.*", lowered(NARROW))
    narrow = [line for line in products if len(re.findall(r"xbf16>", line.split(" : ")[-1].split("->")[0])) == 2]
    assert len(narrow) > 15 and all("accumulation_type = f32" in line for line in narrow)
    mixed = [line for line in products if len(re.findall(r"xbf16>", line.split(" : ")[-1].split("->")[0])) == 1]
    assert not mixed, "no product of unequal types, which some backends widen"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    return train(tmp_path_factory.mktemp("narrow") / "run", precision=NARROW)


def test_parameters_moments_and_records_are_float32(narrow) -> None:
    assert {x.dtype for x in jax.tree.leaves(narrow.params)} == {np.dtype("float32")}
    state = Session(narrow.config, device_rules.place(3, narrow.config.model, "map", jax.devices()[:1])).start()
    assert {x.dtype for x in jax.tree.leaves(state.opt) if jnp.issubdtype(x.dtype, jnp.floating)} == {
        jnp.dtype("float32")
    }
    trajectory = narrow.trajectory
    assert str(trajectory["loss"].dtype) == "float32"
    last = jax.tree.map(lambda x: x[0], narrow.params)
    by_hand = np.linalg.norm(np.asarray(last["unembed"], np.float64))
    assert abs(float(trajectory["unembed"]["norm"][0, -1]) / by_hand - 1) < 1e-6, (
        "of the parameters, not of rounded ones"
    )


def test_bfloat16_learns_what_float32_learns(tmp_path, narrow, usual) -> None:
    """Final losses differ by the gradients' rounding (a percent of each step, without bias), less than seeds do."""
    one, two = (np.asarray(run.trajectory["loss"], np.float64) for run in (narrow, usual))
    assert not np.array_equal(one, two)
    fallen = two[:, 1] - two[:, -1]
    assert (fallen > 0.05).all(), "it learns"
    assert (np.abs(one[:, -1] - two[:, -1]) < 0.05 * fallen).all(), "paths of 24 steps, each with 2 % of noise"


def test_resume_keeps_the_precision(tmp_path, narrow) -> None:
    asked = count()
    cut = train(tmp_path / "run", precision=NARROW, stop=lambda: next(asked) > 0)
    assert cut.interrupted
    rest = al.resume(tmp_path / "run", progress=False, devices=jax.devices()[:1])
    assert rest.config.precision == NARROW and same_bits(rest.params, narrow.params)
    written = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert written["config"]["precision"]["compute"] == "bfloat16"


def test_older_runs_have_none(usual) -> None:
    image = {k: v for k, v in encode(usual.config).items() if k not in ("precision", "remat")}
    assert decode(image).precision == al.precision.full


def test_policies_by_name() -> None:
    for policy in (al.precision.full, NARROW, EXACT):
        assert called(policy.name) == policy == decode(encode(policy))
    with pytest.raises(ConfigError, match=r"precision: got 'half'; allowed is full . bfloat16 . highest"):
        called("half")
    with pytest.raises(ConfigError, match=r"Precision.compute: got 'float16'; allowed is params . bfloat16"):
        al.training.Precision(compute="float16")  # type: ignore[arg-type]


def test_models_without_a_choice_say_so(tmp_path) -> None:
    mine = {"task": FixedPoints(), "model": TwoLayerLinear(), "loss": squared_error, "batch_size": 6, "record": {}}
    with pytest.raises(ConfigError, match="TwoLayerLinear has no choice"):
        train(tmp_path / "a", precision=NARROW, **mine)
    reduced = al.BackcopyReduced(vocab_size=9, length=16, triggers=(1,), bos=8)
    with pytest.raises(ConfigError, match=r"BackcopyReduced, which is computed in one way only"):
        train(tmp_path / "b", remat="layers", model=reduced)
    with pytest.raises(ConfigError, match=r"precision: got 'bfloat16'; allowed is one of attnlab.precision"):
        train(tmp_path / "c", precision="bfloat16")
    assert not any(tmp_path.iterdir()), "nothing is written"


def test_cells_differ_by_precision(tmp_path) -> None:
    task, model = tiny_task(), tiny_model()
    cells = al.grid(
        lambda precision: al.Cell(task, model, al.adamw(1e-2), steps=8, batch_size=8, precision=precision),
        precision=[al.precision.full, NARROW],
    )
    assert [dict(cell.at) for cell in cells] == [{"precision": "full"}, {"precision": "bfloat16"}]
    groups = al.training.cells.groups_of(cells)
    assert [group.config(cells).precision for group in groups] == [al.precision.full, NARROW]
    assert dataclasses.replace(cells[0], precision=EXACT).precision == EXACT
