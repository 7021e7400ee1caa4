"""Tiny transformers and the papers' reduced models."""

from attnlab.models.factored import Factored as Factored
from attnlab.models.induction_weights import induction_weights as induction_weights
from attnlab.models.linear_attention import LinearAttention as LinearAttention
from attnlab.models.pointer import Pointer as Pointer
from attnlab.models.probes import AttentionProbe as AttentionProbe
from attnlab.models.probes import EfficientProbe as EfficientProbe
from attnlab.models.probes import MeanProbe as MeanProbe
from attnlab.models.prompts import Circuits as Circuits
from attnlab.models.reduced import BackcopyReduced as BackcopyReduced
from attnlab.models.regression_attention import RegressionAttention as RegressionAttention
from attnlab.models.streams import FixedStream as FixedStream
from attnlab.models.streams import RandomStream as RandomStream
from attnlab.models.streams import StaticEmbedding as StaticEmbedding
from attnlab.models.tapped import Tapped as Tapped
from attnlab.models.transformer import Transformer as Transformer
