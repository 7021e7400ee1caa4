"""Fast forms of single mechanisms, each held to its reference in `attnlab.attention`.

`attention` and `row_maps`: attention with any map that can be taken in blocks; `blockwise(mechanism)`: the same in a
model. `local_linear_attention`, `lla_blockwise`: local linear attention, in loops or, with `pallas=`, Pallas kernels.
`recurrence`, `delta_rule`, `by_kernel(mechanism)`: recurrences with one decay per head by a Pallas kernel.
"""

from attnlab.kernels import row_maps as row_maps
from attnlab.kernels.blockwise import Blockwise as Blockwise
from attnlab.kernels.blockwise import GatedBlockwise as GatedBlockwise
from attnlab.kernels.blockwise import blockwise as blockwise
from attnlab.kernels.call import Blocks as Blocks
from attnlab.kernels.call import sigmoid_gate as sigmoid_gate
from attnlab.kernels.dispatch import Choice as Choice
from attnlab.kernels.dispatch import attention as attention
from attnlab.kernels.dispatch import which as which
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
from attnlab.kernels.row_maps import RowMap as RowMap
from attnlab.kernels.solver import CG as CG
from attnlab.kernels.solver import EXACT as EXACT
from attnlab.kernels.solver import Solver as Solver
from attnlab.kernels.targets import INTERPRETED as INTERPRETED
from attnlab.kernels.targets import PALLAS as PALLAS
from attnlab.kernels.targets import Pallas as Pallas
