"""Studies: papers as tables of claims. `STUDIES` holds them; importing it loads no jax."""

from attnlab.studies.active_dormant import STUDY as _active_dormant
from attnlab.studies.associative_memory import STUDY as _associative_memory
from attnlab.studies.associative_recall import STUDY as _associative_recall
from attnlab.studies.circuits import STUDY as _circuits
from attnlab.studies.deconstructing import STUDY as _deconstructing
from attnlab.studies.dsf import STUDY as _dsf
from attnlab.studies.gated import STUDY as _gated
from attnlab.studies.grounding import STUDY as _grounding
from attnlab.studies.hedgehog import STUDY as _hedgehog
from attnlab.studies.icl_regression import STUDY as _icl_regression
from attnlab.studies.injectivity import STUDY as _injectivity
from attnlab.studies.interactions import STUDY as _interactions
from attnlab.studies.length_extrapolation import STUDY as _length_extrapolation
from attnlab.studies.local_linear import STUDY as _local_linear
from attnlab.studies.probing import STUDY as _probing
from attnlab.studies.retrieval_heads import STUDY as _retrieval_heads
from attnlab.studies.sinks_by_mechanism import STUDY as _sinks_by_mechanism
from attnlab.studies.state_tracking import STUDY as _state_tracking
from attnlab.studies.task_vectors import STUDY as _task_vectors
from attnlab.studies.visual_search import STUDY as _visual_search

STUDIES = (
    _active_dormant,
    _icl_regression,
    _sinks_by_mechanism,
    _gated,
    _hedgehog,
    _length_extrapolation,
    _associative_memory,
    _dsf,
    _deconstructing,
    _injectivity,
    _associative_recall,
    _local_linear,
    _state_tracking,
    _visual_search,
    _retrieval_heads,
    _circuits,
    _grounding,
    _probing,
    _interactions,
    _task_vectors,
)


def find(name: str):
    """The study called `name`."""
    for study in STUDIES:
        if study.name == name:
            return study
    raise ValueError(f"study: got {name!r}; allowed is {', '.join(s.name for s in STUDIES)} (see `attnlab list`).")
