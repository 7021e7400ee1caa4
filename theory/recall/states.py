"""What a mechanism carries from token to token: numbers of state in one layer, for one sequence.

    attention (softmax, LLA, any that keeps its keys)   2 D T            sliding window   2 D W
    linear attention   H K V        normalised   H K (V + 1)             Based            H F (V + 1), F = 1 + f + f^2
    delta rule, gated or not, RWKV-7, DeltaProduct   H K V               Mesa             H K (K + V)
    Mamba   2 D N                   Hyena   D T                          short convolution   w D

with `K` the width of a key and `V` of a value in each of `H` heads. Sums over layers are the caller's; a byte count is
`state_bytes` of the sum. The published plots count `w D` for a convolution of width `w`, its current input included.

Source: the counts of the code of arXiv 2312.04927; linear, normalised and Mesa derived here.
"""

from __future__ import annotations

from theory import _checks as check
from theory.catalogue import feature_count


def attention_state(width: int, length: int) -> int:
    """`2 D T`: all keys and values. A sliding window has its own length for `T`.

    Args:
      width: `D`, all heads together.
      length: `T`.
    """
    return 2 * check.count("width", width) * check.count("length", length)


def matrix_state(heads: int, key_width: int, value_width: int, normalised: bool = False) -> int:
    """`H K V`, or `H K (V + 1)` with the sum of keys that a normaliser needs: linear attention, delta rules, RWKV-7.

    Args:
      heads: `H`.
      key_width: `K`, of each head, after the feature map.
      value_width: `V`, of each head.
      normalised: whether outputs are divided by a running sum.
    """
    cells = check.count("heads", heads) * check.count("key_width", key_width)
    return cells * (check.count("value_width", value_width) + normalised)


def based_state(heads: int, key_width: int, value_width: int) -> int:
    """`H F (V + 1)`, `F = 1 + f + f^2` features of the exponential to second order, for keys of width `f`.

    Args:
      heads: `H`.
      key_width: `f`.
      value_width: `V`, of each head.
    """
    return matrix_state(heads, feature_count(key_width, 2, repeats=True), value_width, normalised=True)


def mesa_state(heads: int, key_width: int, value_width: int) -> int:
    """`H K (K + V)`: the second moment of the keys beside the associations.

    Args: as for `matrix_state`.
    """
    return matrix_state(heads, key_width, key_width + check.count("value_width", value_width))


def mamba_state(width: int, states: int) -> int:
    """`2 D N`: `N` numbers for each of the `2 D` inner channels.

    Args:
      width: `D`.
      states: `N`.
    """
    return 2 * check.count("width", width) * check.count("states", states)


def hyena_state(width: int, length: int) -> int:
    """`D T`: a long convolution keeps its whole input.

    Args:
      width: `D`.
      length: `T`.
    """
    return check.count("width", width) * check.count("length", length)


def convolution_state(width: int, kernel: int = 3) -> int:
    """`w D`, as the published plots count it; what must be carried is `(w - 1) D`.

    Args:
      width: `D`.
      kernel: `w`.
    """
    return check.count("width", width) * check.count("kernel", kernel)


def state_bytes(numbers: int, precision: int = 32) -> float:
    """Bytes of so many numbers.

    Args:
      numbers: in all layers.
      precision: bits of each.
    """
    return check.count("numbers", numbers, 0) * check.count("precision", precision) / 8
