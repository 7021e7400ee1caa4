"""The metrics of Guo et al. and Gu et al. as loops over positions, float64, written from their definitions only."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


class Slow:
    """One layer and head: `A, logits [B, T, T]`, `v [B, T, K]`, `stream [B, T, D]`, `W_O [K, D]`, tokens `[B, T]`."""

    def __init__(self, A, logits, v, W_O, stream, tokens, triggers, bos, newline, null=None):
        as_float = (np.asarray(x, np.float64) for x in (A, logits, v, W_O, stream))
        self.A, self.logits, self.v, self.W_O, self.stream = as_float
        self.tokens, self.triggers, self.bos, self.newline = np.asarray(tokens), set(triggers), bos, newline
        self.null = None if null is None else np.asarray(null, np.float64)
        self.B, self.T = self.tokens.shape
        self.all = [(b, i) for b in range(self.B) for i in range(self.T)]

    def is_trigger(self, b, i):
        return int(self.tokens[b, i]) in self.triggers

    def ordinary(self, token):
        return token not in self.triggers and token != self.bos

    def dormant(self):
        return [(b, i) for b, i in self.all if not self.is_trigger(b, i)]

    def attention(self) -> dict[str, float]:
        on = {"triggers": lambda b, j: self.is_trigger(b, j), "newline": lambda b, j: self.tokens[b, j] == self.newline}
        found = {
            "bos_attention": mean([self.A[b, i, 0] for b, i in self.dormant()]),
            "bos_attention_later": mean([self.A[b, i, 0] for b, i in self.dormant() if i > 0]),
            "previous_attention": mean([self.A[b, i, i - 1] for b, i in self.all if i > 0 and self.is_trigger(b, i)]),
            "row_sum": mean([math.fsum(self.A[b, i]) for b, i in self.all]),
            "null_mass": 0.0 if self.null is None else mean([self.null[b, i] for b, i in self.all]),
            "dormant_mass_tokens": mean([math.fsum(self.A[b, i]) for b, i in self.dormant()]),
        }
        for name, test in on.items():
            rows = [math.fsum(self.A[b, i, j] for j in range(self.T) if test(b, j)) for b, i in self.dormant()]
            found[f"dormant_mass_{name}"] = mean(rows)
        return found

    def sink(self, num_keys: int, eps: float) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {}
        for name in ("", "_proxy"):
            alpha = np.zeros((self.B, num_keys))
            for b in range(self.B):
                for k in range(1, num_keys + 1):  # 1-based, as in the paper
                    column = []
                    for i in range(k, self.T + 1):
                        w = self.A[b, i - 1, k - 1]
                        column.append(abs(w) / (np.abs(self.A[b, i - 1]).sum() + 1e-8) if name else w)
                    alpha[b, k - 1] = math.fsum(column) / (self.T - k + 1)
            found[f"sink_mass{name}"] = list(alpha.mean(0))
            found[f"sink_rate{name}"] = [mean([float(a > eps) for a in alpha[:, k]]) for k in range(num_keys)]
        return found

    def by_token(self, quantity: dict[tuple[int, int], float], vocab: int, min_count: int) -> np.ndarray:
        out = np.full(vocab, np.nan)
        for token in range(vocab):
            mine = [x for (b, i), x in quantity.items() if self.tokens[b, i] == token]
            if len(mine) >= min_count:
                out[token] = mean(mine)
        return out

    def logit(self, vocab: int, min_count: int) -> dict[str, Any]:
        delta = {}
        for b, i in self.all:
            if i > 1:
                others = [self.logits[b, i, j] for j in range(1, i)]
                delta[b, i] = self.logits[b, i, 0] - math.fsum(others) / len(others)
        tokens = self.by_token(delta, vocab, min_count)
        ours = np.array([tokens[v] for v in range(vocab) if self.ordinary(v) and not np.isnan(tokens[v])])
        return {
            "sink_logit_by_token": tokens,
            "sink_logit": ours.mean(),
            "sink_logit_sd": ours.std(),
            "sink_logit_q10": np.quantile(ours, 0.1),
            "sink_logit_q90": np.quantile(ours, 0.9),
            "sink_logit_trigger": mean([x for place, x in delta.items() if self.is_trigger(*place)]),
        }

    def values(self, vocab: int, min_count: int) -> dict[str, Any]:
        norms = {(b, i): float(np.linalg.norm(self.v[b, i] @ self.W_O)) for b, i in self.all}
        tokens = self.by_token(norms, vocab, min_count)
        ordinary = [x for (b, i), x in norms.items() if self.ordinary(int(self.tokens[b, i]))]
        bos = mean([norms[b, 0] for b in range(self.B)])
        return {
            "value_norm_bos": bos,
            "value_norm_bos_raw": mean([float(np.linalg.norm(self.v[b, 0])) for b in range(self.B)]),
            "value_norm_ordinary": mean(ordinary),
            "value_norm_ordinary_median": np.nanmedian([tokens[v] for v in range(vocab) if self.ordinary(v)]),
            "value_norm_trigger": mean([x for place, x in norms.items() if self.is_trigger(*place)]),
            "value_norm_newline": mean([x for (b, i), x in norms.items() if self.tokens[b, i] == self.newline]),
            "value_ratio": bos / mean(ordinary),
            "value_norm_by_token": tokens,
        }

    def residual(self, vocab: int, min_count: int) -> dict[str, Any]:
        norms = {(b, i): float(np.linalg.norm(self.stream[b, i])) for b, i in self.all}
        bos = mean([norms[b, 0] for b in range(self.B)])
        other = mean([x for (_, i), x in norms.items() if i > 0])
        return {
            "residual_norm_bos": bos,
            "residual_norm_other": other,
            "residual_peak": bos - other,
            "residual_norm_by_token": self.by_token(norms, vocab, min_count),
        }
