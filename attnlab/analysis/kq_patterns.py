"""The probe of the pattern in the circuits of a model that regresses in context (definitions: `head_terms`)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from attnlab.analysis import head_terms
from attnlab.analysis.base import Dims
from attnlab.config import require


@dataclass(frozen=True)
class HeadPatterns:
    """`probe(model, params) -> {name: array}`: the pattern of every head of a model with `circuits(params)`.

    Outputs; all finite unless the parameters are not, but `homogeneity` (`kq_terms`):
      omega `[H]`, mu `[H, m]`, diagonal `[H, d]` (`Reading`).
      diagonality, homogeneity, identity_cosine, off_diagonal_norm, label_row_norm `[H]` (`kq_terms`).
      ov_purity `[H, m]`.
      zero_sum `[m]`: `sum_h mu_h`. eta `[m]`: `sum_h mu_h omega_h`, the step size, which is identified where the two
        factors are not. step_matrix `[m, d, d]`: the same with whole KQs.
      head_type `[H, m]`, num_positive, num_negative, num_mixed, num_averaging, num_dummy, same_sign, omega_spread `[m]`
        (`sign_terms`).
      ov_positive, ov_negative `[D, m]`, mu_positive, mu_negative, purity_positive, purity_negative `[m]`
        (`group_terms`).
      with `matrices`: kq `[H, D, D]` with its unidentified columns, ov `[H, D, m]`.

    Attributes:
      threshold: relative to the largest head, what counts as 0 (`head_types`).
      matrices: give KQ and OV too.
    """

    threshold: float = 0.1
    matrices: bool = False

    def __post_init__(self) -> None:
        require(0 <= self.threshold < 1, "threshold", self.threshold, "a number >= 0 and < 1")

    def __call__(self, model: Any, params: Any) -> dict[str, Array]:
        require(hasattr(model, "circuits"), "model", model, "a model with circuits(params)")
        kq, ov = model.circuits(params)
        head = head_terms.read_heads(kq, ov)
        signs = head_terms.sign_terms(head.omega, head.mu, self.threshold)
        return {
            **head._asdict(),
            **head_terms.kq_terms(kq, ov.shape[-1]),
            "ov_purity": head_terms.ov_purity(ov),
            "zero_sum": jnp.sum(head.mu, axis=-2),
            "eta": jnp.sum(head.mu * head.omega[..., None], axis=-2),
            "step_matrix": head_terms.step_matrix(kq, head.mu),
            **signs,
            **head_terms.group_terms(ov, signs["head_type"]),
            **({"kq": kq, "ov": ov} if self.matrices else {}),
        }

    def dims(self, names: Iterable[str]) -> Dims:
        """Names of the axes of each output."""
        return {name: _DIMS.get(name, ("output",)) for name in names}


_DIMS: Dims = {
    **dict.fromkeys(
        ("omega", "diagonality", "homogeneity", "identity_cosine", "off_diagonal_norm", "label_row_norm"), ("head",)
    ),
    **dict.fromkeys(("mu", "ov_purity", "head_type"), ("head", "output")),
    "diagonal": ("head", "coordinate"),
    "step_matrix": ("output", "query_coordinate", "coordinate"),
    **dict.fromkeys(("ov_positive", "ov_negative"), ("token_coordinate", "output")),
    "kq": ("head", "token_coordinate", "query_token_coordinate"),
    "ov": ("head", "token_coordinate", "output"),
}


def head_patterns(threshold: float = 0.1, matrices: bool = False) -> HeadPatterns:
    """The probe of KQ and OV patterns; see `HeadPatterns` for its outputs.

    Example:
      record = {"heads": every(1000, head_patterns())}
    """
    return HeadPatterns(threshold, matrices)
