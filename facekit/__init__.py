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

# A thread of torch that waits for others sleeps: spinning, it would keep a core from whoever it
# waits for, and on busy cores a step would take several times as long. OpenMP reads this when
# torch is loaded; processes and kernels that start from here inherit it.
_CHOICES = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
if "torch" not in sys.modules and not _CHOICES & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
