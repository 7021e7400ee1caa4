"""The mechanisms of the recurrent family by name, each a composition of slots.

Around the recurrence the papers have short convolutions, norms and gates of the output, which are options of the model.
"""

from __future__ import annotations

from attnlab.attention import features
from attnlab.attention.channels import S6, QLstm, RgLru
from attnlab.attention.features import (
    CosFormer,
    Dpfp,
    Each,
    Exp,
    Favor,
    Hadamard,
    Hedgehog,
    MlpKernel,
    Rebased,
    ReluAffine,
    TruncatedExp,
)
from attnlab.attention.gates import (
    Beta,
    ChannelSigmoid,
    ChannelStepSize,
    FixedBeta,
    FixedDecay,
    StepSize,
    retention_rates,
    slope_rates,
)
from attnlab.attention.mesa import Mesa
from attnlab.attention.readout import ExpGate, OverCount, RowSum, RowSumAtLeast, log_spaced_offsets, softplus
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Bcm, Comba, Delta, DeltaProduct, Hebb, InLine, Oja, StateSpace
from attnlab.attention.rwkv import Hgrn2, Rwkv6, Rwkv7
from attnlab.attention.ttt import TTTLinear

SUM = RowSum()
ELU = Each(features.elu_plus_one)
UNIT = Each(features.l2_silu)
GATED = StepSize((0.0, 16.0))

# Kernels: a feature map, a row normaliser, no decay.
linear = Recurrent("linear", feature=ELU, normalizer=SUM)
linear_relu = Recurrent("linear_relu", feature=Each(features.relu), normalizer=SUM)
t2r = Recurrent("t2r", feature=ReluAffine(), normalizer=SUM)
cosformer = Recurrent("cosformer", feature=CosFormer(), normalizer=SUM)
performer = Recurrent("performer", feature=Favor(), normalizer=SUM)
linear_exp = Recurrent("linear_exp", feature=Each(Exp()), normalizer=SUM)
taylor = Recurrent("taylor", feature=TruncatedExp(2), normalizer=RowSum(1e-6), chunk=64)
rebased = Recurrent("rebased", feature=Rebased(), normalizer=RowSum(1e-6))
dpfp = Recurrent("dpfp", feature=Each(Dpfp()), normalizer=SUM)
hadamard = Recurrent("hadamard", feature=Hadamard())
hedgehog = Recurrent("hedgehog", feature=Hedgehog(), normalizer=SUM)
hedgehog_split = Recurrent(
    "hedgehog_split", feature=Hedgehog(features.split, 1.0, bias=False), normalizer=RowSum(1e-12)
)
elu_kernel = Recurrent("elu_kernel", feature=ELU, scale=None)
identity_kernel = Recurrent("identity_kernel", scale=None)
identity_kernel_mean = Recurrent("identity_kernel_mean", read=OverCount(), scale=None)
mlp_kernel = Recurrent("mlp_kernel", feature=MlpKernel(), scale=None)
mlp_kernel_normalized = Recurrent("mlp_kernel_normalized", feature=MlpKernel(), normalizer=RowSumAtLeast(), scale=None)
inline = Recurrent("inline", InLine(), scale=None)
dsf_normalized = Recurrent("dsf_normalized", read=ExpGate())
dsf_softplus = Recurrent("dsf_softplus", feature=ELU, read=ExpGate(softplus, log_spaced_offsets), scale=None)

# Decays: fixed, of the token, per head, per channel.
retnet = Recurrent("retnet", Hebb(FixedDecay(retention_rates)), scale=None)
lightning = Recurrent("lightning", Hebb(FixedDecay(slope_rates)), Each(features.silu))
ssd = Recurrent("ssd", Hebb(StepSize()))
mamba2 = Recurrent("mamba2", StateSpace())
gla = Recurrent("gla", Hebb(ChannelSigmoid()), chunk=8)
hgrn2 = Recurrent("hgrn2", Hgrn2(), chunk=8)
rwkv6 = Recurrent("rwkv6", Rwkv6(), chunk=8)

# Learning rules: what is written corrects what is stored.
hebb = Recurrent("hebb")
anti_hebb = Recurrent("anti_hebb", Hebb(beta=FixedBeta(-1.0)))
bcm = Recurrent("bcm", Bcm())
oja = Recurrent("oja", Oja(), Each(features.l2))
gated_oja = Recurrent("gated_oja", Oja(ChannelSigmoid(), chunk=8), Each(features.l2))
nlms = Recurrent("nlms", Delta(normalized=True))
delta_net = Recurrent("delta_net", Delta(), UNIT)
delta_net_negative = Recurrent("delta_net_negative", Delta(beta=Beta(2.0)), UNIT)
gated_delta_net = Recurrent("gated_delta_net", Delta(GATED), UNIT)
kda = Recurrent("kda", Delta(ChannelStepSize()), UNIT, chunk=8)
delta_product = Recurrent("delta_product", DeltaProduct(2, GATED), UNIT)
comba = Recurrent("comba", Comba(GATED), UNIT)
rwkv7 = Recurrent("rwkv7", Rwkv7(), chunk=8)
mesa = Recurrent("mesa", Mesa(), UNIT)
ridge = Recurrent("ridge", Mesa(gated=False))
# Not linear in the values: no mixing matrix.
ttt_linear = TTTLinear("ttt_linear")

# A recurrence per channel; their states are small, and token by token is fastest on a CPU.
s6 = Recurrent("s6", S6(), chunk=None)
qlstm = Recurrent("qlstm", QLstm(), chunk=None)
qlstm_reversed = Recurrent("qlstm_reversed", QLstm(reverse=True), chunk=None)
rg_lru = Recurrent("rg_lru", RgLru(), chunk=None)

KERNELS = (
    linear,
    linear_relu,
    t2r,
    cosformer,
    performer,
    linear_exp,
    taylor,
    rebased,
    dpfp,
    hadamard,
    hedgehog,
    hedgehog_split,
    elu_kernel,
    identity_kernel,
    identity_kernel_mean,
    mlp_kernel,
    mlp_kernel_normalized,
    inline,
    dsf_normalized,
    dsf_softplus,
)
DECAYS = (retnet, lightning, ssd, mamba2, gla, hgrn2, rwkv6)
LEARNING_RULES = (
    hebb,
    anti_hebb,
    bcm,
    oja,
    gated_oja,
    nlms,
    delta_net,
    delta_net_negative,
    gated_delta_net,
    kda,
    delta_product,
    comba,
    rwkv7,
    mesa,
    ridge,
)
PER_CHANNEL = (s6, qlstm, qlstm_reversed, rg_lru)
SCANS = (*KERNELS, *DECAYS, *LEARNING_RULES, *PER_CHANNEL)
RECURRENT = (*SCANS, ttt_linear)
