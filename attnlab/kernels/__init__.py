"""Fast forms of single mechanisms, each held to its reference in `attnlab.attention`.

`attention` and `row_maps`: attention with any map that can be taken in blocks; `blockwise(mechanism)`: the same in a
model. `local_linear_attention`, `lla_blockwise`: local linear attention.
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
from attnlab.kernels.row_maps import RowMap as RowMap
from attnlab.kernels.solver import CG as CG
from attnlab.kernels.solver import EXACT as EXACT
from attnlab.kernels.solver import Solver as Solver
