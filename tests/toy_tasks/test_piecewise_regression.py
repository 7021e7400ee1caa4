"""What piecewise regression means: laws of every segment, the exact posterior mean, and what untrained memories make of
it. References in NumPy, float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab.models import Transformer
from attnlab.training import losses
from toy_tasks import PiecewiseRegression

SIZE = 256
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {"small": PiecewiseRegression(3, 24, 3, 4.0, 0.2), "wide": PiecewiseRegression(4, 6, 2, 2.0, 0.0, outputs=2)}
PUBLISHED = PiecewiseRegression()


@pytest.fixture(scope="module")
def drawn():
    def everything(key):
        found = {}
        for name, task in TASKS.items():
            batch = task.sample(key, SIZE)
            shifted = task.oracle(batch) + 0.5
            found[name] = batch, shifted - 0.5, task.risks(shifted, batch), task.by_place(shifted, batch)
        return found | {"published": PUBLISHED.sample(key, 8)}

    return jax.jit(everything)(jax.random.key(0))


def segments(task, batch):
    """Keys `[B, s, S, d]` and values `[B, s, S, m]` in float64."""
    found = (np.asarray(a, np.float64) for a in task.pairs(batch))
    return [a.reshape(len(a), task.num_segments, task.segment, -1) for a in found]


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, (batch, *_) = TASKS[name], drawn[name]
    inputs, targets = np.asarray(batch.inputs), np.asarray(batch.targets)
    num, d, m = task.num_pairs, task.dim, task.num_outputs
    assert inputs.shape == (SIZE, task.length, task.width) == (SIZE, 2 * num - 1, max(d, m))
    keys, values = (a.reshape(SIZE, num, -1) for a in segments(task, batch))
    np.testing.assert_array_equal(inputs[:, 0::2, :d], keys)
    np.testing.assert_array_equal(inputs[:, 1::2, :m], values[:, :-1])
    assert (inputs[:, 0::2, d:] == 0).all() and (inputs[:, 1::2, m:] == 0).all()
    np.testing.assert_array_equal(targets[:, 0::2], values)
    for t in range(task.length):
        pair, query = divmod(t, 2)[0], t % 2 == 0
        inside = pair % task.segment
        wanted = {"query": query, "label": not query, "boundary": query and inside == 0}
        wanted |= {"first_segment": query and pair < task.segment, "settled": query and inside >= d}
        assert {kind: bool(where[0, t]) for kind, where in batch.positions.items()} == wanted
        assert (np.asarray(batch.loss_mask)[:, t] == query).all()


def test_laws_of_a_segment(drawn):
    """Noiseless, so that the maps can be read off; then with noise, what is left of a fit."""
    task, batch = TASKS["wide"], drawn["wide"][0]
    keys, values = segments(task, batch)
    maps = np.einsum("bsdc,bscm->bsmd", np.linalg.pinv(keys), values)
    np.testing.assert_allclose(np.einsum("bscd,bsmd->bscm", keys, maps), values, atol=1e-4)  # float32, pinv
    assert stats.kstest(maps.ravel() * 2, "norm").pvalue > 1e-3  # sqrt(4)
    flat = maps.reshape(SIZE, -1) * 2
    joint = flat.T @ flat / SIZE - np.eye(16)
    assert np.abs(joint).max() < 5 / np.sqrt(SIZE)  # all entries, of both segments: 136 pairs, probability 1e-4
    task, batch = TASKS["small"], drawn["small"][0]
    keys, values = segments(task, batch)
    means = keys.mean(axis=2, keepdims=True)
    spread = (keys - means) * np.sqrt(24 / 23)
    assert np.var(spread) == pytest.approx(1, abs=4.5 * np.sqrt(2 / spread.size))
    # |mean of 24 keys|^2 is r^2 + d / 24 on average
    power = (means**2).sum(-1).ravel()
    assert power.mean() == pytest.approx(16 + 3 / 24, abs=4.5 * power.std() / np.sqrt(len(power)))
    direction = (means / np.linalg.norm(means, axis=-1, keepdims=True)).reshape(SIZE, 3, 3)
    assert stats.kstest((direction[:, 0, 0] + 1) / 2, "uniform").pvalue > SURE  # Archimedes: uniform in height
    assert np.abs(direction[:, 0].T @ direction[:, 1] / SIZE).max() < 4.5 / 3 / np.sqrt(SIZE)  # segments: independent
    fitted = keys @ np.linalg.pinv(keys) @ values
    residual = ((values - fitted) ** 2).sum(axis=2) / (24 - 3) / 0.2**2
    assert residual.mean() == pytest.approx(1, abs=4.5 * residual.std() / np.sqrt(residual.size))


@pytest.mark.parametrize("name", TASKS)
def test_the_oracle_is_the_posterior_mean(drawn, name):
    """By the Gaussian posterior of every row of `W_s`: prior `I / d`, the pairs of the own segment so far; float64."""
    task, (batch, best, *_) = TASKS[name], drawn[name]
    keys, values = (a[:16] for a in segments(task, batch))
    found = np.asarray(best)[:16]
    assert (found[:, 1::2] == 0).all()
    found = found[:, 0::2].reshape(16, task.num_segments, task.segment, -1)
    prior, noise = np.eye(task.dim) / task.dim, max(task.noise, 1e-7) ** 2
    for c in range(task.segment):
        seen = keys[:, :, :c]
        covariance = seen @ prior @ seen.swapaxes(-1, -2) + noise * np.eye(c)  # of the values seen
        with_asked = np.einsum("bsd,de,bsce->bsc", keys[:, :, c], prior, seen)
        weights = np.linalg.solve(covariance, with_asked[..., None])[..., 0] if c <= task.dim or task.noise else None
        wanted = values[:, :, c] if weights is None else np.einsum("bsc,bscm->bsm", weights, values[:, :, :c])
        # float32; noiseless, the map is known after d pairs, but for rounding times the condition of d keys, which has
        # a heavy tail: the worst 2 % are left out
        atol = 2e-3 if task.noise == 0 else 2e-5 * np.abs(values).max()
        assert np.quantile(np.abs(found[:, :, c] - wanted), 0.98) < atol


@pytest.mark.parametrize("name", TASKS)
def test_risks_and_profile(drawn, name):
    task, (batch, best, risks, profile) = TASKS[name], drawn[name]
    targets, best = np.asarray(batch.targets, np.float64), np.asarray(best, np.float64)
    error = ((best + 0.5 - targets) ** 2).mean(axis=2)
    where = {kind: np.asarray(at) for kind, at in batch.positions.items()}
    assert float(risks["mse"]) == pytest.approx(error[where["query"]].mean(), rel=1e-4)  # float32
    assert float(risks["bayes"]) == pytest.approx(((best - targets) ** 2).mean(axis=2)[where["query"]].mean(), rel=1e-4)
    assert float(risks["excess"]) == pytest.approx(0.25, rel=1e-4)
    for kind in ("first_segment", "boundary", "settled"):
        assert float(risks[f"mse_{kind}"]) == pytest.approx(error[where[kind]].mean(), rel=1e-4)
    by_hand = error[:, 0::2].mean(axis=0).reshape(task.num_segments, task.segment)
    np.testing.assert_allclose(profile, by_hand, rtol=1e-4)


def test_no_other_ridge_is_better(drawn):
    """The oracle's strength against a third and three times of it, on the same streams; and it ends near the noise."""
    task, batch = TASKS["small"], drawn["small"][0]
    keys, values = segments(task, batch)
    error = {}
    for factor in (1 / 3, 1.0, 3.0):
        total = np.zeros((SIZE, 3, 24))
        for c in range(24):
            x, y = keys[:, :, :c], values[:, :, :c]
            gram = x.swapaxes(-1, -2) @ x + factor * 3 * 0.2**2 * np.eye(3)
            guess = np.einsum("bsd,bsdm->bsm", keys[:, :, c], np.linalg.solve(gram, x.swapaxes(-1, -2) @ y))
            total[:, :, c] = ((guess - values[:, :, c]) ** 2).mean(-1)
        error[factor] = total
    for factor in (1 / 3, 3.0):
        worse = (error[factor] - error[1.0]).mean(axis=(1, 2))
        assert worse.mean() > 3 * worse.std() / np.sqrt(SIZE)
    assert (
        task.plateaus["map"].loss < error[1.0][:, :, -1].mean() < 1.3 * task.plateaus["map"].loss
    )  # 1 + 3 / 23, noise


@pytest.mark.parametrize("name", TASKS)
def test_plateaus(drawn, name):
    """Zero, and the best multiple of the mean of the own segment so far, fitted on one half and tried on the other."""
    task, batch = TASKS[name], drawn[name][0]
    _, values = segments(task, batch)
    zero = (values**2).mean(axis=(1, 2, 3))
    half, fitted = SIZE // 2, np.zeros((SIZE // 2, task.segment))
    for c in range(task.segment):
        mean = values[:, :, :c].mean(axis=2) if c else np.zeros_like(values[:, :, 0])
        scale = (mean[:half] * values[:half, :, c]).sum() / max((mean[:half] ** 2).sum(), 1e-9)
        fitted[:, c] = ((scale * mean[half:] - values[half:, :, c]) ** 2).mean(axis=(1, 2))
    for kind, error in (("zero", zero), ("mean", fitted.mean(axis=1))):
        # the fit of one number on 128 streams adds a share of 1/128 at most to the error
        exact, spread = task.plateaus[kind].loss, 4.5 * error.std() / np.sqrt(len(error))
        assert error.mean() == pytest.approx(exact, abs=spread + exact / 128) and task.plateaus[kind].accuracy is None
    assert task.plateaus["map"].loss == pytest.approx(task.noise**2)


def test_what_untrained_memories_make_of_it(drawn):
    """Local linear beats local constant and one global map; the global map is best as long as there is one segment.

    Kernel `exp(-|q - k|^2 / 2)`, ridge 1e-3; keys and values as they are. Orders only: the sizes vary with the streams.
    """
    keys, values = (a.reshape(8, 512, 8) for a in segments(PUBLISHED, drawn["published"]))
    errors = {name: np.zeros((8, 512)) for name in ("local linear", "local constant", "global", "oracle")}
    ridge = 1e-3 * np.eye(8)
    for b in range(8):
        k, v = keys[b], values[b]
        logits = -((k[:, None] - k[None]) ** 2).sum(-1) / 2
        logits[np.triu_indices(512)] = -np.inf
        weights = np.exp(logits[1:] - logits[1:].max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        mean_k, mean_v = weights @ k, weights @ v
        moment = np.einsum("tc,cd,ce->tde", weights, k, k, optimize=True) - mean_k[:, :, None] * mean_k[:, None]
        cross = np.einsum("tc,cd,cm->tdm", weights, k, v, optimize=True) - mean_k[:, :, None] * mean_v[:, None]
        slope = np.linalg.solve(moment + ridge, cross)
        gram = np.cumsum(k[:, :, None] * k[:, None], axis=0)[:-1]
        both = np.cumsum(k[:, :, None] * v[:, None], axis=0)[:-1]
        guesses = {
            "local constant": mean_v,
            "local linear": mean_v + np.einsum("td,tdm->tm", k[1:] - mean_k, slope),
            "global": np.einsum("td,tdm->tm", k[1:], np.linalg.solve(gram + ridge, both)),
        }
        for name, guess in guesses.items():
            errors[name][b, 1:] = ((guess - v[1:]) ** 2).mean(axis=1)
    total = {name: error.mean() for name, error in errors.items()}
    assert total["local linear"] < 0.5 * total["local constant"] and total["local constant"] < 0.5 * total["global"]
    first = {name: error[:, :128].mean() for name, error in errors.items()}
    assert first["global"] < first["local linear"] < first["local constant"]
    late = {name: error.reshape(8, 4, 128)[:, 1:, -32:].mean() for name, error in errors.items()}
    assert late["local linear"] < 0.2 * late["local constant"] < 0.2 * late["global"]


def test_a_transformer_reads_and_says_it(drawn, key):
    task, batch = TASKS["wide"], drawn["wide"][0]
    ends = {"input_dim": task.width, "output_dim": task.num_outputs}
    model = Transformer(num_layers=1, num_heads=1, width=8, length=task.length, **ends)
    outputs, _ = jax.eval_shape(lambda key: model.apply(model.init(key), batch.inputs), key)
    assert outputs.shape == batch.targets.shape and losses.natural(task) is losses.squared_error


def test_segments_of_one_pair(rng):
    """There is nothing to learn from: the posterior mean is 0."""
    task = PiecewiseRegression(2, 1, 3)
    keys, values = (jnp.asarray(rng.standard_normal((2, 3, 2)), jnp.float32) for _ in range(2))
    assert not np.asarray(task.oracle(task.assemble(keys, values))).any()
    assert task.plateaus["mean"] == task.plateaus["zero"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dim": 0}, r"PiecewiseRegression\.dim: got 0"),
        ({"segment": 2.5}, r"PiecewiseRegression\.segment: got 2\.5; allowed is an integer >= 1"),
        ({"outputs": 0}, r"PiecewiseRegression\.outputs: got 0; allowed is an integer >= 1, or None for dim"),
        ({"radius": -1.0}, r"PiecewiseRegression\.radius: got -1\.0; allowed is a finite number >= 0"),
        ({"noise": float("inf")}, r"PiecewiseRegression\.noise: got inf"),
    ],
)
def test_errors_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        PiecewiseRegression(**fields)
