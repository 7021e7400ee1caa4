"""The paper's reduced model: against loops, against the theory's law, and in its ideal limit against the task."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import theory
from attnlab.attention.maps import ReluOverPosition
from attnlab.config import ConfigError
from attnlab.models import BackcopyReduced
from attnlab.tape import Sites
from toy_tasks import BigramBackcopy

V, BOS, TRIGGERS = 7, 6, (1, 2)
MODEL = BackcopyReduced(vocab_size=V, length=9, triggers=TRIGGERS, bos=BOS, mlp_width=8)
TOKENS = np.array([[6, 3, 1, 4, 2, 5, 0, 3, 1], [6, 0, 0, 2, 5, 1, 5, 6, 2], [1, 1, 6, 2, 3, 3, 4, 0, 5]])


def random_params(model: BackcopyReduced):
    """All leaves standard normal, drawn by NumPy."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def reference(model: BackcopyReduced, params, row: np.ndarray) -> dict[str, np.ndarray]:
    """One sequence, position by position, from the description of the model."""
    p, out = jax.tree.map(np.asarray, params), {"weights": [], "attn": [], "mlp": []}
    bos_value = p["bos_value"] @ p["wo"] if model.use_vo else p["bos_value"]
    for t, query in enumerate(row):
        logits = np.zeros(t + 1)
        for u in range(t + 1):
            if query in model.triggers:
                logits[u] = p["qk_previous"][query] if u == t - 1 else 0.0
            elif row[u] == model.bos:
                logits[u] = p["qk_bos"][query]
        weights = np.maximum(logits, 0) / (t + 1) if isinstance(model.map, ReluOverPosition) else softmax(logits)
        mixed = np.zeros(model.vocab_size)
        for u, weight in enumerate(weights):
            mixed += weight * (bos_value if row[u] == model.bos else p["wv"][row[u]] * np.eye(model.vocab_size)[row[u]])
        out["weights"].append(np.pad(weights, (0, len(row) - t - 1)))
        out["attn"].append(mixed)
        out["mlp"].append(np.maximum(p["mlp"]["up"][query], 0) @ p["mlp"]["down"])
    return {name: np.stack(values) for name, values in out.items()}


@pytest.mark.parametrize(
    "options",
    [{}, {"use_vo": False}, {"map": ReluOverPosition()}, {"triggers": ()}],
    ids=["vo", "no vo", "relu", "none"],
)
@pytest.mark.usefixtures("x64")
def test_every_activation_is_that_of_the_reference(options) -> None:
    """float64, sums of 9 terms of size up to 10."""
    model = dataclasses.replace(MODEL, **options)
    params = random_params(model)
    logits, tape = model.apply(params, jnp.asarray(TOKENS), tape=("*",))
    for b, row in enumerate(TOKENS):
        want = reference(model, params, row)
        np.testing.assert_allclose(tape["blocks.0.attn.weights"][b, 0], want["weights"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(tape["blocks.0.attn.out"][b], want["attn"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(tape["blocks.0.mlp.out"][b], want["mlp"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(logits[b], want["attn"] + want["mlp"], rtol=0, atol=1e-12)
        alone, _ = model.apply(params, jnp.asarray(row))
        np.testing.assert_allclose(alone, logits[b], rtol=0, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_circuits_say_what_attention_does() -> None:
    params = random_params(MODEL)
    _, tape = MODEL.apply(params, jnp.asarray(TOKENS), tape=("*",))
    kq, ov = np.asarray(MODEL.kq(params, 0, 0).dense()), np.asarray(MODEL.ov(params, 0, 0).dense())
    assert MODEL.kq(params).rank_bound == 1
    for b, row in enumerate(TOKENS):
        logits = np.asarray(tape["blocks.0.attn.logits"][b, 0])
        for t, query in enumerate(row):
            if query not in TRIGGERS:
                np.testing.assert_array_equal(logits[t], kq[row, query])
        np.testing.assert_allclose(
            tape["blocks.0.attn.weights"][b, 0] @ ov[row], tape["blocks.0.attn.out"][b], atol=1e-13
        )
    assert (kq[:, list(TRIGGERS)] == 0).all() and (np.delete(kq, BOS, axis=0) == 0).all()
    np.testing.assert_array_equal(np.delete(np.delete(ov, BOS, 0), BOS, 1), np.diag(np.delete(params["wv"], BOS)))


def small_task(length: int = 9) -> BigramBackcopy:
    rows = np.random.default_rng(0).dirichlet(np.ones(V - 1), size=V - 1)
    return BigramBackcopy.from_matrix(rows, triggers=TRIGGERS, length=length)


@pytest.mark.usefixtures("x64")
def test_it_predicts_the_law_of_the_theory_for_the_prefix_it_sees() -> None:
    """`softmax(log p_v + (e^alpha beta + B) / (e^alpha + W))` with the counts of the actual prefix, everywhere."""
    task, rng = small_task(), np.random.default_rng(1)
    model = dataclasses.replace(MODEL, use_vo=False)
    params = model.construct(jnp.asarray(task.kernel), sink=0.0, previous=0.0, value=0.0, floor=-1e3)
    alpha, beta, xi = rng.normal(size=V), rng.normal(size=V), rng.normal(size=V)
    params |= {"qk_bos": jnp.asarray(alpha), "bos_value": jnp.asarray(beta), "wv": jnp.asarray(xi)}
    tokens = np.asarray(task.sample(jax.random.key(0), 4).inputs)
    logits, _ = model.apply(params, jnp.asarray(tokens))
    checked = 0
    for row, predicted in zip(tokens, np.asarray(logits), strict=True):
        for t in range(1, len(row)):
            if row[t] in TRIGGERS:
                continue
            counts = np.bincount(row[1 : t + 1], minlength=V).astype(float)
            reduced = theory.ReducedModel.from_counts(task.kernel, TRIGGERS, np.ones(V) / V, counts, xi)
            law = theory.transition_law(reduced, alpha, beta)[row[t]]
            # float64; exp(-1000) for the tokens that never follow.
            np.testing.assert_allclose(softmax(predicted[t]), law, rtol=0, atol=1e-12)
            checked += 1
    assert checked > 10


@pytest.mark.usefixtures("x64")
def test_the_ideal_limit_is_the_task() -> None:
    """30 keys of value xi and weight e^-alpha disturb the logits: by 1, then by at most 4e-3, then by nothing."""
    task = small_task(length=30)
    model = dataclasses.replace(MODEL, length=30)
    batch = task.sample(jax.random.key(0), 8)
    oracle = np.asarray(task.oracle(batch))
    errors = []
    for size, value in ((5.0, 5.0), (12.0, 20.0), (40.0, 60.0)):
        params = model.construct(jnp.asarray(task.kernel), sink=size, previous=size, value=value)
        law = jax.nn.softmax(model.apply(params, batch.inputs)[0], axis=-1)
        errors.append(float(np.abs(law - oracle).max()))
        _, tape = model.apply(params, batch.inputs, tape=("blocks.0.mlp.out",))
        assert (tape["blocks.0.mlp.out"][batch.positions["trigger"]] == 0).all(), "the MLP is silent on triggers"
    assert errors[0] > 0.03
    assert errors[1] < 30 * 20 * np.exp(-12)
    # The oracle is float32.
    assert errors[2] < 1e-7


def test_nothing_larger_than_it_must_be() -> None:
    """The largest array is an attention map or the values of all keys; never `[B, T, U, V]`."""
    batch, length = 4, 9
    params = jax.eval_shape(MODEL.init, jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((batch, length), jnp.int32)
    jaxpr = jax.make_jaxpr(lambda p, t: MODEL.apply(p, t)[0])(params, tokens)
    sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
    assert max(sizes) <= batch * length * max(length, V, 8)


def test_later_tokens_have_no_influence() -> None:
    params = random_params(MODEL)
    logits, _ = MODEL.apply(params, jnp.asarray(TOKENS))
    changed = TOKENS.copy()
    changed[:, 5:] = 4
    other, _ = MODEL.apply(params, jnp.asarray(changed))
    assert other[:, :5].tobytes() == logits[:, :5].tobytes()
    assert other[:, 5:].tobytes() != logits[:, 5:].tobytes()


def test_initial_values() -> None:
    """Scalars N(0, 1), matrices as `torch.nn.Linear`; 5 standard errors."""
    model = BackcopyReduced(vocab_size=67, length=4, triggers=(1,), bos=65)
    params = model.init(jax.random.key(0))
    scalars = np.concatenate([np.asarray(params[name]) for name in ("qk_bos", "qk_previous", "wv", "bos_value")])
    assert scalars.shape == (4 * 67,)
    assert abs(scalars.mean()) < 5 / 268**0.5 and abs(scalars.var() - 1) < 5 * (2 / 268) ** 0.5
    assert 0.98 * 67**-0.5 < np.abs(params["wo"]).max() <= 67**-0.5
    assert params["mlp"]["up"].shape == (67, 128) and params["mlp"]["down"].shape == (128, 67)
    assert 0.98 * 128**-0.5 < np.abs(params["mlp"]["down"]).max() <= 128**-0.5
    assert "wo" not in dataclasses.replace(model, use_vo=False).init(jax.random.key(0))


def test_every_parameter_learns() -> None:
    params = random_params(MODEL)
    gradient = jax.grad(lambda p: jnp.sum(MODEL.apply(p, jnp.asarray(TOKENS))[0] ** 3))(params)
    for name in ("qk_bos", "qk_previous", "wv", "bos_value", "wo"):
        assert (gradient[name] != 0).any(), name
    ordinary = [v for v in range(V) if v not in (*TRIGGERS,)]
    assert (gradient["qk_previous"][jnp.array(ordinary)] == 0).all(), "only triggers look at the previous position"
    assert (gradient["qk_bos"][jnp.array(TRIGGERS)] == 0).all(), "triggers do not look at bos"
    assert gradient["wv"][BOS] == 0, "bos has its own value"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 0}, "BackcopyReduced.vocab_size: got 0"),
        ({"triggers": (7,)}, "BackcopyReduced.triggers: got 7; allowed is 0 to 6"),
        ({"bos": -1}, "BackcopyReduced.bos: got -1; allowed is 0 to 6"),
        ({"bos": 1}, "BackcopyReduced.bos: got 1; allowed is a token that is no trigger"),
        ({"mlp_width": 2.0}, "BackcopyReduced.mlp_width: got 2.0"),
    ],
)
def test_a_bad_setting_is_one_clear_error(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(MODEL, **change)


def test_bad_calls() -> None:
    params = random_params(MODEL)
    with pytest.raises(ConfigError, match="tokens: got '10 positions'; allowed is at most length=9"):
        MODEL.apply(params, jnp.zeros(10, int))
    with pytest.raises(ConfigError, match="layer: got 1"):
        MODEL.kq(params, 1, 0)
    with pytest.raises(ConfigError, match="head: got 1"):
        MODEL.ov(params, 0, 1)
    narrow = dataclasses.replace(MODEL, mlp_width=3)
    with pytest.raises(ConfigError, match="mlp_width: got 3; allowed is at least vocab_size=7"):
        narrow.construct(jnp.eye(V), sink=1.0, previous=1.0, value=1.0)
    with pytest.raises(ConfigError, match=r"kernel: got \(6, 6\)"):
        MODEL.construct(jnp.eye(6), sink=1.0, previous=1.0, value=1.0)


def test_it_has_the_sites_that_the_transformer_has() -> None:
    from attnlab.tape import names

    params = random_params(MODEL)
    assert names(lambda s: MODEL.forward(params, jnp.asarray(TOKENS), s)) == [
        "blocks.0.attn.logits",
        "blocks.0.attn.weights",
        "blocks.0.attn.v",
        "blocks.0.attn.head_out",
        "blocks.0.attn.out",
        "blocks.0.mlp.hidden",
        "blocks.0.mlp.out",
        "logits",
    ]
    sites = Sites(read=("*",))
    MODEL.forward(params, jnp.asarray(TOKENS), sites)
    shapes = {name.removeprefix("blocks.0."): value.shape for name, value in sites.finish().items()}
    assert shapes["attn.logits"] == shapes["attn.weights"] == (3, 1, 9, 9)
    assert shapes["attn.v"] == shapes["attn.head_out"] == (3, 1, 9, V)
    assert shapes["attn.out"] == shapes["mlp.out"] == shapes["logits"] == (3, 9, V)
