"""Training: `fit` takes a recipe, a course's data and a folder, and gives a trained network.

Read loop (the loop, whole), then run (what is trained), callbacks (what hangs on the loop), state
and session (a run on disk, resumed), and the rest as it is needed.
"""

from facekit.training.callbacks import Callback
from facekit.training.checkpoint import Checkpoints
from facekit.training.guards import LearningGuard
from facekit.training.history import HISTORY, History
from facekit.training.process import start_process, wait_for_state
from facekit.training.recipe import CHOICES, FOLDER, Recipe
from facekit.training.recipe import load as load_recipe
from facekit.training.run import Run
from facekit.training.session import fit
from facekit.training.stopping import Interrupted

__all__ = [
    "CHOICES",
    "FOLDER",
    "HISTORY",
    "Callback",
    "Checkpoints",
    "History",
    "Interrupted",
    "LearningGuard",
    "Recipe",
    "Run",
    "fit",
    "load_recipe",
    "start_process",
    "wait_for_state",
]
