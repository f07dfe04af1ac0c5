"""Training: `fit` takes a recipe, a course's data and a folder, and gives a trained network.

Read loop (the loop, whole), then run (what is trained), callbacks (what hangs on the loop), state
and session (a run on disk, resumed), and the rest as it is needed.
"""

from facekit.training.history import History as History
from facekit.training.process import start_process as start_process
from facekit.training.process import wait_for_state as wait_for_state
from facekit.training.session import fit as fit
from facekit.training.stopping import Interrupted as Interrupted
