"""Linear self-attention: the three papers' formulas transcribed, gradient descent as weights, conventions, sites."""

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
from attnlab.config import ConfigError
from attnlab.models import LinearAttention, RegressionAttention
from toy_tasks.base import Prompt

d, m, H, B, C = 3, 2, 2, 4, 6
D = d + m
MODEL = LinearAttention(d, 2, H, m)
ZHANG: dict[str, Any] = {"query_is_key": True, "read": 1}


def some_prompt(seed: int = 0, context: int = C, outputs: int = m) -> Prompt:
    return prompt_cases.some_prompt((B, context, d, outputs), seed)


# ---- the papers' own letters: tokens are columns, float64


def zhang(w_pv: np.ndarray, w_kq: np.ndarray, prompt: Prompt, b: int) -> float:
    """`f(E) = E + W_PV E (E^T W_KQ E) / N`, the last entry."""
    e = tokens_of(prompt)[b].T
    f = e + w_pv @ e @ (e.T @ w_kq @ e) / (e.shape[1] - 1)
    return f[-1, -1]


def von_oswald(layers: list[dict[str, np.ndarray]], prompt: Prompt, b: int) -> np.ndarray:
    """`e_j <- e_j + sum_h P_h V_h K_h^T q_hj`, all tokens at once, keys without the query; minus the last entry."""
    e = tokens_of(prompt)[b].T
    for p in layers:
        new = e.copy()
        for j in range(e.shape[1]):
            for h in range(len(p["query"])):
                for i in range(e.shape[1] - 1):
                    score = (p["key"][h] @ e[:, i]) @ (p["query"][h] @ e[:, j])
                    new[:, j] += p["output"][h] @ (p["value"][h] @ e[:, i]) * score
        e = new
    return -e[d:, -1]


def ahn(layers: list[tuple[np.ndarray, np.ndarray]], prompt: Prompt, b: int) -> np.ndarray:
    """`Z <- Z + (1 / n) P Z M (Z^T Q Z)`, `M` without the query; minus the last entry."""
    z = tokens_of(prompt)[b].T
    n = z.shape[1] - 1
    mask = np.diag([1.0] * n + [0.0])
    for p, q in layers:
        z = z + p @ z @ mask @ (z.T @ q @ z) / n
    return -z[d:, -1]


@pytest.mark.usefixtures("x64")
def test_zhang() -> None:
    """One layer, the query a key, read with a plus; any weights. float64, sums of 100 terms of size 1."""
    model = LinearAttention(d, **ZHANG)
    params, prompt = random_params(model), some_prompt(outputs=1)
    found, _ = run(model, params, prompt)
    want = [zhang(params["ov"][0, 0].T, params["kq"][0, 0], prompt, b) for b in range(B)]
    np.testing.assert_allclose(found[:, 0, 0], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("head_dim", "shared"), [(4, False), (None, True)])
@pytest.mark.usefixtures("x64")
def test_von_oswald(head_dim, shared) -> None:
    """Three layers of two heads, no normalisation, as `W [K, D]` and `P [D, K]`; float64, tokens up to size 20."""
    model = LinearAttention(d, 3, H, m, form="separate", rho="none", head_dim=head_dim, shared=shared)
    params, prompt = random_params(model, size=0.3), some_prompt()
    layers = [
        {n: np.moveaxis(params[n][0 if shared else i], 1, 0).swapaxes(1, 2) for n in ("query", "key", "value")}
        | {"output": params["output"][0 if shared else i].swapaxes(1, 2)}
        for i in range(3)
    ]
    assert layers[0]["query"].shape == (H, head_dim or D, D) and layers[0]["output"].shape == (H, D, head_dim or D)
    found, _ = run(model, params, prompt)
    for b in range(B):
        np.testing.assert_allclose(found[b, 0], von_oswald(layers, prompt, b), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.usefixtures("x64")
def test_ahn(layers) -> None:
    model = LinearAttention(d, layers, 1, m)
    params, prompt = random_params(model), some_prompt()
    weights = [(params["ov"][i, 0].T, params["kq"][i, 0]) for i in range(layers)]
    found, _ = run(model, params, prompt)
    for b in range(B):
        np.testing.assert_allclose(found[b, 0], ahn(weights, prompt, b), rtol=1e-12, atol=1e-12)


# ---- gradient descent as weights


def steps(prompt: Prompt, etas, gammas, metrics, rho: float) -> np.ndarray:
    """Explicit gradient descent on `sum_c |y_c - W x_c|^2 / (2 rho)` and, between steps, GD++ on the inputs."""
    found = []
    for x, y, query in zip(prompt.x, prompt.y, prompt.query, strict=True):
        inputs, rest, predicted = np.concatenate([x, query[None]]), np.array(y), np.zeros(y.shape[1])
        for eta, gamma, metric in zip(etas, gammas, metrics, strict=True):
            pairs = inputs[:-1]
            step = eta / rho * rest.T @ pairs @ metric  # the change of W, [m, d]
            predicted = predicted + step @ inputs[-1]
            rest = rest - pairs @ step.T
            inputs = inputs - gamma / rho * inputs @ metric.T @ pairs.T @ pairs
        found.append(predicted)
    return np.stack(found)


@pytest.mark.parametrize(("layers", "form"), [(1, "merged"), (1, "separate"), (2, "separate"), (5, "merged")])
def test_layers_are_steps_of_gradient_descent(layers, form) -> None:
    """Shared weights, one step size: `W <- W + (eta / C) (Y - W X) X^T`, in float32 to 1e-5, in float64 to 1e-10."""
    prompt, model = some_prompt(), LinearAttention(d, layers, H, m, form=form, shared=True)
    for exact, tolerance in ((True, 1e-10), (False, 1e-5))[: 1 + (layers > 1)]:
        with jax.enable_x64(exact):
            found = built_and_run(model, lambda: model.gradient_descent(0.3), prompt)
        assert found.dtype == (np.float64 if exact else np.float32)
        for b in range(B):
            x, y, w = prompt.x[b], prompt.y[b], np.zeros((m, d))
            for _ in range(layers):
                w = w + 0.3 / C * (y - x @ w.T).T @ x
            np.testing.assert_allclose(found[b, 0], w @ prompt.query[b], rtol=0, atol=tolerance)


@pytest.mark.parametrize("rho", ["length", "none", 10.0])
@pytest.mark.usefixtures("x64")
def test_gd_plus_plus_and_preconditioners(rho) -> None:
    """Step sizes and metrics that differ by layer; sums divided by what `rho` says."""
    model = LinearAttention(d, 3, H, m, rho=rho)
    prompt, by = some_prompt(), {"length": C, "none": 1.0}.get(rho, 10.0)
    etas, gammas = np.array([0.3, 0.2, 0.1]), np.array([0.05, 0.1, 0.02])
    metrics = np.random.default_rng(1).normal(size=(3, d, d))
    found = built_and_run(model, lambda: model.gradient_descent(etas, gamma=gammas, preconditioner=metrics), prompt)
    # Tokens reach size 1e3 where sums are not divided; float64.
    np.testing.assert_allclose(found[:, 0], steps(prompt, etas, gammas, metrics, by), rtol=1e-10, atol=1e-11)


@pytest.mark.usefixtures("x64")
def test_the_published_matrices() -> None:
    """`W_K = W_Q = [[I, 0], [0, 0]]`, `W_V = [[0, 0], [0, -I]]`, `P = (eta / N) [[0, 0], [0, 1]]`, in either sign."""
    inputs, labels = np.diag([1.0] * d + [0.0] * m), np.diag([0.0] * d + [1.0] * m)
    layer = {"key": inputs[None], "query": inputs[None], "value": -labels[None], "output": 0.3 / C * labels[None]}
    prompt = some_prompt()
    for read in (-1, 1):
        model = LinearAttention(d, 1, 1, m, form="separate", read=read)
        for b, found in enumerate(built_and_run(model, lambda model=model: model.gradient_descent(0.3), prompt)):
            np.testing.assert_allclose(found[0], von_oswald([layer], prompt, b), rtol=0, atol=1e-14)
        kq, ov = jax.jit(lambda model=model: model.circuits(model.gradient_descent(0.3)))()
        np.testing.assert_allclose(kq[0], inputs, rtol=0, atol=0)
        np.testing.assert_allclose(ov[0], 0.3 * labels[:, d:], rtol=0, atol=0, err_msg="adds to the prediction")


@pytest.mark.usefixtures("x64")
def test_zhangs_start() -> None:
    model = LinearAttention(d, start="zhang", scale=0.1, **ZHANG)
    theta = np.random.default_rng(0).normal(size=(d, 2))
    for params, square in ((model.init(jax.random.key(0)), np.eye(d)), (model.zhang(0.1, theta), theta @ theta.T)):
        want = np.zeros((D - 1, D - 1))
        want[:d, :d] = 0.1 * square / np.sqrt((square**2).sum())
        np.testing.assert_allclose(params["kq"], want[None, None], rtol=0, atol=1e-15)
        np.testing.assert_allclose(params["ov"], np.diag([0, 0, 0, 0.1])[None, None], rtol=0, atol=1e-15)
    other = dataclasses.replace(model, read=-1)
    assert other.init(jax.random.key(0))["ov"][0, 0, -1, -1] == -0.1, "the sign that raises the prediction"


# ---- conventions


@pytest.mark.usefixtures("x64")
def test_the_query_as_a_key() -> None:
    """It adds `(z_q KQ z_q) z_q OV / rho`: nothing to the labels if OV reads labels only, for its own is 0."""
    prompt = some_prompt()
    without, with_it = (LinearAttention(d, 1, H, m, query_is_key=key) for key in (False, True))
    params = random_params(without)
    z = tokens_of(prompt)[:, -1]
    kq, ov = circuits(without, params)
    extra = np.einsum("bi,hij,bj,bk,hko->bo", z, kq, z, z, ov) / C
    gap = run(with_it, params, prompt)[0] - run(without, params, prompt)[0]
    np.testing.assert_allclose(gap[:, 0], extra, rtol=0, atol=1e-12)
    assert np.abs(extra).max() > 0.01
    params["ov"][..., :d, d:] = 0
    gap = run(with_it, params, prompt)[0] - run(without, params, prompt)[0]
    assert (gap == 0).all()


@pytest.mark.usefixtures("x64")
def test_what_sums_are_divided_by() -> None:
    """One layer at another context length: `length` is a mean, a fixed number lets predictions grow."""
    params, mean = random_params(LinearAttention(d, 1, H, m)), LinearAttention(d, 1, H, m)
    fixed, none = dataclasses.replace(mean, rho=C), dataclasses.replace(mean, rho="none")
    prompt = some_prompt(context=15)
    one, two, three = (run(model, params, prompt)[0] for model in (mean, fixed, none))
    np.testing.assert_allclose(two, one * 15 / C, rtol=1e-12)
    np.testing.assert_allclose(three, one * 15, rtol=1e-12)
    empty = some_prompt(context=0)
    assert (run(mean, params, empty)[0] == 0).all(), "no pair, no prediction"


@pytest.mark.parametrize("options", [{"residual": False}, ZHANG, {"num_layers": 1}, {"num_layers": 1, **ZHANG}])
@pytest.mark.usefixtures("x64")
def test_inputs_and_what_is_read_do_not_matter(options) -> None:
    """A prompt or its tokens, one or many, whatever is on the tape, whatever the order of the pairs."""
    model = dataclasses.replace(MODEL, **options)
    params, prompt = random_params(model), some_prompt()
    found, nothing = run(model, params, prompt)
    assert nothing == {} and found.shape == (B, 1, m)
    full, seen = run(model, params, tokens_of(prompt), tape=("*",))
    np.testing.assert_allclose(full, found, rtol=1e-11, atol=1e-11)
    order = np.random.default_rng(1).permutation(C)
    shuffled = numpy_prompt(prompt.x[:, order], prompt.y[:, order], prompt.query)
    np.testing.assert_allclose(run(model, params, shuffled)[0], found, rtol=1e-11, atol=1e-11)
    if options is ZHANG:
        alone, _ = run(model, params, jax.tree.map(lambda a: a[0], prompt))
        np.testing.assert_allclose(alone, found[0], rtol=1e-11, atol=1e-11)
    # Every layer from its own activations and the circuits that the model names.
    last = model.num_layers - 1
    for layer in range(model.num_layers):
        block, z = f"blocks.{layer}", seen[f"blocks.{layer}.attn.in"]
        keys, asks = (z if model.query_is_key else z[:, :-1]), (z[:, -1:] if layer == last else z)
        out = np.zeros_like(asks)
        for head, (kq, ov) in enumerate(factored(model, params, layer)):
            weights = np.einsum("bui,ij,btj->btu", keys, kq, asks) / C
            np.testing.assert_allclose(seen[f"{block}.attn.weights"][:, head], weights, rtol=1e-11, atol=1e-11)
            np.testing.assert_allclose(seen[f"{block}.attn.logits"][:, head], weights * C, rtol=1e-11, atol=1e-11)
            written = weights @ keys @ ov
            np.testing.assert_allclose(seen[f"{block}.attn.head_out"][:, head], written, rtol=1e-11, atol=1e-10)
            out = out + written
        np.testing.assert_allclose(seen[f"{block}.attn.out"], out, rtol=1e-11, atol=1e-10)
        after = asks + out if model.residual else out
        np.testing.assert_allclose(seen[f"{block}.out"], after, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(seen["prediction"], model.read * after[..., d:], rtol=1e-11, atol=1e-10)


def test_edits() -> None:
    """A head taken out removes its part, in the last layer and before; float32 sums of 20 terms of size 1."""
    params, prompt = random_params(MODEL, size=0.3), some_prompt()
    for layer in range(2):
        cut = tape.zero(f"blocks.{layer}.attn.head_out", tape.head_mask(H, 0))
        silent = {name: value.copy() for name, value in params.items()}
        silent["ov"][layer, 0] = 0
        want, _ = run(MODEL, silent, prompt)
        np.testing.assert_allclose(run(MODEL, params, prompt, edits=(cut,))[0], want, rtol=0, atol=1e-5)
    with pytest.raises(tape.SiteError, match=r"'blocks\.2\.out' matches no.*blocks\.0\.attn\.logits.*blocks\.1\.out"):
        run(MODEL, params, prompt, tape=("blocks.2.out",))
    single = dataclasses.replace(MODEL, num_layers=1)
    with pytest.raises(tape.SiteError, match=r"blocks\.0\.attn\.in, blocks\.0\.attn\.logits"):
        run(single, random_params(single), prompt, tape=("embed",))


@pytest.mark.usefixtures("x64")
def test_the_input_of_a_single_layer_can_be_edited() -> None:
    """Where nobody reads or edits it, the context is never put into tokens."""
    model, prompt = dataclasses.replace(MODEL, num_layers=1), some_prompt()
    params = random_params(model)
    doubled, _ = run(model, params, prompt, edits=(tape.scale("blocks.0.attn.in", 2.0),))
    np.testing.assert_allclose(doubled, 8 * run(model, params, prompt)[0], rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_one_layer_is_regression_attention_without_softmax() -> None:
    """Both name their circuits alike: with all attention weights given, `OV` says the same in both."""
    linear, soft = LinearAttention(d, 1, H, m, read=1), RegressionAttention(d, H, m, form="merged")
    params, prompt = random_params(linear), some_prompt()
    kq, ov = circuits(linear, params)
    assert kq.shape == (H, D, D) and ov.shape == (H, D, m)
    weights = np.random.default_rng(2).normal(size=(B, H, 1, C))
    edits = (tape.replace("blocks.0.attn.weights", weights),)
    one, _ = run(linear, params, prompt, edits=edits)
    two, _ = run(soft, {"kq": kq, "ov": ov}, prompt, edits=edits)
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


def test_circuits_of_stacked_seeds() -> None:
    for form, shared in (("merged", False), ("separate", True)):
        model = dataclasses.replace(MODEL, form=form, shared=shared)
        stacked = jax.eval_shape(jax.vmap(model.init), jax.random.split(jax.random.key(0), 5))
        assert {leaf.shape[1] for leaf in stacked.values()} == {1 if shared else 2}
        assert [a.shape for a in jax.eval_shape(model.circuits, stacked)] == [(5, 2, H, D, D)] * 2
        for of in (model.kq, model.ov):
            assert jax.eval_shape(lambda p, of=of: of(p, 1, 1), stacked).shape == (5, D, D)


def test_seeds_are_an_axis_and_everything_learns() -> None:
    """`vmap` is the loop (float32); every parameter that can matter has a gradient, the last layer's rest has none."""
    prompt = jax.tree.map(jnp.asarray, some_prompt())
    params = [random_params(MODEL, seed) for seed in range(3)]
    slope = jax.grad(lambda p: jnp.mean(MODEL.apply(p, prompt)[0] ** 2))
    together = jax.device_get(jax.jit(jax.vmap(slope))(jax.tree.map(lambda *leaves: np.stack(leaves), *params)))
    alone = jax.jit(slope)
    for i, one in enumerate(params):
        for name, value in jax.device_get(alone(one)).items():
            assert np.isfinite(value).all()
            np.testing.assert_allclose(together[name][i], value, rtol=1e-3, atol=1e-4 * np.abs(value).max())
            assert (value[0] != 0).all(), name
    assert (together["ov"][:, 1, :, :, :d] == 0).all(), "the last layer need not write inputs"


def test_no_map_unless_asked() -> None:
    """At 50 pairs the largest array is the tokens, in one layer the context: no `[T, U]`, no key per head."""
    for model, largest in ((MODEL, B * 51 * D), (dataclasses.replace(MODEL, num_layers=1), B * 50 * d)):
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        program = jax.make_jaxpr(lambda p, q, model=model: model.apply(p, q)[0])(shapes, some_prompt(context=50))
        made: list[Any] = [v.aval for equation in program.eqns for v in equation.outvars]
        assert max(aval.size for aval in made) <= largest


@pytest.mark.parametrize("start", ["normal", "scaled", "torch"])
def test_initial_values(start) -> None:
    """Means and spreads within 5 standard errors."""
    model = LinearAttention(10, 2, 3, form="separate", head_dim=20, start=start, scale=0.5)
    for name, value in jax.device_get(jax.jit(model.init)(jax.random.key(0))).items():
        fan_in = 60 if name == "output" else 11
        std = {"normal": 0.5, "scaled": (0.5 / fan_in) ** 0.5, "torch": 0.5 * (3 * fan_in) ** -0.5}[start]
        assert abs(value.mean()) < 5 * std / value.size**0.5, name
        assert value.std() == pytest.approx(std, rel=5 / (2 * value.size) ** 0.5), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "LinearAttention.dim: got 0"),
        ({"num_layers": 1.0}, "LinearAttention.num_layers: got 1.0"),
        ({"rho": "context"}, r"LinearAttention.rho: got 'context'; allowed is length \| none \| a number > 0"),
        ({"rho": 0}, "LinearAttention.rho: got 0"),
        ({"read": 0}, "LinearAttention.read: got 0; allowed is 1 or -1"),
        ({"form": "reduced"}, r"LinearAttention.form: got 'reduced'; allowed is merged \| separate"),
        ({"start": "xavier"}, "LinearAttention.start: got 'xavier'"),
        ({"head_dim": 4}, "LinearAttention.head_dim: got 4; allowed is None in the form 'merged'"),
    ],
)
def test_a_bad_setting_is_one_clear_error(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(MODEL, **change)


def test_bad_calls() -> None:
    params = random_params(MODEL)
    with pytest.raises(ConfigError, match="inputs of width 3 and 1 labels"):
        run(MODEL, params, some_prompt(outputs=1))
    with pytest.raises(ConfigError, match="layer: got 2; allowed is 0 to 1"):
        MODEL.kq(params, 2, 0)
    with pytest.raises(ConfigError, match="head: got 2"):
        MODEL.ov(params, 0, 2)
    with pytest.raises(ConfigError, match=r"kq: got \(5, 5\)"):
        MODEL.construct(np.eye(D), np.eye(D))
    with pytest.raises(ConfigError, match="head_dim: got 4; allowed is at least D=5"):
        dataclasses.replace(MODEL, form="separate", head_dim=4).gradient_descent(0.1)
    for change in ({"read": 1}, {"residual": False}, {"query_is_key": True}):
        (name,) = change
        with pytest.raises(ConfigError, match=f"LinearAttention.{name}.*for more than one step"):
            dataclasses.replace(MODEL, **change).gradient_descent(0.1)
