"""Attention mechanisms as pure functions with one contract (`base.Mechanism`)."""

from attnlab.attention.base import AttentionOutput as AttentionOutput
from attnlab.attention.base import Dims as Dims
from attnlab.attention.base import KVCache as KVCache
from attnlab.attention.base import Mechanism as Mechanism
from attnlab.attention.base import causal_mask as causal_mask
from attnlab.attention.catalogue import MECHANISMS as MECHANISMS
from attnlab.attention.catalogue import key_bias as key_bias
from attnlab.attention.catalogue import kv_bias as kv_bias
from attnlab.attention.catalogue import relu as relu
from attnlab.attention.catalogue import sigmoid as sigmoid
from attnlab.attention.catalogue import sigmoid_normalized as sigmoid_normalized
from attnlab.attention.catalogue import softmax as softmax
from attnlab.attention.catalogue import softmax_off_by_one as softmax_off_by_one
from attnlab.attention.columns import KeyBias as KeyBias
from attnlab.attention.columns import ZeroLogit as ZeroLogit
from attnlab.attention.maps import ReluOverPosition as ReluOverPosition
from attnlab.attention.maps import Sigmoid as Sigmoid
from attnlab.attention.maps import Softmax as Softmax
from attnlab.attention.weighted import Weighted as Weighted
from attnlab.attention.weighted import from_weights as from_weights
from attnlab.attention.weighted import named as named
