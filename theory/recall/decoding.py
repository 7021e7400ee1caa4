"""How often the answer is right when a read is decoded to the nearest of `V` value embeddings.

    right = argmax_v  r_i . e_v,     r_i = sum_j M_ij v_j,     e_1, ..., e_V independent directions of R^(d_v)

Two kinds of competitors: the `n - 1` other stored values, each with its own coefficient, and the `V - n` that were not
stored, which only need to point along the read by chance. With the coefficients given (they depend on the keys alone)

    P = E [ F((h + w)/|r|)^(V - n)  prod_(j != i) F((h + w - c_j)/sqrt(|r|^2 - c_j^2)) ],     h = M_ii, c_j = M_ij,
    w = sqrt(R) u,   |r|^2 = h^2 + 2 h w + R,   F and u: the cosine of random directions of R^(d_v),

`R` the squared length of `sum_j c_j v_j`, of mean `E = sum c_j^2` and relative variance `(2/d_v)(1 - sum c_j^4 / E^2)`,
taken as lognormal. The factor of the values that were not stored is exact; the competition of the stored ones is taken
as independent. Against simulation the error is below .03 at widths of 32 and above, and vanishes with the width.

Source: the decoding is that of multi-query recall without training (arXiv 2312.04927, its code); the law is derived.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.catalogue import cosine_cdf, cosine_nodes, softmax_match
from theory.icl import Estimate
from theory.recall.memories import Memory, memory_matrix, random_keys


def argmax_accuracy(matrix: ArrayLike, value_width: int, vocab: int) -> Float[np.ndarray, " T"]:
    """The formula of the module, for every row of a mixing matrix: any attention, given its weights.

    Args:
      matrix: `M`, `[T, n]`; row `i` asks for the value of pair `i`, `T <= n`.
      value_width: `d_v`, at least 4.
      vocab: `V`, at least `n`: all value embeddings, the stored ones among them.
    """
    M = check.finite("matrix", np.asarray(matrix, dtype=np.float64))
    if M.ndim != 2 or M.shape[0] > M.shape[1]:
        raise check.fail("shape of matrix", M.shape, "[T, n] with T <= n", "Row i asks for pair i.")
    rows, n = M.shape
    strangers = check.count("vocab", vocab, n) - n
    grid = np.linspace(-1.0, 1.0, 8001)
    law = cosine_cdf(grid, value_width)  # interpolated: error below 1e-5 at widths up to 1000
    u, mass = cosine_nodes(value_width, nodes=120)
    u, mass = u[mass > 1e-10], mass[mass > 1e-10]
    z, spread_mass = np.polynomial.hermite_e.hermegauss(5)
    own = np.diagonal(M)
    right = np.empty(rows)
    for i in range(rows):
        others = np.delete(M[i], i)
        energy = float(others @ others)
        relative = 2 / value_width * (1 - float(np.sum(others**4)) / max(energy**2, 1e-300))
        width = np.sqrt(np.log1p(max(relative, 0.0)))
        rest = energy * np.exp(width * z - width**2 / 2)[:, None]
        w = np.sqrt(rest) * u
        score = own[i] + w
        length = np.maximum(own[i] ** 2 + 2 * own[i] * w + rest, 1e-300)
        chance = np.interp(score / np.sqrt(length), grid, law) ** strangers
        cross = np.sqrt(np.maximum(length[..., None] - others**2, 1e-300))
        chance = chance * np.prod(np.interp((score[..., None] - others) / cross, grid, law), axis=-1)
        right[i] = spread_mass @ (chance @ mass) / (spread_mass.sum() * mass.sum())
    return right


def recall_accuracy(
    memory: Memory, pairs: int, width: int, vocab: int, draws: int = 8, *, seed: int = 0, **options
) -> Estimate:
    """`argmax_accuracy` of a memory of random keys and values of one width: keys by Monte Carlo, values by the law.

    Args:
      memory: the rule.
      pairs: `n`.
      width: `d = d_v`, at least 4.
      vocab: `V`, at least `n`.
      draws: of the keys, at least 2.
      seed: of NumPy's generator.
      **options: of `theory.recall.memory_matrix`.
    """
    rng, count = np.random.default_rng(seed), check.count("draws", draws, 2)
    means = [
        argmax_accuracy(memory_matrix(random_keys(rng, pairs, width), memory, **options), width, vocab).mean()
        for _ in range(count)
    ]
    return Estimate(float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(count)))


def hebb_accuracy(pairs: int, width: int, value_width: int, vocab: int) -> float:
    """The same of the Hebb memory without any sampling: coefficients `c` are cosines of `R^d`.

        E [ F((1 + w)/|r|)^(V - n)  (E_c F((1 + w - s c)/sqrt(|r|^2 - 1/d)))^(n - 1) ],    R = s^2 (n - 1)/d,

    with `s^2` of mean 1 and relative variance `2/(n - 1) + 2/d_v`, lognormal: what the energy of the coefficients and
    the angles of the values vary. At `V = n` it is `theory.catalogue.nearest_accuracy`, but for that variation.

    Args:
      pairs: `n`.
      width: `d`, at least 4.
      value_width: `d_v`, at least 4.
      vocab: `V`, at least `n`.
    """
    n, d = check.count("pairs", pairs), check.count("width", width, 4)
    strangers = check.count("vocab", vocab, n) - n
    if n == 1:
        return 1.0
    c, c_mass = cosine_nodes(d, nodes=120)
    u, u_mass = cosine_nodes(value_width, nodes=120)
    z, z_mass = np.polynomial.hermite_e.hermegauss(9)
    spread = np.sqrt(np.log1p(2 / (n - 1) + 2 / value_width))
    total = 0.0
    for node, mass in zip(z, z_mass / z_mass.sum(), strict=True):
        scale = np.exp(spread * node - spread**2 / 2)
        w = np.sqrt(scale * (n - 1) / d) * u
        length = np.maximum(1 + 2 * w + scale * (n - 1) / d, 1e-300)
        cross = np.sqrt(np.maximum(length - scale / d, 1e-300))
        below = cosine_cdf((1 + w[:, None] - np.sqrt(scale) * c) / cross[:, None], value_width) @ c_mass
        alone = cosine_cdf((1 + w) / np.sqrt(length), value_width) ** strangers
        total += mass * float(u_mass @ (alone * below ** (n - 1)))
    return total


def softmax_accuracy_bound(pairs: int, width: int, scale: float, value_coherence: float) -> float:
    """A certain lower bound of the accuracy of softmax retrieval: `1 - 2 E[1 - A] / (1 - mu)`, at least 0.

    Derivation: with weight `A` on the right value and the cosines of all values in `[-mu, mu]`, another value scores
    less whenever `A (1 - mu) > (1 - A)(1 + mu)`, that is `1 - A < (1 - mu)/2`; then Markov's inequality. `E A` is
    exact, `theory.catalogue.softmax_match` of a matching key.

    Args:
      pairs: `n`.
      width: `d`, of keys, at least 4.
      scale: `s`, of the scores `s k . k'`.
      value_coherence: `mu`, the largest `|cosine|` of two values, below 1.
    """
    mu = check.number("value_coherence", value_coherence, 0.0, 1.0)
    if mu == 1:
        raise check.fail("value_coherence", mu, "below 1", "Two values are the same.")
    missed = 1 - float(softmax_match(1.0, check.count("pairs", pairs), width, scale))
    return max(0.0, 1 - 2 * missed / (1 - mu))


def softmax_capacity(width: int, scale: float, missed: float = 0.05) -> float:
    """The number of pairs up to which softmax misses less than this share of its weight: exponential in the scale.

        E[1 - A] <= (n - 1) e^-s E e^(s c),    n = 1 + missed e^s / E e^(s c)

    For `s` far below `d` it is `missed e^(s - s^2 / 2d)`; far above `d` it grows like `s^((d - 1)/2)`.

    Args:
      width: `d`, at least 4.
      scale: `s`, at least 0.
      missed: share of the weight, in (0, 1).
    """
    s, share = check.number("scale", scale, 0.0), check.number("missed", missed, 0.0, 1.0, strict=True)
    points, mass = cosine_nodes(width, nodes=400)
    return 1 + share / float(mass @ np.exp(s * (points - 1)))
