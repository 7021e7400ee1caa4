"""Fast forms of single mechanisms, each held to its reference in `attnlab.attention`.

`local_linear_attention`, `lla_blockwise`: local linear attention, in loops or, with `pallas=`, by Pallas kernels.
`recurrence`, `delta_rule`, `by_kernel(mechanism)`: recurrences with one decay per head by a Pallas kernel.
"""

from attnlab.kernels.local_linear import Report as Report
from attnlab.kernels.local_linear import local_linear_attention as local_linear_attention
from attnlab.kernels.local_linear import solve_report as solve_report
from attnlab.kernels.mechanism import LocalLinearBlockwise as LocalLinearBlockwise
from attnlab.kernels.mechanism import lla_blockwise as lla_blockwise
from attnlab.kernels.recurrence import delta_rule as delta_rule
from attnlab.kernels.recurrence import recurrence as recurrence
from attnlab.kernels.recurrence_mechanism import RecurrentKernel as RecurrentKernel
from attnlab.kernels.recurrence_mechanism import by_kernel as by_kernel
from attnlab.kernels.recurrence_mechanism import delta_net_kernel as delta_net_kernel
from attnlab.kernels.recurrence_mechanism import gated_delta_net_kernel as gated_delta_net_kernel
from attnlab.kernels.recurrence_mechanism import linear_kernel as linear_kernel
from attnlab.kernels.solver import CG as CG
from attnlab.kernels.solver import EXACT as EXACT
from attnlab.kernels.solver import Solver as Solver
from attnlab.kernels.targets import INTERPRETED as INTERPRETED
from attnlab.kernels.targets import PALLAS as PALLAS
from attnlab.kernels.targets import Pallas as Pallas
