import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from toy_tasks import alias

rows_of_seven = st.lists(st.sampled_from([0.0, 1e-12, 1e-3, 0.3, 1.0, 7.0]), min_size=7, max_size=7).filter(any)


def law_of(table: alias.AliasTable) -> np.ndarray:
    """The law that the tables stand for, read off them without sampling."""
    outcomes = table.threshold.shape[1]
    keep = table.threshold / 2.0**32
    law = keep / outcomes
    for r, v in np.ndindex(law.shape):
        law[r, table.alias[r, v]] += (1.0 - keep[r, v]) / outcomes
    return law


@settings(max_examples=50, deadline=None)
@given(rows_of_seven)
def test_tables_hold_the_row_and_never_a_zero(weights):
    p = np.array([weights]) / np.sum(weights)
    table = alias.alias_table(p)
    # each of 7 thresholds is rounded down to a multiple of 2^-32, then divided by 7; float64 adds 1e-15
    np.testing.assert_allclose(law_of(table), p, atol=2.0**-32 + 1e-14, rtol=0)
    zero = p[0] == 0
    assert (table.threshold[0, zero] == 0).all()
    assert not zero[table.alias[0]].any()


def test_every_edge_word_draws_a_possible_outcome():
    p = np.array([[0.0, 0.25, 0.0, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, 0.4, 0.0]])
    table = alias.alias_table(p)
    edges = [round(c * 2**32 / 5) + d for c in range(6) for d in (-2, -1, 0, 1, 2)]
    thresholds = [(c * 2**32 + int(t)) // 5 + d for c in range(5) for t in table.threshold[:, c] for d in (-1, 0, 1)]
    words = np.array([w for w in {*edges, *thresholds} if 0 <= w < 2**32], np.uint32)
    for r in range(3):
        drawn = alias.draw(*map(jnp.asarray, table), jnp.full(len(words), r), jnp.asarray(words))
        assert (p[r, np.asarray(drawn)] > 0).all()


def test_draw_splits_the_word_exactly():
    rng = np.random.default_rng(0)
    words = np.concatenate([rng.integers(0, 2**32, 5000), [0, 2**32 - 1]]).astype(np.uint32)
    p = rng.dirichlet(np.ones(65), size=3)
    table = alias.alias_table(p)
    row = rng.integers(0, 3, len(words)).astype(np.int32)
    expected = []
    for r, word in zip(row, words, strict=True):
        cell, rest = divmod(int(word) * 65, 2**32)
        expected.append(cell if rest < int(table.threshold[r, cell]) else int(table.alias[r, cell]))
    drawn = alias.draw(*map(jnp.asarray, table), jnp.asarray(row), jnp.asarray(words))
    np.testing.assert_array_equal(drawn, expected)
