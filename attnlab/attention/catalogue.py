"""The mechanisms by name, each a composition of slots."""

from __future__ import annotations

from attnlab.attention.columns import KeyBias, ZeroLogit
from attnlab.attention.maps import SOFTMAX, ReluOverPosition, Sigmoid
from attnlab.attention.weighted import Weighted

softmax = Weighted("softmax", SOFTMAX)
relu = Weighted("relu", ReluOverPosition())
sigmoid = Weighted("sigmoid", Sigmoid())
sigmoid_normalized = Weighted("sigmoid_normalized", Sigmoid(normalized=True))
softmax_off_by_one = Weighted("softmax_off_by_one", SOFTMAX, ZeroLogit())
key_bias = Weighted("key_bias", SOFTMAX, KeyBias())
kv_bias = Weighted("kv_bias", SOFTMAX, KeyBias(with_value=True))

MECHANISMS = (softmax, relu, sigmoid, sigmoid_normalized, softmax_off_by_one, key_bias, kv_bias)
