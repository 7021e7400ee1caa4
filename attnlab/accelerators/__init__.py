"""What programs cost on chips that are not here: lowered from any machine, compiled for TPU where libtpu is installed.

Example:
  from attnlab import accelerators
  for program in accelerators.paper_steps():
      print(accelerators.price(program, accelerators.chip("v5e")))
"""

from attnlab.accelerators.chips import CHIPS as CHIPS
from attnlab.accelerators.chips import Chip as Chip
from attnlab.accelerators.chips import chip as chip
from attnlab.accelerators.price import Price as Price
from attnlab.accelerators.price import price as price
from attnlab.accelerators.programs import Program as Program
from attnlab.accelerators.programs import kernels as kernels
from attnlab.accelerators.programs import paper_steps as paper_steps
from attnlab.accelerators.programs import training_step as training_step
