"""The one-layer model of in-context regression: against loops over heads and tokens, its forms, limit and sites."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import prompt_cases
import pytest
from prompt_cases import built_and_run, circuits, factored, numpy_prompt, random_params, run, tokens_of

from attnlab import tape
from attnlab.attention.maps import ReluOverPosition
from attnlab.config import ConfigError
from attnlab.models import RegressionAttention
from toy_tasks.base import Prompt

d, m, H, B, C = 3, 2, 2, 4, 6
D = d + m
MODEL = RegressionAttention(d, H, m)
FORMS = ("separate", "merged", "reduced")


def some_prompt(seed: int = 0, context: int = C, outputs: int = m) -> Prompt:
    return prompt_cases.some_prompt((B, context, d, outputs), seed)


def build(model, omega, mu):
    return jax.jit(model.construct)(np.asarray(omega, float), np.asarray(mu, float))


def in_torch(params, prompt: Prompt, b: int) -> np.ndarray:
    """`sum_h O^h V^h Z softmax(Z^T K^hT Q^h z_q / sqrt(D))` of one prompt, with columns as tokens."""
    p = jax.tree.map(np.asarray, params)
    z = np.concatenate([prompt.x[b], prompt.y[b]], axis=1).T
    asked = np.concatenate([prompt.query[b], np.zeros(prompt.y.shape[-1])])
    total = np.zeros(prompt.y.shape[-1])
    for h in range(p["query"].shape[1]):
        big_q, big_k, big_v = (p[name][:, h].T for name in ("query", "key", "value"))
        score = [(big_k @ column) @ (big_q @ asked) / np.sqrt(len(asked)) for column in z.T]
        share = np.exp(score) / np.sum(np.exp(score))
        attended = sum(s * (big_v @ column) for s, column in zip(share, z.T, strict=True))
        total += p["output"][h].T @ attended
    return total


@pytest.mark.parametrize(("heads", "outputs"), [(1, 1), (H, m)])
@pytest.mark.usefixtures("x64")
def test_it_is_the_published_model(heads, outputs) -> None:
    """float64 on both sides, sums of 30 terms of size 1."""
    model = RegressionAttention(d, heads, outputs)
    params, prompt = random_params(model), some_prompt(outputs=outputs)
    found, _ = run(model, params, prompt)
    assert found.shape == (B, 1, outputs)
    for b in range(B):
        np.testing.assert_allclose(found[b, 0], in_torch(params, prompt, b), rtol=0, atol=1e-12)
    if heads == 1:
        return  # the second case is enough for what follows
    tokens, _ = run(model, params, tokens_of(prompt))
    assert (tokens == found).all(), "a prompt and its tokens"
    alone, _ = run(model, params, jax.tree.map(lambda a: a[0], prompt))
    np.testing.assert_allclose(alone, found[0], rtol=0, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_the_three_forms_say_the_same_of_the_same_circuits() -> None:
    prompt, mu = some_prompt(), np.array([[2.0, -1.0], [0.5, 3.0]])
    models = [RegressionAttention(d, H, m, form=form) for form in FORMS]
    found = [built_and_run(model, lambda model=model: model.construct([0.4, -0.7], mu), prompt) for model in models]
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=0, atol=1e-13)
    merged = models[1]
    params = random_params(MODEL)
    same, _ = run(merged, circuits(MODEL, params)._asdict(), prompt)
    np.testing.assert_allclose(same, run(MODEL, params, prompt)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["separate", "merged"])
@pytest.mark.usefixtures("x64")
def test_construct_puts_numbers_where_it_says(form) -> None:
    """A diagonal that differs by coordinate, a factor that differs by output."""
    model = RegressionAttention(d, H, m, form=form)
    omega, mu = np.arange(1.0, 7).reshape(H, d), np.arange(1.0, 5).reshape(H, m)
    kq, ov = circuits(model, build(model, omega, mu))
    for h in range(H):
        np.testing.assert_allclose(kq[h], np.diag([*omega[h], 0, 0]), rtol=0, atol=1e-14)
        np.testing.assert_allclose(ov[h], np.concatenate([np.zeros((d, m)), np.diag(mu[h])]), rtol=0, atol=1e-14)
    one = RegressionAttention(d, H, form=form)
    np.testing.assert_allclose(circuits(one, build(one, [1, 2], [3, 4])).ov[:, -1, 0], [3, 4], rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_circuits_say_what_attention_does(form) -> None:
    model = RegressionAttention(d, H, m, form=form)
    params, prompt = random_params(model), some_prompt()
    found, seen = run(model, params, prompt, tape=("*",))
    z, total = tokens_of(prompt), 0.0
    all_kq, all_ov = circuits(model, params)
    for h, (kq, ov) in enumerate(factored(model, params, 0)):
        np.testing.assert_allclose(kq, all_kq[h], rtol=0, atol=1e-14)
        np.testing.assert_allclose(ov, all_ov[h], rtol=0, atol=1e-14)
        logits = np.einsum("bui,ij,bj->bu", z[:, :-1], kq, z[:, -1])
        np.testing.assert_allclose(seen["blocks.0.attn.logits"][:, h, 0], logits, rtol=0, atol=1e-13)
        total = total + seen["blocks.0.attn.weights"][:, h] @ z[:, :-1] @ ov
    np.testing.assert_allclose(found, total, rtol=0, atol=1e-13)


def test_circuits_of_stacked_seeds() -> None:
    for form in FORMS:
        model = RegressionAttention(d, H, m, form=form)
        stacked = jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), 3))
        kq, ov = jax.eval_shape(model.circuits, stacked)
        assert kq.shape == (3, H, D, D) and ov.shape == (3, H, D, m)
        kq, ov = (jax.eval_shape(lambda p, of=of: of(p, 0, 1), stacked) for of in (model.kq, model.ov))
        assert kq.shape == (3, D, D) and ov.shape == (3, D, m)


@pytest.mark.usefixtures("x64")
def test_two_opposite_heads_are_a_debiased_step_of_gradient_descent() -> None:
    """The even orders in omega cancel: half the omega, a quarter of the distance (measured: 4.00)."""
    model, eta = RegressionAttention(d, 2, form="reduced"), 0.8
    prompt = some_prompt(outputs=1)
    x, y, query = (np.asarray(a) for a in (prompt.x, prompt.y, prompt.query))
    step = eta / C * np.einsum("bco,bci,bi->bo", y, x - x.mean(1, keepdims=True), query)
    gaps = []
    for omega in (0.04, 0.02, 0.01):
        mu = eta / (2 * omega)
        found, _ = run(model, build(model, [omega, -omega], [mu, -mu]), prompt)
        gaps.append(np.abs(np.asarray(found)[:, 0] - step).max())
    assert gaps[2] < 1e-3
    np.testing.assert_allclose([gaps[0] / gaps[1], gaps[1] / gaps[2]], 4, rtol=0.02)


@pytest.mark.usefixtures("x64")
def test_order_and_number_of_pairs() -> None:
    params, prompt = random_params(MODEL), some_prompt(context=9)
    whole, seen = run(MODEL, params, prompt, tape=("blocks.0.attn.weights",))
    weights = seen["blocks.0.attn.weights"]
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-14)
    order = np.random.default_rng(1).permutation(9)
    shuffled, _ = run(MODEL, params, numpy_prompt(prompt.x[:, order], prompt.y[:, order], prompt.query))
    np.testing.assert_allclose(shuffled, whole, rtol=0, atol=1e-13)
    twice = numpy_prompt(np.tile(prompt.x, (1, 2, 1)), np.tile(prompt.y, (1, 2, 1)), prompt.query)
    np.testing.assert_allclose(run(MODEL, params, twice)[0], whole, rtol=0, atol=1e-13, err_msg="softmax is a mean")
    single = numpy_prompt(prompt.x[:, :1], prompt.y[:, :1], prompt.query)
    of_one = np.einsum("bi,hio->bo", tokens_of(prompt)[:, 0], circuits(MODEL, params).ov)
    np.testing.assert_allclose(run(MODEL, params, single)[0][:, 0], of_one, rtol=0, atol=1e-13)


def test_other_maps() -> None:
    """ReLU over the number of pairs; float32, one division."""
    model = dataclasses.replace(MODEL, map=ReluOverPosition())
    params, prompt = random_params(MODEL), some_prompt()
    _, seen = run(model, params, prompt, tape=("*",))
    want = np.maximum(seen["blocks.0.attn.logits"], 0) / C
    np.testing.assert_allclose(seen["blocks.0.attn.weights"], want, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_gradients(form) -> None:
    """Finite and, along a random direction, the central difference (step 1e-5: error 1e-9 of a slope of size 10)."""
    model = RegressionAttention(d, H, m, form=form)
    params, prompt, away = random_params(model), some_prompt(), random_params(model, 1)
    prompt = jax.tree.map(jnp.asarray, prompt)
    loss = jax.jit(jax.value_and_grad(lambda p: jnp.sum(model.apply(p, prompt)[0] ** 2)))
    slope = jax.device_get(loss(params)[1])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    expected = sum(np.vdot(slope[name], away[name]) for name in slope)
    plus, minus = (loss(jax.tree.map(lambda p, a, s=s: p + s * a, params, away))[0] for s in (1e-5, -1e-5))
    assert float(plus - minus) / 2e-5 == pytest.approx(expected, rel=1e-6)
    if form == "separate":
        assert (slope["query"][d:] == 0).all(), "the query has no label: these columns of KQ are not identified"
    if form == "merged":
        assert (slope["kq"][..., d:] == 0).all()


def test_seeds_are_an_axis() -> None:
    """`vmap` over keys is the loop; float32, sums of 30 terms of size 1."""
    keys = jax.random.split(jax.random.key(0), 3)
    prompt = jax.tree.map(jnp.asarray, some_prompt())
    init = jax.jit(MODEL.init)
    stacked = jax.jit(jax.vmap(MODEL.init))(keys)
    together = jax.jit(jax.vmap(lambda p: MODEL.apply(p, prompt)[0]))(stacked)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(together[i], run(MODEL, init(key), prompt)[0], rtol=0, atol=1e-5)


def test_sites() -> None:
    params, prompt = random_params(MODEL), some_prompt()
    found, seen = run(MODEL, params, prompt, tape=("*",))
    assert {name: value.shape for name, value in seen.items()} == {
        "blocks.0.attn.logits": (B, H, 1, C),
        "blocks.0.attn.weights": (B, H, 1, C),
        "blocks.0.attn.head_out": (B, H, 1, m),
        "prediction": (B, 1, m),
    }
    np.testing.assert_array_equal(seen["prediction"], found)
    cut = tape.zero("blocks.0.attn.head_out", tape.head_mask(H, 1))
    without, _ = run(MODEL, params, prompt, edits=(cut,))
    np.testing.assert_array_equal(without, seen["blocks.0.attn.head_out"][:, 0])
    with pytest.raises(tape.SiteError, match=r"'blocks\.0\.mlp\.out' matches no activation.*blocks\.0\.attn\.head_out"):
        run(MODEL, params, prompt, tape=("blocks.0.mlp.out",))


def test_nothing_larger_than_it_must_be() -> None:
    """The largest arrays are the context and the weights: no key or value per token and head."""
    params = jax.eval_shape(MODEL.init, jax.random.key(0))
    program = jax.make_jaxpr(lambda p, q: MODEL.apply(p, q)[0])(params, some_prompt(context=50))
    made: list[Any] = [v.aval for equation in program.eqns for v in equation.outvars]
    sizes = [aval.size for aval in made]
    assert max(sizes) <= B * 50 * max(d, H)


def test_initial_values() -> None:
    """Laws of `torch.nn.Linear`; identities of the authors' small starts."""
    model = RegressionAttention(9, 4)
    params = model.init(jax.random.key(0))
    for name, fan_in in {"query": 10, "key": 10, "value": 10, "output": 40}.items():
        bound = fan_in**-0.5
        assert 0.9 * bound < np.abs(params[name]).max() <= bound, name
    for name, value in dataclasses.replace(model, form="merged", scale=0.5).init(jax.random.key(1)).items():
        assert float(jnp.std(value)) == pytest.approx(0.5, rel=5 / (2 * value.size) ** 0.5), name
    small = RegressionAttention(d, H, start="small", scale=1e-3)
    kq, ov = circuits(small, small.init(jax.random.key(0)))
    np.testing.assert_allclose(kq, np.tile(np.eye(4) * 1e-6 / 2, (H, 1, 1)), rtol=1e-6)
    np.testing.assert_allclose(ov[..., 0], np.tile([0, 0, 0, 1e-6], (H, 1)), rtol=1e-6)
    for form in FORMS:
        opposite = RegressionAttention(d, 4, form=form, start="opposite", scale=1e-3)
        first = np.asarray(circuits(opposite, opposite.init(jax.random.key(0))).kq)[:, 0, 0]
        assert (np.sign(first) == [1, -1, 1, -1]).all()


def test_small_kq() -> None:
    """Identities in W_Q and W_K, torch's values elsewhere."""
    params = RegressionAttention(d, H, start="small_kq", scale=1e-4).init(jax.random.key(0))
    plain = RegressionAttention(d, H).init(jax.random.key(0))
    for name in ("query", "key"):
        np.testing.assert_array_equal(params[name], np.repeat(np.eye(4, dtype="f")[:, None] * np.float32(1e-4), H, 1))
    for name in ("value", "output"):
        assert np.abs(params[name]).max() == pytest.approx(float(np.abs(plain[name]).max()), rel=0.3)
        assert np.unique(params[name]).size == params[name].size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "RegressionAttention.dim: got 0"),
        ({"num_heads": True}, "RegressionAttention.num_heads: got True"),
        ({"form": "full"}, r"RegressionAttention.form: got 'full'; allowed is separate \| merged \| reduced"),
        ({"start": "zero"}, "RegressionAttention.start: got 'zero'"),
        ({"scale": 0.0}, "RegressionAttention.scale: got 0.0"),
    ],
)
def test_a_bad_setting_is_one_clear_error(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(MODEL, **change)


def test_bad_calls() -> None:
    params = random_params(MODEL)
    with pytest.raises(ConfigError, match=r"inputs of width 3 and 1 labels.*dim=3 and num_outputs=2"):
        run(MODEL, params, some_prompt(outputs=1))
    with pytest.raises(ConfigError, match="layer: got 1"):
        MODEL.kq(params, 1, 0)
    with pytest.raises(ConfigError, match="head: got 2"):
        MODEL.ov(params, 0, 2)
    with pytest.raises(ConfigError, match="omega: got"):
        MODEL.construct([1.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="mu: got"):
        MODEL.construct([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(ConfigError, match="in the form 'reduced'"):
        RegressionAttention(d, H, form="reduced").construct(np.ones((H, d)), [1.0, 2.0])
