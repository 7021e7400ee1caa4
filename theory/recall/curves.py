"""Laws of recall as `Prediction` values, ready to be laid beside a measured curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from theory import _checks as check
from theory.base import Prediction
from theory.recall.decoding import recall_accuracy
from theory.recall.edges import Order
from theory.recall.information import accuracy_bound
from theory.recall.memories import Memory
from theory.recall.rates import SIZES, Place, Target, rates
from theory.recall.stream import (
    DeltaRule,
    LocalConstant,
    LocalLinear,
    Mesa,
    PastMemory,
    Stream,
    stream_mean,
    stream_risk,
)
from theory.references import LOCAL_LINEAR, PAVLOVIAN, RECALL_THROUGHPUT, ZOOLOGY

_RATES = LOCAL_LINEAR.at("rates of softmax and local linear attention; finite forms derived here")
_STREAM = LOCAL_LINEAR.at("test-time regression on a piecewise linear stream; forms derived here")
_DECODE = ZOOLOGY.at("multi-query associative recall with fixed embeddings; law derived here")
_BITS = RECALL_THROUGHPUT.at("recall against size of the state; bound derived here")


def predict_rates(
    order: Order,
    place: Place,
    target: Target | None = None,
    sizes: Sequence[int] = SIZES,
    draws: int = 24,
    *,
    seed: int = 0,
) -> Prediction:
    """Squared error at the best bandwidth: steps are numbers of covariates, values `[N]`, band of four standard errors.

    Args: of `theory.recall.rates`.
    """
    found = rates(order, place, target, sizes, draws, seed=seed)
    assumptions = (
        "steps are numbers of pairs",
        "one dimension, covariates uniform on an interval, Gaussian kernel of the best width at each number",
        "the error is of the curve, label noise at the query not counted",
    )
    band = (found.risk - 4 * found.error, found.risk + 4 * found.error)
    name = f"error of local {order} regression, {place} of the interval"
    return Prediction(name, found.sizes, found.risk, band, _RATES, assumptions)


def predict_recall(
    memory: Memory, pairs: ArrayLike, width: int, vocab: int, draws: int = 8, *, seed: int = 0, **options
) -> Prediction:
    """Share of right answers among all `V` values: steps are `n`, values `[N]`, band of .03 and four standard errors.

    Args: of `theory.recall.recall_accuracy`, with `[N]` increasing `pairs`.
    """
    loads = check.times("pairs", check.whole("pairs", pairs), 1.0)
    found = np.array([recall_accuracy(memory, int(n), width, vocab, draws, seed=seed, **options) for n in loads])
    values, slack = found[:, 0], 0.03 + 4 * found[:, 1]
    band = (np.maximum(values - slack, 0.0), np.minimum(values + slack, 1.0))
    assumptions = (
        "steps are numbers of stored pairs",
        "keys and values are independent random unit vectors of one width; every stored key is read once, exactly",
        "the answer is the value of largest inner product with the read, of all V",
        "widths of 32 and above: the competition of stored values is taken as independent",
    )
    return Prediction(f"recall accuracy of the {memory} memory", loads, values, band, _DECODE, assumptions)


def predict_recall_bound(bits: ArrayLike, pairs: int, vocab: int, distinct: bool = False) -> Prediction:
    """The largest share of right answers that a state can hold: steps are bits, values `[N]`, band from chance to it.

    Args: of `theory.recall.accuracy_bound`, with `[N]` increasing `bits`.
    """
    sizes = check.times("bits", bits)
    values = accuracy_bound(sizes, pairs, vocab, distinct)
    kind = "distinct" if distinct else "independent"
    assumptions = (
        "steps are bits of state at the end of the pairs, all layers",
        f"values are {kind} and even over all V; what is asked comes after the state",
    )
    band = (np.minimum(1 / vocab, values), values)
    return Prediction(f"bound of the recall of {pairs} pairs", sizes, values, band, _BITS, assumptions)


def stream_memories(bandwidth: float, ridge: float = 1e-3) -> dict[str, PastMemory]:
    """The four memories that are compared: `mesa`, `delta`, `softmax`, `lla`.

    Args:
      bandwidth: of `softmax` and `lla`.
      ridge: of `mesa` and `lla`.
    """
    return {
        "mesa": Mesa(ridge),
        "delta": DeltaRule(),
        "softmax": LocalConstant(bandwidth),
        "lla": LocalLinear(bandwidth, ridge),
    }


class StreamSummary(NamedTuple):
    """Mean squares of one memory over parts of a stream; each row is (mean, standard error, spread of one stream).

    Attributes:
      total: all steps.
      first: the first segment.
      last: the last 32 steps.
    """

    total: tuple[float, float, float]
    first: tuple[float, float, float]
    last: tuple[float, float, float]


def stream_summaries(
    stream: Stream, memories: Mapping[str, PastMemory], draws: int = 8, *, seed: int = 0
) -> dict[str, StreamSummary]:
    """What each memory pays, mean over draws of the keys, exact over maps and noise.

    The spread of one stream joins that over keys with that over maps and noise (values of `d` entries).

    Args:
      stream: the data.
      memories: by name; all see the same keys.
      draws: of the keys, at least 2.
      seed: of NumPy's generator.
    """
    parts = ((0, None), (0, stream.segment), (max(stream.length - 32, 0), None))
    means = {name: np.zeros((check.count("draws", draws, 2), 3, 2)) for name in memories}
    rng = np.random.default_rng(seed)
    for draw in range(draws):
        keys = stream.keys(rng)
        for name, memory in memories.items():
            weights = memory.weights(keys)
            means[name][draw] = [stream_mean(stream, keys, weights, a, b, stream.dim) for a, b in parts]
    out = {}
    for name, found in means.items():
        mean, keys_spread = found[:, :, 0].mean(axis=0), found[:, :, 0].std(axis=0, ddof=1)
        spread = np.sqrt(keys_spread**2 + np.mean(found[:, :, 1] ** 2, axis=0))
        rows = [
            (float(m), float(s / np.sqrt(draws)), float(w)) for m, s, w in zip(mean, keys_spread, spread, strict=True)
        ]
        out[name] = StreamSummary(*rows)
    return out


def predict_stream(
    stream: Stream, memories: Mapping[str, PastMemory], draws: int = 8, *, seed: int = 0
) -> dict[str, Prediction]:
    """Expected squared error at every step: steps are positions, values `[n]`, band of four standard errors over keys.

    Args: of `stream_summaries`.
    """
    found = {name: np.zeros((check.count("draws", draws, 2), stream.length)) for name in memories}
    rng = np.random.default_rng(seed)
    for draw in range(draws):
        keys = stream.keys(rng)
        for name, memory in memories.items():
            found[name][draw] = stream_risk(stream, keys, memory.weights(keys))
    assumptions = (
        "steps are positions in the stream; each value is predicted from the pairs before it, without training",
        "keys are even around the mean of their segment, maps are Gaussian; errors are per entry of the value",
    )
    out = {}
    for name, risks in found.items():
        mean, slack = risks.mean(axis=0), 4 * risks.std(axis=0, ddof=1) / np.sqrt(draws)
        band = (mean - slack, mean + slack)
        out[name] = Prediction(
            f"error of {name} along a stream", np.arange(len(mean), dtype=np.float64), mean, band, _STREAM, assumptions
        )
    return out


def predict_stream_ratio(
    streams: Sequence[tuple[Stream, float]], over: str, under: str = "lla", draws: int = 8, *, seed: int = 0
) -> Prediction:
    """The total of one memory over that of another, by dimension: steps are `d`, values `[N]`. Above 1: `under` wins.

    Args:
      streams: `[N]` pairs of a stream and a bandwidth, of increasing dimension.
      over: of `stream_memories`.
      under: of `stream_memories`.
      draws: of the keys.
      seed: of NumPy's generator.
    """
    names = tuple(stream_memories(1.0))
    for field, name in (("over", over), ("under", under)):
        check.choice(field, name, names)
    ratios = []
    for stream, bandwidth in streams:
        every = stream_memories(bandwidth)
        found = stream_summaries(stream, {name: every[name] for name in {over, under}}, draws, seed=seed)
        ratios.append(found[over].total[0] / found[under].total[0])
    dims = check.times("dimensions", [stream.dim for stream, _ in streams], 1.0)
    assumptions = (
        "steps are dimensions of the keys",
        "a ratio of means over streams; single streams vary",
    )
    return Prediction(f"error of {over} over that of {under}", dims, np.array(ratios), None, _STREAM, assumptions)


def predict_snr(pairs: ArrayLike, width: int) -> Prediction:
    """Signal over noise of a Hebb read, `d / (n - 1)`: steps are `n`, values `[N]`.

    Args:
      pairs: `[N]` increasing, at least 2.
      width: `d`.
    """
    loads = check.times("pairs", check.whole("pairs", pairs, 2), 2.0)
    assumptions = ("steps are numbers of stored pairs", "keys are independent random unit vectors, values of one norm")
    values = check.count("width", width) / (loads - 1)
    return Prediction("signal to noise of the Hebb memory", loads, values, None, PAVLOVIAN, assumptions)
