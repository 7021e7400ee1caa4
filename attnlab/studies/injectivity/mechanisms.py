"""Kernels divided by their sum, and the same kernels centred (InLine)."""

from attnlab import attention
from attnlab.attention.features import Each, relu
from attnlab.attention.readout import RowSum
from attnlab.attention.recurrent import Recurrent
from attnlab.attention.recurrent_catalogue import inline, linear_relu
from attnlab.attention.rules import InLine

identity_divided = Recurrent("identity_divided", normalizer=RowSum(), scale=None)
inline_relu = Recurrent("inline_relu", InLine(), Each(relu), scale=None)
RECALL = {
    "softmax": attention.softmax,
    "inline": inline,
    "inline_relu": inline_relu,
    "linear_relu": linear_relu,
    "identity_divided": identity_divided,
    "uniform": attention.uniform,
}
LADDER = {"uniform": attention.uniform, "inline": inline, "softmax": attention.softmax}
