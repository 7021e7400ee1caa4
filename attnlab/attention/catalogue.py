"""The mechanisms by name, each a composition of slots.

Names that mean several things in the literature, and what they mean here:

- `ssa` is Selective Self-Attention, a temperature (2411.12892). "Selective attention" is also a parameter-free masking
  (2410.02703, not here), and "selective" a property of the recurrences of Mamba (`s6`).
- `softmax+gate` and its kin are gated attention as output, value, key, query or dense gates (2505.06708); gated linear
  attention (decays of a linear state) and the gated attention unit are other things.
- `identity_map` is `q . k / sqrt(K)` itself as weight. The code of 2410.10781 calls it linear kernel; it is
  not linear attention with a feature map such as `elu + 1`. `identity` is the map `A = 1` (each token sees itself).
- `cosine` and `qk_norm` normalise queries and keys. "Normalised attention" (2405.15731) scales linear attention by
  `exp(-w . x)` instead.

Registers, the gated MLP in the place of attention, and second streams of queries and keys (RndEmb, FixedSeq, StaticEmb)
belong to the model, not to a mechanism.
"""

from __future__ import annotations

from math import log

from attnlab.attention import maps
from attnlab.attention.columns import KeyBias, SinkLogit, ZeroLogit
from attnlab.attention.difference import Differential, initial_lambda
from attnlab.attention.gated import Gated
from attnlab.attention.maps import (
    SOFTMAX,
    Length,
    Normalized,
    Pointwise,
    ReluOverPosition,
    Sigmoid,
    Softpick,
    Top,
    abs_sum_or_one,
    count,
    elu_plus_one,
    linear,
    log_softplus,
    logistic,
    root_count,
    row_sum,
    second_order,
    squared_relu,
)
from attnlab.attention.posts import LocalLinear, Parallax, Reweight
from attnlab.attention.scores import Buckets, Itself, OffsetTable, PositionTable, Zero
from attnlab.attention.simplex import AdaptiveEntmax, Entmax15, Sparsemax
from attnlab.attention.tempers import LearnedTemper, LogCount, LogWidthLogCount, PositionTemper, SelectiveTemper
from attnlab.attention.tokens import (
    Alibi,
    Chain,
    Features,
    Forget,
    KeyOnly,
    MLPFeatures,
    QKNorm,
    Unit,
    ValueTemper,
)
from attnlab.attention.weighted import Weighted, named
from attnlab.attention.wrappers import HeadNorm

# Softmax and what changes its logits.
softmax = Weighted("softmax", SOFTMAX)
qk_norm = named(softmax, "qk_norm", tokens=QKNorm("rmsnorm"))
qk_layernorm = named(softmax, "qk_layernorm", tokens=QKNorm("layernorm"))
cosine = named(softmax, "cosine", tokens=Unit(), scale=1.0, temper=LearnedTemper(initial=8.0))
soft_cap = named(softmax, "soft_cap", cap=50.0)
log_count = named(softmax, "log_count", temper=LogCount(64))
alibi = named(softmax, "alibi", tokens=Alibi())
relative = named(softmax, "relative", score=Buckets())
ssa = named(softmax, "ssa", tokens=ValueTemper(), temper=SelectiveTemper())
ssa_query = named(softmax, "ssa_query", temper=SelectiveTemper())
ssa_position = named(softmax, "ssa_position", temper=PositionTemper())
ssa_top = Weighted("ssa_top", Top())
forgetting = named(softmax, "forgetting", tokens=Forget())

# Softmax that need not sum to 1 over tokens.
softmax_off_by_one = Weighted("softmax_off_by_one", SOFTMAX, ZeroLogit())
sink_logit = Weighted("sink_logit", SOFTMAX, SinkLogit())
key_bias = Weighted("key_bias", SOFTMAX, KeyBias())
kv_bias = Weighted("kv_bias", SOFTMAX, KeyBias(with_value=True))
value_bias = named(softmax, "value_bias", value_bias=True)

# Other maps of the same logits.
relu = Weighted("relu", ReluOverPosition())
squared_relu_over_position = Weighted("squared_relu", Pointwise(squared_relu, count))
sigmoid = Weighted("sigmoid", Sigmoid())
sigmoid_normalized = Weighted("sigmoid_normalized", Sigmoid(normalized=True))
sigmoid_log_count = Weighted("sigmoid_log_count", Sigmoid(bias=None))
sigmoid_over_count = Weighted("sigmoid_over_count", Pointwise(logistic, count))
sigmoid_over_root = Weighted("sigmoid_over_root", Pointwise(logistic, root_count))
elu = Weighted("elu", Pointwise(elu_plus_one))
identity_map = Weighted("identity_map", Pointwise(linear))
identity_map_over_count = Weighted("identity_map_over_count", Pointwise(linear, count))
# Kernels pair by pair; `linear`, `mlp_kernel`, `mlp_kernel_normalized` are the same as recurrences.
elu_kernel_quadratic = Weighted("elu_kernel_quadratic", Pointwise(linear, row_sum), tokens=Features(elu_plus_one))
mlp_kernel_quadratic = Weighted("mlp_kernel_quadratic", Pointwise(linear), tokens=MLPFeatures())
mlp_kernel_normalized_quadratic = Weighted(
    "mlp_kernel_normalized_quadratic", Pointwise(linear, abs_sum_or_one), tokens=MLPFeatures()
)
softpick = Weighted("softpick", Softpick())
sparsemax = Weighted("sparsemax", Sparsemax())
entmax15 = Weighted("entmax15", Entmax15())
entmax = Weighted("entmax", AdaptiveEntmax())
lssa = Weighted("lssa", Normalized(log_softplus), scale=1.0, tokens=Unit(), temper=LogWidthLogCount())
lssar = named(lssa, "lssar", post=Reweight(15.0))
lssar_3 = named(lssa, "lssar_3", post=Reweight(3.0))
differential_unnormalized = Differential("differential_unnormalized")

# Less than attention (2510.11602), and maps that are the same for every input.
approximate = Weighted("approximate", Pointwise(second_order, row_sum))
non_approximate = named(softmax, "non_approximate", tokens=KeyOnly(), scale=1.0)
uniform = named(softmax, "uniform", score=Zero())
offset_table = named(softmax, "offset_table", score=OffsetTable(128))
position_table = named(softmax, "position_table", score=PositionTable(128))
identity = Weighted("identity", Pointwise(linear), score=Itself())

# Regression with the softmax weights.
parallax = named(softmax, "parallax", post=Parallax())
lla = named(softmax, "lla", post=LocalLinear())


def sigmoid_for(length: int) -> Weighted:
    """`sigmoid(l - log length)`, one bias for all rows (2409.04431)."""
    return Weighted(f"sigmoid_{length}", Sigmoid(bias=-log(length)))


def relu_for(length: int) -> Weighted:
    """`max(l, 0) / length`, one divisor for all rows (2309.08586)."""
    return Weighted(f"relu_{length}", Pointwise(maps.relu, Length(length)))


def differential_at(layer: int) -> HeadNorm:
    """Differential attention of layer `layer`, from 0, with the norm of heads that belongs to it (2410.05258)."""
    initial = initial_lambda(layer)
    inner = Differential("differential_unnormalized", initial=initial)
    return HeadNorm(inner, 1 - initial, label="differential" if layer == 0 else f"differential_{layer}")


differential = differential_at(0)

# Gates (2505.06708).
output_gated = Gated(softmax)
head_gated = Gated(softmax, per="head")
value_gated = Gated(softmax, "value")
key_gated = Gated(softmax, "key")
query_gated = Gated(softmax, "query")
dense_gated = Gated(softmax, "dense")
forgetting_gated = Gated(named(forgetting, "forgetting_qk_norm", tokens=Chain((QKNorm(), Forget()))))

WEIGHTED = (
    softmax,
    relu,
    sigmoid,
    sigmoid_normalized,
    softmax_off_by_one,
    key_bias,
    kv_bias,
    qk_norm,
    qk_layernorm,
    cosine,
    soft_cap,
    log_count,
    alibi,
    relative,
    ssa,
    ssa_query,
    ssa_position,
    ssa_top,
    forgetting,
    sink_logit,
    value_bias,
    squared_relu_over_position,
    sigmoid_log_count,
    sigmoid_over_count,
    sigmoid_over_root,
    elu,
    identity_map,
    identity_map_over_count,
    elu_kernel_quadratic,
    mlp_kernel_quadratic,
    mlp_kernel_normalized_quadratic,
    softpick,
    sparsemax,
    entmax15,
    entmax,
    lssa,
    lssar,
    lssar_3,
    differential,
    approximate,
    non_approximate,
    uniform,
    offset_table,
    position_table,
    identity,
    parallax,
    lla,
    output_gated,
    head_gated,
    value_gated,
    key_gated,
    query_gated,
    dense_gated,
    forgetting_gated,
)
