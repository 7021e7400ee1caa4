"""Reading trained models: sinks, circuits, interventions, phases. A probe serves in training and on stored runs."""

from attnlab.analysis.base import Probe as Probe
from attnlab.analysis.base import evaluation_batch as evaluation_batch
from attnlab.analysis.sink_metric import proxy as proxy
from attnlab.analysis.sink_metric import sink_mass as sink_mass
from attnlab.analysis.sink_metric import sink_rate as sink_rate
from attnlab.analysis.sinks import Sinks as Sinks
from attnlab.analysis.sinks import measure as measure
from attnlab.analysis.sinks import sinks as sinks
