"""Row entropies and their rank correlation with sink logits."""

import numpy as np
import pytest
from scipy import stats

from attnlab.analysis import entropy_correlation, row_entropy, spearman
from attnlab.config import ConfigError
from toy_tasks import BigramBackcopy

TASK = BigramBackcopy.tiny_shakespeare(length=8)


def test_row_entropy():
    kernel = np.array([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4])
    np.testing.assert_allclose(row_entropy(kernel), [0, np.log(2), np.log(4)])
    certain = row_entropy(TASK.kernel)
    assert certain[TASK.names.index("q")] == 0 == certain[TASK.names.index("3")]


def test_spearman_leaves_out_what_is_not_finite(rng):
    x, y = rng.normal(size=30), rng.normal(size=30)
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])
    assert spearman(x, np.exp(x)) == pytest.approx(1)
    holes = y.copy()
    holes[:5] = np.nan
    assert spearman(x, holes) == pytest.approx(stats.spearmanr(x[5:], y[5:])[0])
    assert np.isnan(spearman(x[:2], y[:2])) and np.isnan(spearman(x, np.ones(30)))


def test_entropy_correlation_is_over_ordinary_tokens():
    entropy = row_entropy(TASK.kernel)
    logits = np.stack([2 * entropy + 1, -entropy])
    logits[:, [*TASK.triggers, TASK.bos_id]] = -100
    np.testing.assert_allclose(entropy_correlation(TASK, logits), [1, -1])
    assert entropy_correlation(TASK, logits[0]).shape == ()
    with pytest.raises(ConfigError, match="allowed"):
        entropy_correlation(TASK, logits[:, :-1])
