"""What the task means: the laws of inputs, of `beta` and of noise, the layouts, the published settings."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from attnlab import config
from toy_tasks import TASKS, LinearRegression, Prompt, TaskWithOracle, bayes

D, C, SIZE = 4, 6, 4096
SIGMA = 0.5 ** np.abs(np.subtract.outer(np.arange(D), np.arange(D)))
PRIOR = np.array([[2.0, 0.5, 0.0, 0.0], [0.5, 1.0, -0.3, 0.0], [0.0, -0.3, 0.5, 0.2], [0.0, 0.0, 0.2, 0.4]])
SHAPED = LinearRegression(D, C, 0.3, covariance=SIGMA, mean=np.arange(D), prior_covariance=PRIOR)
LAWS = {
    "default": LinearRegression(D, C),
    "shaped": SHAPED,
    "cube": LinearRegression(D, C, covariance=1 / 12, input_law="uniform", prior_covariance=1.0),
    "two": dataclasses.replace(SHAPED, supports=((0, 1, 2), (1, 3)), noise_per="coordinate"),
}


def draw(size: int, *tasks: LinearRegression):
    """A batch of each task from the same key."""
    return jax.jit(lambda key: [task.sample(key, size) for task in tasks])(jax.random.key(0))


@pytest.fixture(scope="module")
def all_drawn():
    """Of each law a batch, the same with a query without noise, and the same prompts without any noise."""
    tasks = []
    for task in LAWS.values():
        clear = dataclasses.replace(task, noisy_query=False)
        tasks += [task, clear, dataclasses.replace(clear, noise_variance=0.0)]
    batches = draw(SIZE, *tasks)  # in one program: compiling is most of the time
    return {name: batches[3 * i : 3 * i + 3] for i, name in enumerate(LAWS)}


@pytest.fixture(params=LAWS)
def drawn(request, all_drawn):
    return LAWS[request.param], *all_drawn[request.param]


def covariance_is(samples: np.ndarray, known: np.ndarray, sigmas: float = 5.0) -> None:
    """Covariance of Gaussian rows, within standard errors (Wick). The mean is taken as 0."""
    errors = np.sqrt((np.outer(np.diag(known), np.diag(known)) + known**2) / len(samples)) + 1e-9
    gap = np.abs(samples.T @ samples / len(samples) - known) / errors
    assert gap.max() < sigmas, gap


def betas(batch) -> np.ndarray:
    """`Float[B, m, d]`, by least squares on noiseless prompts with more pairs than dimensions."""
    x, y = np.asarray(batch.inputs.x, np.float64), np.asarray(batch.inputs.y, np.float64)
    return np.swapaxes(np.linalg.pinv(x) @ y, 1, 2)


def test_inputs(drawn):
    task, batch, _, _ = drawn
    inputs = np.concatenate([batch.inputs.x, batch.inputs.query[:, None]], axis=1).astype(np.float64)
    centred = inputs - task.input_mean
    covariance_is(centred.reshape(-1, D), task.input_covariance)
    covariance_is(centred[:, -1], task.input_covariance)  # the query has the law of the others,
    for other in (centred[:, 0], centred[:, 1]):  # is independent of them, and they of each other
        both = np.concatenate([other, centred[:, 2]], axis=1)
        covariance_is(both, np.kron(np.eye(2), task.input_covariance))
    both = np.concatenate([centred[:, 0], centred[:, -1]], axis=1)
    covariance_is(both, np.kron(np.eye(2), task.input_covariance))
    mean_error = np.sqrt(np.diag(task.input_covariance) / (SIZE * (C + 1)))
    assert (np.abs(centred.mean((0, 1))) < 4.5 * mean_error).all()


def test_marginal_laws_of_inputs(drawn):
    task, batch, _, _ = drawn
    white = (np.asarray(batch.inputs.x) - task.input_mean) / np.sqrt(np.diag(task.input_covariance))
    law = stats.uniform(-(3**0.5), 2 * 3**0.5) if task.input_law == "uniform" else stats.norm
    assert all(stats.kstest(white[..., j].ravel(), law.cdf).pvalue > 1e-3 for j in range(D))
    if task.input_law == "uniform":  # von Oswald's: on [-1/2, 1/2]^d, up to a last bit of the square root
        for x in (batch.inputs.x, batch.inputs.query):
            assert 0.499 < x.max() <= 0.5 + 1e-6 and -0.5 - 1e-6 <= x.min() < -0.499
        assert stats.kstest(np.ravel(batch.inputs.query) + 0.5, "uniform").pvalue > 1e-3


def test_prior(drawn):
    task, _, _, quiet = drawn
    beta = betas(quiet)
    np.testing.assert_allclose(
        beta * (1 - task.support_mask), 0.0, atol=1e-3
    )  # float32 labels, ill-conditioned prompts
    joint = np.zeros((task.num_outputs, D, task.num_outputs, D))
    for i in range(task.num_outputs):
        joint[i, :, i] = task.priors[i]  # outputs are independent of each other
    inside = task.support_mask.ravel() > 0
    covariance_is(beta.reshape(SIZE, -1)[:, inside], joint.reshape(beta[0].size, -1)[np.ix_(inside, inside)])
    x = np.asarray(quiet.inputs.x)[:, 0] - task.input_mean
    product = beta[:, 0, 0] * x[:, 0]  # and of the inputs
    assert abs(product.mean()) < 4.5 * product.std() / SIZE**0.5
    exact = np.einsum("bd,bmd->bm", quiet.inputs.query, beta)
    np.testing.assert_allclose(quiet.targets[:, 0], exact, atol=5e-3)


def test_noise(drawn):
    task, batch, clear, quiet = drawn
    np.testing.assert_array_equal(batch.inputs.x, quiet.inputs.x)
    np.testing.assert_array_equal(batch.inputs.query, quiet.inputs.query)
    noise = np.asarray(batch.inputs.y - quiet.inputs.y, np.float64)
    asked = np.asarray(batch.targets - quiet.targets, np.float64)
    per = {"label": np.ones(task.num_outputs), "coordinate": np.array([len(s) for s in task.supports])}
    known = np.diag(task.noise_variance * per[task.noise_per])
    covariance_is(noise.reshape(-1, task.num_outputs), known)
    covariance_is(asked.reshape(-1, task.num_outputs), known)
    covariance_is(noise[:, :, 0], known[0, 0] * np.eye(C))
    assert stats.kstest((noise / np.sqrt(np.diag(known))).ravel(), "norm").pvalue > 1e-3
    np.testing.assert_array_equal(clear.inputs.y, batch.inputs.y)
    np.testing.assert_allclose(clear.targets, quiet.targets, atol=1e-6, rtol=1e-6)  # other fusion of the sum


# ---- layouts


@pytest.fixture(scope="module")
def layouts():
    names = "columns", "masked_key", "interleaved"
    tasks = [dataclasses.replace(LAWS["two"], layout=name) for name in names]
    return dict(zip(names, zip(tasks, draw(32, *tasks), strict=True), strict=True))


def test_same_key_same_prompts(layouts):
    task, columns = layouts["columns"]
    assert isinstance(columns.inputs, Prompt)
    for task, batch in layouts.values():
        for ours, theirs in zip(jax.tree.leaves(task.prompt(batch)), jax.tree.leaves(columns.inputs), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(batch.targets[:, -1], columns.targets[:, 0])
        again = jax.jit(task.assemble)(task.prompt(batch), batch.targets[:, -1])
        for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(batch), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_masked_key_layout(layouts):
    (task, batch), prompt = layouts["masked_key"], layouts["columns"][1].inputs
    assert batch.inputs.shape == (32, task.length, task.width) == (32, C + 1, D + 2)
    np.testing.assert_array_equal(batch.inputs[:, :C], np.concatenate([prompt.x, prompt.y], axis=2))
    np.testing.assert_array_equal(batch.inputs[:, C, :D], prompt.query)
    np.testing.assert_array_equal(batch.inputs[:, C, D:], 0.0)
    np.testing.assert_array_equal(batch.positions["query"], np.arange(C + 1)[None] == np.full((32, 1), C))
    np.testing.assert_array_equal(batch.positions["context"], ~batch.positions["query"])
    assert batch.targets.shape == (32, 1, 2) and batch.loss_mask.shape == (32, 1)


def test_interleaved_layout(layouts):
    (task, batch), prompt = layouts["interleaved"], layouts["columns"][1].inputs
    assert batch.inputs.shape == (32, task.length, task.width) == (32, 2 * C + 1, D)
    np.testing.assert_array_equal(batch.inputs[:, 0::2], np.concatenate([prompt.x, prompt.query[:, None]], axis=1))
    np.testing.assert_array_equal(batch.inputs[:, 1::2, :2], prompt.y)
    np.testing.assert_array_equal(batch.inputs[:, 1::2, 2:], 0.0)
    even = np.broadcast_to(np.arange(2 * C + 1) % 2 == 0, (32, 2 * C + 1))
    for place in (batch.positions["query"], ~batch.positions["label"], batch.loss_mask == 1, batch.loss_mask != 0):
        np.testing.assert_array_equal(place, even)
    np.testing.assert_array_equal(batch.targets[:, 0:-1:2], prompt.y)  # the label of the input that stands there


@pytest.mark.parametrize("layout", ["columns", "masked_key", "interleaved"])
def test_oracle_and_risks(layouts, layout):
    """The posterior mean at every place that is asked, 0 elsewhere; `risks` are means over the asked places."""
    task, batch = layouts[layout]
    oracle = np.asarray(jax.jit(task.oracle)(batch))
    assert oracle.shape == batch.targets.shape
    prompt = task.prompt(batch)
    np.testing.assert_allclose(oracle[:, -1], jax.jit(bayes(task))(prompt.x, prompt.y, prompt.query), atol=1e-5)
    asked = np.asarray(batch.loss_mask) > 0
    np.testing.assert_array_equal(oracle[~asked], 0.0)
    guess = oracle + 0.1 * np.arange(2)  # a distance of 0 in the first output, of 0.1 in the second
    found = jax.jit(task.risks)(jnp.where(asked[..., None], guess, 1e6), batch)
    gap = (np.asarray(batch.targets) - oracle)[asked]
    np.testing.assert_allclose(found["bayes"], np.mean(gap**2), rtol=1e-4)
    np.testing.assert_allclose(found["mse"], np.mean((gap - 0.1 * np.arange(2)) ** 2), rtol=1e-4)
    np.testing.assert_allclose(found["excess"], 0.005, rtol=1e-3)


def test_vmap_changes_nothing_and_keys_do(layouts):
    task, alone = layouts["columns"]
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
    mapped = jax.jit(jax.vmap(lambda key: task.sample(key, 32)))(keys)
    for ours, theirs in zip(jax.tree.leaves(mapped), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-5, atol=1e-5)  # rounding of fused sums
    assert len(np.unique(mapped.inputs.x)) == mapped.inputs.x.size


# ---- settings


def test_it_is_a_task():
    assert isinstance(LinearRegression(), TaskWithOracle) and LinearRegression in TASKS


def test_published_settings():
    """As written in the papers' code, number by number."""
    he = LinearRegression()
    assert (he.dim, he.context, he.layout, he.noisy_query, he.num_outputs) == (5, 40, "columns", True, 1)
    np.testing.assert_allclose(he.priors, np.eye(5)[None] / 5)
    np.testing.assert_allclose(he.label_noise, [0.1])
    two = LinearRegression.multi_task()
    assert (two.dim, two.context, two.noisy_query, two.num_outputs, two.width) == (6, 48, False, 2, 8)
    np.testing.assert_array_equal(two.support_mask, [[1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1]])
    np.testing.assert_allclose(two.label_noise, [0.4, 0.4])
    np.testing.assert_allclose(two.priors, [np.diag([1, 1, 1, 1, 0, 0]), np.diag([0, 0, 1, 1, 1, 1])])
    oswald = LinearRegression.von_oswald()
    assert (oswald.dim, oswald.context, oswald.noise_variance, oswald.layout) == (10, 10, 0.0, "masked_key")
    np.testing.assert_allclose(oswald.input_covariance, np.eye(10) / 12)
    np.testing.assert_allclose(oswald.priors, np.eye(10)[None])
    garg = LinearRegression.garg()
    assert (garg.dim, garg.length, garg.width, garg.noise_variance, garg.layout) == (20, 81, 20, 0.0, "interleaved")
    np.testing.assert_allclose(garg.priors, np.eye(20)[None])


@pytest.mark.parametrize("task", [*LAWS.values(), LinearRegression.multi_task(), LinearRegression.garg()])
def test_configuration_round_trip(task):
    written = config.dumps(task)
    read = config.loads(written)
    assert isinstance(read, LinearRegression) and config.dumps(read) == written
    for name in ("priors", "label_noise", "input_covariance", "input_mean", "support_mask"):
        np.testing.assert_array_equal(getattr(read, name), getattr(task, name))


def test_fields_cannot_be_changed_behind_its_back():
    given = SIGMA.copy()
    task = LinearRegression(D, C, covariance=given)
    given[0, 0] = 100.0
    assert task.input_covariance[0, 0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        task.input_covariance[0, 0] = 3.0


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("dim", 0, "got 0; allowed is an integer >= 1"),
        ("dim", 2.5, "got 2.5"),
        ("context", -1, "got -1"),
        ("context", True, "got True"),
        ("noise_variance", -0.1, "got -0.1; allowed is a finite number >= 0"),
        ("noise_variance", float("nan"), "got nan"),
        ("noise_variance", "high", "got 'high'"),
        ("noise_per", "task", "got 'task'; allowed is label | coordinate"),
        ("input_law", "cauchy", "allowed is normal | uniform"),
        ("layout", "rows", "allowed is columns | masked_key | interleaved"),
        ("covariance", np.eye(3), r"shape \(3, 3\).*shape \(4, 4\)"),
        ("covariance", np.triu(np.ones((4, 4))), r"1 at \(0, 1\) and 0 at \(1, 0\); allowed is a symmetric"),
        ("covariance", -1.0, "an eigenvalue -1.*semidefinite"),
        ("prior_covariance", np.full((4, 4), np.inf), r"the entry inf; allowed is finite"),
        ("prior_covariance", "wide", "got 'wide'"),
        ("mean", np.zeros(3), r"shape \(3,\).*shape \(4,\)"),
        ("mean", [0, 1, 2, np.nan], r"the entry nan; allowed is finite"),
        ("supports", ((0, 1), (4,)), "from 0 to 3"),
        ("supports", ((0, 0),), "distinct"),
        ("supports", ((),), "empty"),
        ("supports", (0, 1), "a tuple of tuples"),
        ("supports", 3, "a tuple of tuples"),
        ("supports", ((0.5,),), "a tuple of tuples"),
    ],
)
def test_errors_name_the_field(field, value, message):
    with pytest.raises(ValueError, match=rf"LinearRegression\.{field}: .*{message}"):
        LinearRegression(**({"dim": 4, "context": 6} | {field: value}))


def test_errors_of_calls(layouts):
    task, batch = layouts["columns"]
    with pytest.raises(ValueError, match="batch_size: got 0"):
        task.sample(jax.random.key(0), 0)
    with pytest.raises(ValueError, match=r"logits: got shape \(32, 7, 2\); allowed is that of targets, \(32, 1, 2\)"):
        task.risks(jnp.zeros((32, 7, 2)), batch)
