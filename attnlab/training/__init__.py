"""Training: many seeds, fused steps, uneven records, resumable."""

from attnlab.training.aligned import Aligned as Aligned
from attnlab.training.cells import Cell as Cell
from attnlab.training.cells import grid as grid
from attnlab.training.distill import Distilled as Distilled
from attnlab.training.distill import distill as distill
from attnlab.training.distill import swapped as swapped
from attnlab.training.flow import gradient_flow as gradient_flow
from attnlab.training.loop import Run as Run
from attnlab.training.loop import resume as resume
from attnlab.training.loop import run as run
from attnlab.training.optimizers import adam as adam
from attnlab.training.optimizers import adamw as adamw
from attnlab.training.optimizers import sgd as sgd
from attnlab.training.record import at as at
from attnlab.training.record import every as every
from attnlab.training.record import log_spaced as log_spaced
from attnlab.training.record import params as params
from attnlab.training.settings import RunConfig as RunConfig
from attnlab.training.settings import load_config as load_config
from attnlab.training.sweep import Measure as Measure
from attnlab.training.sweep import resume_sweep as resume_sweep
from attnlab.training.sweep import sweep as sweep
from attnlab.training.sweep_folder import Sweep as Sweep
from attnlab.training.sweep_folder import open_sweep as open_sweep
from attnlab.training.table import best as best
