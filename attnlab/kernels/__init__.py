"""Fast forms of single mechanisms, each held to its reference in `attnlab.attention`."""

from attnlab.kernels.local_linear import Report as Report
from attnlab.kernels.local_linear import local_linear_attention as local_linear_attention
from attnlab.kernels.local_linear import solve_report as solve_report
from attnlab.kernels.mechanism import LocalLinearBlockwise as LocalLinearBlockwise
from attnlab.kernels.mechanism import lla_blockwise as lla_blockwise
from attnlab.kernels.solver import CG as CG
from attnlab.kernels.solver import EXACT as EXACT
from attnlab.kernels.solver import Solver as Solver
