"""The measures of mixing matrices as loops over queries and keys, float64, written from their definitions only."""

from __future__ import annotations

import math

import numpy as np

NAN = math.nan


def sizes(A, mask):
    """`|A|` where visible, as a list of rows."""
    A = np.abs(np.where(mask, np.asarray(A, np.float64), 0.0))
    return [list(row) for row in A]


def share(row):
    total = math.fsum(row)
    return None if total == 0 else [x / total for x in row]


def entropy(row):
    p = share(row)
    return NAN if p is None else -math.fsum(x * math.log(x) for x in p if x > 0)


def evenness(row, seen):
    count = int(sum(seen))
    return entropy(row) / math.log(count) if count > 1 else NAN


def spikiness(row, seen):
    p = share(row)
    return NAN if p is None else 1 / (int(sum(seen)) * math.fsum(x * x for x in p))


def rows(A, mask, eps=0.0):
    """Every row measure of one map `[T, U]`, each a list over `T`."""
    size = sizes(A, mask)
    signed = np.where(mask, np.asarray(A, np.float64), 0.0)
    return {
        "signed": [math.fsum(row) for row in signed],
        "absolute": [math.fsum(row) for row in size],
        "entropy": [entropy(row) for row in size],
        "evenness": [evenness(row, seen) for row, seen in zip(size, mask, strict=True)],
        "spikiness": [spikiness(row, seen) for row, seen in zip(size, mask, strict=True)],
        "support": [float(sum(x > eps for x in row)) for row in size],
    }


def frobenius(A, mask):
    return math.sqrt(math.fsum(x * x for row in sizes(A, mask) for x in row))


def on_key(A, mask, key):
    """Share and mass of one key, per query."""
    size = sizes(A, mask)
    shares = [share(row) for row in size]
    return [NAN if p is None else p[key] for p in shares], [row[key] for row in size]


def local(A, offset):
    """`A[i, i - offset]`, queries last; NaN without such a key."""
    T, U = np.shape(A)
    places = [i + U - T - offset for i in range(T)]
    return [float(A[i][j]) if j >= 0 else NAN for i, j in enumerate(places)]


def window(A, width):
    T, U = np.shape(A)
    return [math.fsum(A[i][j] for j in range(U) if 0 <= i + U - T - j < width) for i in range(T)]


def diversity(A, mask):
    """`A [H, T, U]`."""
    A = np.asarray(A, np.float64)
    stds = [np.std(A[:, i, j]) for i in range(A.shape[1]) for j in range(A.shape[2]) if mask[i][j]]
    return math.fsum(stds) / len(stds) if stds else NAN


def kl(A, teacher, mask, floor):
    """Cross entropy less entropy, per query."""
    found = []
    for own, wanted in zip(sizes(A, mask), sizes(teacher, mask), strict=True):
        p, a = share(wanted), share(own) or [0.0] * len(own)
        if p is None:
            found.append(NAN)
            continue
        held = [max(x, floor) for x in a]
        if any(x > 0 and y == 0 for x, y in zip(p, held, strict=True)):
            found.append(math.inf)
            continue
        cross = -math.fsum(x * math.log(y) for x, y in zip(p, held, strict=True) if x > 0)
        found.append(cross - entropy(wanted))
    return found
