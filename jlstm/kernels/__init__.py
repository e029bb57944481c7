"""Ways to run one cell over time: the same numbers, the same gradients, another speed.

Each is called as `(cell, how, params, fixed, carry, steps) -> (carry, (outputs, before))`.
"""

from jlstm.kernels.hoisted import hoisted
from jlstm.kernels.scan import scan

BACKENDS = {"scan": scan, "hoisted": hoisted}
