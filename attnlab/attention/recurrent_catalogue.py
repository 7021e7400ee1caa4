"""The mechanisms of the recurrent family by name, each a composition of slots."""

from __future__ import annotations

from attnlab.attention import features
from attnlab.attention.features import Each, Hedgehog, TruncatedExp
from attnlab.attention.gates import FixedDecay, StepSize, retention_rates, slope_rates
from attnlab.attention.readout import ExpGate, RowSum
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.rules import Delta, Hebb, InLine, StateSpace

linear = Recurrent("linear", feature=Each(features.elu_plus_one), normalizer=RowSum())
taylor = Recurrent("taylor", feature=TruncatedExp(2), normalizer=RowSum(1e-6))
hedgehog = Recurrent("hedgehog", feature=Hedgehog(), normalizer=RowSum())
inline = Recurrent("inline", InLine(), scale=None)
identity_kernel = Recurrent("identity_kernel", scale=None)
dsf_normalized = Recurrent("dsf_normalized", read=ExpGate())
retnet = Recurrent("retnet", Hebb(FixedDecay(retention_rates)), scale=None)
lightning = Recurrent("lightning", Hebb(FixedDecay(slope_rates)))
ssd = Recurrent("ssd", Hebb(StepSize()))
mamba2 = Recurrent("mamba2", StateSpace())
delta_net = Recurrent("delta_net", Delta(), Each(features.l2_silu))
gated_delta_net = Recurrent("gated_delta_net", Delta(StepSize((0.0, 16.0))), Each(features.l2_silu))

RECURRENT = (
    linear,
    taylor,
    hedgehog,
    inline,
    identity_kernel,
    dsf_normalized,
    retnet,
    lightning,
    ssd,
    mamba2,
    delta_net,
    gated_delta_net,
)
