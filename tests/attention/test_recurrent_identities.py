"""Mechanisms that are each other in a limit, and what their papers say of them, in float64."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recurrent_cases import HEAD_DIM, HEADS, LENGTH, QUICK, WIDTH, Inputs, inputs_of, outputs, weights

from attnlab.attention import Dims
from attnlab.attention import recurrent_catalogue as catalogue
from attnlab.attention.gates import Beta, FixedBeta, StepSize, Stream, inverse_softplus_log_uniform
from attnlab.attention.mesa import Mesa
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Delta, DeltaProduct, Oja
from attnlab.attention.scan import Steps, chunked_core

# Sums of some ten products of numbers up to 10, in float64, by two ways.
EXACT = {"rtol": 1e-11, "atol": 1e-11}
SEEN = np.tri(LENGTH, dtype=bool)
COUNT = np.arange(1, LENGTH + 1)

pytestmark = pytest.mark.usefixtures("x64")

delta = replace(catalogue.delta_net, name="delta", feature=None)
gated_delta = Recurrent("gated_delta", Delta(StepSize(), Beta(2.0)))


def inputs_with(mechanism: Recurrent, **params) -> Inputs:
    """The common tokens, and parameters of which some are given."""
    made = inputs_of(mechanism)
    for name, value in params.items():
        assert name in made.params
        made.params[name] = np.broadcast_to(np.asarray(value, float), made.params[name].shape)
    return made


def decay_of(inputs: Inputs) -> tuple[np.ndarray, np.ndarray]:
    """`α[B, H, T]` of one decay per head, and `L_ij = prod of α` after `j` up to `i`."""
    gate = np.einsum("btd,dh->bht", inputs.x, inputs.params["decay_gate"])
    step = np.log1p(np.exp(gate + inputs.params["dt_bias"][:, None]))
    logs = -np.exp(inputs.params["a_log"])[:, None] * step
    total = np.cumsum(logs, -1)
    return np.exp(logs), np.where(SEEN, np.exp(np.where(SEEN, total[..., :, None] - total[..., None, :], 0)), 0)


def beta_of(inputs: Inputs, limit: float = 1.0) -> np.ndarray:
    return limit / (1 + np.exp(-np.einsum("btd,dh->bht", inputs.x, inputs.params["beta_gate"])))


def masked(scores: np.ndarray) -> np.ndarray:
    return np.where(SEEN, scores, 0)


def test_inline_is_weights_prefix_sums_and_a_covariance() -> None:
    inputs = inputs_with(catalogue.inline)
    _, q, k, v, _ = inputs
    c = HEAD_DIM**-0.5  # in the code of the paper, not in its formula
    scores = masked(c * q @ k.swapaxes(-1, -2))
    expected = masked((scores - scores.sum(-1, keepdims=True) / COUNT[:, None] + 1) / COUNT[:, None])
    found = np.asarray(weights(catalogue.inline)(inputs))
    np.testing.assert_allclose(found, expected, **EXACT)
    np.testing.assert_allclose(found.sum(-1), 1, **EXACT)
    assert (found < -1e-3).any(), "weights of either sign"
    for i in range(LENGTH):
        mean_k, mean_v = k[:, :, : i + 1].mean(2, keepdims=True), v[:, :, : i + 1].mean(2, keepdims=True)
        spread = np.einsum("bhuk,bhuw->bhkw", k[:, :, : i + 1] - mean_k, v[:, :, : i + 1] - mean_v) / (i + 1)
        read = mean_v[:, :, 0] + c * np.einsum("bhk,bhkw->bhw", q[:, :, i], spread)
        np.testing.assert_allclose((found @ v)[:, :, i], read, **EXACT)
    paper = np.asarray(weights(replace(catalogue.inline, scale=1.0))(inputs))
    np.testing.assert_allclose(paper - 1 / COUNT[:, None] * SEEN, 2 * (found - 1 / COUNT[:, None] * SEEN), **EXACT)


def test_inline_is_softmax_to_first_order() -> None:
    """The difference falls like the square of the size of the logits: 100 times for a tenth, within 10 %."""
    inputs = inputs_with(catalogue.inline)
    scores = inputs.q @ inputs.k.swapaxes(-1, -2) / HEAD_DIM**0.5
    errors = []
    for size in (1e-1, 1e-2, 1e-3):
        soft = np.where(SEEN, np.exp(size * scores), 0)
        soft = soft / soft.sum(-1, keepdims=True)
        found = weights(catalogue.inline)(inputs._replace(q=size * inputs.q))
        errors.append(np.abs(soft @ inputs.v - np.asarray(found) @ inputs.v).max())
    assert errors[0] < 0.05
    # The next order is a tenth and a hundredth of it.
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.2)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.02)


def test_row_sums() -> None:
    """Kernels divided by their sum have rows of 1 up to `eps`; `max(|sum|, 1)` at most 1."""
    for mechanism in (catalogue.linear, catalogue.taylor, catalogue.hedgehog, catalogue.performer):
        found = np.asarray(weights(mechanism)(inputs_with(mechanism)))
        assert (found >= 0).all()
        np.testing.assert_allclose(found.sum(-1), 1, rtol=0, atol=1e-3)  # eps 1e-6 over totals down to 1e-3
    total = np.asarray(weights(catalogue.mlp_kernel_normalized)(inputs_with(catalogue.mlp_kernel_normalized))).sum(-1)
    assert np.abs(total).max() <= 1 + 1e-12 and np.abs(total).min() < 0.9


def test_taylor_divides_all_orders_by_one_sum() -> None:
    """Not each order by its own, as the recurrence in the appendix of 2510.11602 has it."""
    inputs = inputs_with(catalogue.taylor)
    s = inputs.q @ inputs.k.swapaxes(-1, -2) / HEAD_DIM**0.5
    orders = [masked(np.ones_like(s)), masked(s), masked(s**2 / 2)]
    found = np.asarray(weights(catalogue.taylor)(inputs))
    together = sum(orders)
    np.testing.assert_allclose(found, together / (together.sum(-1, keepdims=True) + 1e-6), **EXACT)
    apart = sum(order / order.sum(-1, keepdims=True) for order in orders)
    assert np.abs(found - apart).max() > 0.1


def test_normalised_attention_is_a_gate_on_unnormalised_products() -> None:
    """`o_i = e^(-n_i) sum_j (q_i · k_j) v_j`: no feature map, no scale; the state decays by ratios of the gates."""
    inputs = inputs_with(catalogue.dsf_normalized)
    n = np.einsum("btd,dh->bht", inputs.x, inputs.params["read_gate"]) + inputs.params["read_bias"][:, None]
    expected = np.exp(-n)[..., None] * (masked(inputs.q @ inputs.k.swapaxes(-1, -2)) @ inputs.v)
    np.testing.assert_allclose(outputs(catalogue.dsf_normalized)(inputs), expected, **EXACT)
    state, eta = np.zeros((*inputs.q.shape[:2], HEAD_DIM, HEAD_DIM)), np.exp(n)
    for i in range(LENGTH):
        ratio = eta[..., i - 1] / eta[..., i] if i else np.zeros_like(eta[..., 0])
        write = np.einsum("bhk,bhw->bhkw", inputs.k[:, :, i], inputs.v[:, :, i]) / eta[..., i, None, None]
        state = ratio[..., None, None] * state + write
        np.testing.assert_allclose(np.einsum("bhk,bhkw->bhw", inputs.q[:, :, i], state), expected[:, :, i], **EXACT)


def test_a_norm_of_the_output_cancels_every_positive_normaliser() -> None:
    """Normalised attention, the identity kernel and its mean over positions are one mechanism under RMSNorm."""
    inputs = inputs_with(catalogue.dsf_normalized)

    def normed(mechanism):
        out = np.asarray(outputs(mechanism)(inputs._replace(params=inputs.params if mechanism.read else {})))
        return out / np.sqrt((out**2).mean(-1, keepdims=True)), out

    gated, plain, mean = map(
        normed, (catalogue.dsf_normalized, catalogue.identity_kernel, catalogue.identity_kernel_mean)
    )
    np.testing.assert_allclose(gated[0], plain[0], **EXACT)
    np.testing.assert_allclose(mean[0], plain[0], **EXACT)
    assert np.abs(gated[1] - plain[1]).max() > 0.1 and np.abs(mean[1] - plain[1]).max() > 0.1


def test_scale_is_a_field() -> None:
    """flash-linear-attention divides queries by `sqrt(K)` in every rule, the papers do not."""
    for mechanism in (catalogue.delta_net, catalogue.gla, catalogue.gated_delta_net):
        assert mechanism.scale == 1.0
        inputs = inputs_with(mechanism)
        scaled = outputs(replace(mechanism, scale=None))(inputs)
        np.testing.assert_allclose(HEAD_DIM**0.5 * np.asarray(scaled), outputs(mechanism)(inputs), **EXACT)


def test_decay_of_step_sizes_is_a_reversed_sigmoid() -> None:
    """`exp(-a softplus(z)) = sigmoid(-z)^a`: S6's decay, and that of the reversed qLSTM with `a = 1 .. n`."""
    inputs = inputs_with(catalogue.s6)
    p, x = inputs.params, inputs.x
    z = np.einsum("btr,rhk->bhkt", x @ p["decay_down"], p["decay_up"]) + p["dt_bias"][..., None]
    found = jax.jit(lambda i: catalogue.s6.steps(*i[:4], x=i.x).log_decay, compiler_options=QUICK)(inputs)
    reversed_sigmoid = (1 / (1 + np.exp(z)))[..., None] ** np.exp(p["a_log"])[..., None, :]
    np.testing.assert_allclose(np.exp(found), reversed_sigmoid, **EXACT)
    lstm = inputs_with(catalogue.qlstm_reversed, power=1.7)
    kept = jax.jit(lambda i: catalogue.qlstm_reversed.steps(*i[:4], x=i.x).log_decay, compiler_options=QUICK)(lstm)
    z = np.einsum("btd,dhk->bhkt", lstm.x, lstm.params["forget_gate"]) + lstm.params["forget_bias"][..., None]
    np.testing.assert_allclose(np.exp(kept), np.exp(-1.7 * np.log1p(np.exp(z))), **EXACT)


def test_state_space_is_masked_attention_and_rescaled_linear_attention() -> None:
    """`(Q K^T ⊙ L) V`, `L_ij = e^(G_i - G_j)`; linear attention with `η_i = e^(-G_i)` and values times `η`."""
    inputs = inputs_with(catalogue.ssd)
    alpha, ratios = decay_of(inputs)
    scores = inputs.q @ inputs.k.swapaxes(-1, -2)
    np.testing.assert_allclose(weights(catalogue.ssd)(inputs), ratios * scores, **EXACT)
    eta = np.exp(-np.cumsum(np.log(alpha), -1))[..., None]
    rescaled = inputs._replace(params={}, v=eta * inputs.v)
    np.testing.assert_allclose(outputs(catalogue.hebb)(rescaled) / eta, ratios * scores @ inputs.v, **EXACT)


@pytest.mark.parametrize("mechanism", [delta, gated_delta], ids=lambda m: m.name)
def test_delta_rules_are_their_closed_form(mechanism) -> None:
    """`A = (Q K^T ⊙ L) (I + tril(diag(β) (K K^T ⊙ L), -1))^-1 diag(β)`: the decay comes before the erasure."""
    inputs = inputs_with(mechanism)
    gated = mechanism.rule.decay is not None
    ratios = decay_of(inputs)[1] if gated else SEEN.astype(float)
    beta = beta_of(inputs, 2.0 if gated else 1.0)[..., None]
    inner = np.tril(beta * (inputs.k @ inputs.k.swapaxes(-1, -2)) * ratios, -1)
    solved = np.linalg.solve(np.eye(LENGTH) + inner, beta * np.eye(LENGTH))
    expected = (inputs.q @ inputs.k.swapaxes(-1, -2) * ratios) @ solved
    np.testing.assert_allclose(weights(mechanism)(inputs), expected, rtol=1e-10, atol=1e-10)
    if gated:  # erasing before the decay is another mechanism
        alpha = decay_of(inputs)[0]
        out, state = [], np.zeros((*inputs.q.shape[:2], HEAD_DIM, HEAD_DIM))
        for t in range(LENGTH):
            k, v = inputs.k[:, :, t], inputs.v[:, :, t]
            error = v - np.einsum("bhk,bhkw->bhw", k, state)
            state = alpha[..., t, None, None] * state + beta[:, :, t, :, None] * k[..., None] * error[..., None, :]
            out.append(np.einsum("bhk,bhkw->bhw", inputs.q[:, :, t], state))
        assert np.abs(np.stack(out, 2) - outputs(mechanism)(inputs)).max() > 0.1


def test_mesa_is_ridge_regression_and_recursive_least_squares() -> None:
    """Sherman-Morrison: `P <- P - P k k^T P / (1 + k^T P k)`, `W <- W + P k (v - W^T k)^T / (1 + k^T P k)`."""
    inputs = inputs_with(catalogue.ridge)
    found = np.asarray(outputs(catalogue.ridge)(inputs))
    for h in range(HEADS):
        inverse, solution = np.eye(HEAD_DIM), np.zeros((HEAD_DIM, HEAD_DIM))
        for t in range(LENGTH):
            k, v = inputs.k[0, h, t], inputs.v[0, h, t]
            gain = inverse @ k / (1 + k @ inverse @ k)
            solution = solution + np.outer(gain, v - k @ solution)
            inverse = inverse - np.outer(gain, k @ inverse)
            np.testing.assert_allclose(inputs.q[0, h, t] @ solution, found[0, h, t], **EXACT)


def test_mesa_with_a_large_ridge_is_linear_attention() -> None:
    """`λ (H + λ)^-1 = 1 - H / λ + ..`: the difference falls like `1 / λ`."""
    inputs = inputs_with(catalogue.ridge)
    plain = np.asarray(outputs(catalogue.hebb)(inputs))
    errors = []
    for ridge in (1e3, 1e5):
        large = replace(catalogue.ridge, rule=Mesa(gated=False, ridge=ridge))
        errors.append(np.abs(ridge * np.asarray(outputs(large)(inputs)) - plain).max())
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.05)


def test_oja_is_the_delta_rule_with_keys_and_values_exchanged() -> None:
    """States are each other's transpose."""
    inputs = inputs_with(delta)
    oja = Recurrent("oja_raw", Oja(unit=False))

    def states(inputs):
        stream = Stream(*inputs[1:], jnp.arange(LENGTH))
        steps, transposed = oja.rule(inputs.params, stream, oja.rule.start(stream))
        zero = jnp.zeros((*inputs.q.shape[:2], HEAD_DIM, HEAD_DIM))
        swapped = inputs._replace(k=inputs.v, v=inputs.k)
        other = delta.steps(*swapped[:4], x=swapped.x)
        return (
            chunked_core(steps, inputs.v, zero, 4)[1],
            transposed.mT,
            chunked_core(other, swapped.v, zero, 4)[1].mT,
        )

    ours, carried, theirs = jax.jit(states, compiler_options=QUICK)(inputs._replace(v=0.3 * inputs.v))
    np.testing.assert_allclose(ours, theirs, **EXACT)
    np.testing.assert_allclose(carried, theirs, **EXACT)


def test_retention_is_a_state_space_with_a_constant_decay() -> None:
    rates = -np.log1p(-(2.0 ** (-5 - np.arange(HEADS))))
    inputs = inputs_with(catalogue.ssd, decay_gate=0.0, dt_bias=0.3)
    inputs.params["a_log"] = np.log(rates / np.log1p(np.exp(0.3)))
    same = replace(catalogue.retnet, scale=1.0)
    np.testing.assert_allclose(outputs(same)(inputs), outputs(catalogue.ssd)(inputs), **EXACT)


def test_gla_with_equal_channels_is_a_state_space() -> None:
    """`sigmoid(z)^(1/16) = exp(-softplus(-z) / 16)`."""
    inputs = inputs_with(catalogue.gla, decay_bias=0.4)
    down, up = inputs.params["decay_down"], inputs.params["decay_up"][:, :, :1]
    inputs.params["decay_up"] = np.broadcast_to(up, inputs.params["decay_up"].shape)
    head = inputs_with(catalogue.ssd, a_log=-np.log(16), dt_bias=-0.4)
    head.params["decay_gate"] = -(down @ up[..., 0])
    np.testing.assert_allclose(outputs(catalogue.gla)(inputs), outputs(catalogue.ssd)(head), **EXACT)


def test_gated_delta_without_decay_is_delta() -> None:
    inputs = inputs_with(catalogue.gated_delta_net, a_log=-1e3)
    plain = inputs._replace(params={"beta_gate": inputs.params["beta_gate"]})
    np.testing.assert_allclose(outputs(catalogue.gated_delta_net)(inputs), outputs(catalogue.delta_net)(plain), **EXACT)


def test_kda_with_equal_channels_is_gated_delta() -> None:
    inputs = inputs_with(catalogue.kda, dt_bias=0.2)
    down, up = inputs.params["decay_down"], inputs.params["decay_up"][:, :, :1]
    inputs.params["decay_up"] = np.broadcast_to(up, inputs.params["decay_up"].shape)
    names = ("a_log", "beta_gate")
    head = {n: inputs.params[n] for n in names} | {"decay_gate": down @ up[..., 0], "dt_bias": np.full(HEADS, 0.2)}
    found = outputs(catalogue.gated_delta_net)(inputs._replace(params=head))
    np.testing.assert_allclose(outputs(catalogue.kda)(inputs), found, **EXACT)


def test_delta_product_of_one_is_gated_delta() -> None:
    one = Recurrent("one", DeltaProduct(1, StepSize(), limit=2.0))
    inputs = inputs_with(one)
    same = dict(inputs.params, beta_gate=inputs.params["beta_gate"][..., 0])
    found = outputs(gated_delta)(inputs._replace(params=same))
    np.testing.assert_allclose(outputs(one)(inputs), found, **EXACT)


def test_delta_with_orthonormal_keys_and_full_strength_only_decays() -> None:
    """Nothing stored overlaps with what is written: `β = 1` on orthonormal keys is linear attention with a decay."""
    full = Recurrent("full", Delta(StepSize(), FixedBeta(1.0)))
    inputs = inputs_with(full)
    keys = np.zeros_like(inputs.k)
    keys[:, :, :HEAD_DIM] = np.linalg.qr(np.random.default_rng(0).normal(size=(HEAD_DIM, HEAD_DIM)))[0]
    inputs = inputs._replace(k=keys)
    np.testing.assert_allclose(outputs(full)(inputs), outputs(catalogue.ssd)(inputs), **EXACT)


def test_rwkv7_without_decay_is_delta() -> None:
    """`α = 1`, gate `β`, key written `β k`: the gate of every channel is `sigmoid(x w)`."""
    inputs = inputs_with(catalogue.rwkv7, decay_bias=-1e3, decay_up=0.0, gate_bias=0.0, k_k=1.0, k_a=1.0)
    gate = inputs_with(delta).params["beta_gate"]
    down, up = np.zeros((WIDTH, 32)), np.zeros((32, HEADS, HEAD_DIM))
    down[:, :HEADS] = gate
    for h in range(HEADS):
        up[h, h] = 1.0
    inputs.params.update(gate_down=down, gate_up=up)
    unit = inputs.k / np.linalg.norm(inputs.k, axis=-1, keepdims=True)
    found = outputs(catalogue.rwkv7)(inputs._replace(k=unit))
    expected = outputs(delta)(inputs._replace(params={"beta_gate": gate}, k=unit))
    np.testing.assert_allclose(found, expected, **EXACT)


def test_a_strength_of_two_counts_modulo_two_and_one_of_one_cannot() -> None:
    """The first token writes 1; every later one of bit 1 flips the sign of the state, `1 - β = -1`, of bit 0 nothing.

    With `β` in [0, 1] the state never changes its sign, whatever the gate.
    """
    bits = np.array([0, 1, 1, 0, 1, 0, 1, 1])
    flips = replace(delta, name="flips", rule=Delta(beta=Beta(2.0)))
    one = np.ones((1, 1, len(bits), 1))
    gate = np.where(bits, 1.0, -1.0)
    gate[0] = 0.0  # β = 1: write
    v = np.zeros_like(one)
    v[..., 0, 0] = 1.0
    inputs = Inputs({"beta_gate": np.full((1, 1), 1e3)}, one, one, v, gate[None, :, None])
    out = np.asarray(outputs(flips)(inputs))[0, 0, :, 0]
    np.testing.assert_array_equal(out, (-1.0) ** np.cumsum(bits))
    for strength in (1e3, 1.0, -0.5):
        weak = outputs(delta)(inputs._replace(params={"beta_gate": np.full((1, 1), strength)}))
        assert (np.asarray(weak) >= 0).all()


def test_one_step_of_gradient_descent_in_context() -> None:
    """`ŷ = (s/n) sum_j y_j x_j · x_q`, best step `s = n/(n+d+1)`: mean squared error `(d+1)/(n+d+1)` of `|w|^2 = d`.

    4000 prompts; tolerance 5 standard errors.
    """
    d, rng = 8, np.random.default_rng(0)
    program = jax.jit(lambda x, y: catalogue.hebb.apply({}, x, x, y).out[:, 0, -1, 0], compiler_options=QUICK)
    for n in (8, 32):
        x, w = rng.normal(size=(4000, 1, n + 1, d)), rng.normal(size=(4000, d))
        y = np.einsum("bhnd,bd->bhn", x, w)
        seen = np.zeros_like(x)
        seen[..., :-1, 0] = y[..., :-1]  # the query has no label
        step = n / (n + d + 1)
        error = (np.asarray(program(x, seen)) * step / n - y[:, 0, -1]) ** 2 / d
        assert error.mean() == pytest.approx((d + 1) / (n + d + 1), abs=5 * error.std() / 4000**0.5)


def memory(rule: Recurrent):
    """The last state `S[draws, K, K]` after all pairs, and reads of every key."""

    def read(params, k, v):
        k, v = k[:, None], v[:, None]
        steps: Steps = rule.steps(params, k, k, v)
        state = chunked_core(steps, v, jnp.zeros((len(k), 1, k.shape[-1], v.shape[-1])), 32)[1]
        return (k @ state)[:, 0]

    return jax.jit(read, compiler_options=QUICK)


def test_capacity_of_three_rules() -> None:
    """64 dimensions, `n` random unit pairs, one pass: mean cosine of what is read, 6 draws, within the table's .02.

    Hebb: also the law `1 / sqrt(1 + (n-1)/d)` to .01. Above 64 pairs the delta rule remembers the latest only, and is
    worse than Hebb. Pairs that are not there have keys and values of 0, which write nothing.
    """
    rng = np.random.default_rng(0)
    table = {
        16: {"hebb": 0.901, "oja": 0.844, "delta": 0.925},
        64: {"hebb": 0.711, "oja": 0.558, "delta": 0.676},
        128: {"hebb": 0.578, "oja": 0.364, "delta": 0.442},
    }
    rules = {
        "hebb": memory(catalogue.hebb),
        "oja": memory(Recurrent("one", Oja(beta=FixedBeta(1.0), unit=False))),
        "delta": memory(Recurrent("one", Delta(beta=FixedBeta(1.0)))),
    }
    for n, cosines in table.items():
        pairs = rng.normal(size=(2, 6, 128, 64))
        pairs /= np.linalg.norm(pairs, axis=-1, keepdims=True)
        pairs[:, :, n:] = 0
        k, v = pairs
        for name, expected in cosines.items():
            read = np.asarray(rules[name]({}, k, v))[:, :n]
            found = np.sum(read * v[:, :n], -1) / np.linalg.norm(read, axis=-1)
            assert found.mean() == pytest.approx(expected, abs=0.02), (n, name)
            if name == "hebb":
                assert found.mean() == pytest.approx(1 / np.sqrt(1 + (n - 1) / 64), abs=0.01)
            if name == "delta":
                np.testing.assert_allclose(read[:, -1], v[:, n - 1], rtol=0, atol=1e-12)


def test_initial_values_are_those_of_the_papers() -> None:
    """800 draws of each; the mean of a uniform law within 5 standard errors."""
    key, dims = jax.random.key(0), Dims(16, 50, 30)

    def drawn(mechanism):
        return jax.tree.map(np.asarray, mechanism.init(key, dims))

    step = np.asarray(jax.nn.softplus(inverse_softplus_log_uniform(key, (800,))))
    assert step.min() >= 0.999e-3 and step.max() <= 0.1001
    spread = np.log(100) / np.sqrt(12)
    assert np.log(step).mean() == pytest.approx(np.log(1e-2), abs=5 * spread / 800**0.5)
    params = drawn(catalogue.ssd)
    assert (np.exp(params["a_log"]) >= 1).all() and (np.exp(params["a_log"]) <= 16).all()
    assert params["decay_gate"].std() == pytest.approx(30**-0.5, rel=5 / (2 * 480) ** 0.5)
    assert (np.exp(drawn(catalogue.gated_delta_net)["a_log"]) <= 16).all()
    params = drawn(catalogue.s6)
    np.testing.assert_allclose(np.exp(params["a_log"][3, 7]), np.arange(1, 17), rtol=1e-5)
    assert (params["skip"] == 1).all()
    rate = drawn(catalogue.rg_lru)["rate"]
    kept = np.exp(-8 * np.log1p(np.exp(rate)))
    assert kept.min() > 0.9 - 1e-4 and kept.max() < 0.999 + 1e-4
    assert kept.mean() == pytest.approx(0.9495, abs=5 * 0.099 / 12**0.5 / 800**0.5)
    ridge = np.log1p(np.exp(drawn(catalogue.mesa)["ridge"])) + 0.25
    np.testing.assert_allclose(ridge, 1, rtol=1e-6)
    params = drawn(catalogue.rwkv7)
    assert (params["k_k"] == 0.71).all() and (params["k_a"] == 1.02).all()
    np.testing.assert_allclose(catalogue.slope_rates(8), 2.0 ** -np.arange(1, 9))
    np.testing.assert_allclose(np.exp(-catalogue.retention_rates(3)), [31 / 32, 63 / 64, 127 / 128])
