"""facekit: from a folder of faces to two scored Kaggle submissions.

Each folder is a room; its front door says what is in it. A room may import those right of it:

    cli -> grading -> course -> deploy -> submission -> training -> evaluation -> sources
        -> models | data | faces -> common
"""

import os
import sys

__version__ = "0.5.0"
# What pip calls it: `facekit` there is somebody else's package.
DISTRIBUTION = "facekit-course"

# A thread of torch that waits for others spins for a moment and then sleeps. If it slept at once,
# it would have to be woken for every layer, and on quiet cores a short step would take 1.5 times as
# long; if it spun for long, it would keep a core from whoever it waits for. GNU's OpenMP counts
# turns (10,000: a fraction of a millisecond), others whole milliseconds. They read this when torch
# is loaded; processes and kernels that start from here inherit it.
_SPIN = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", *_SPIN} & os.environ.keys():
    os.environ.update(_SPIN)
