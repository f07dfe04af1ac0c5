"""What a trained network is worth: embeddings, who it is (1:N), whether two are one (1:1).

Read embed first, then identification and verification, rules (ways to decide), statistics (how
sure so few probes let one be) and comparison.
"""

from facekit.evaluation.embed import TrainedRun, class_means, classify, load_run
from facekit.evaluation.identification import choose_threshold, dir_fpir, similarity
from facekit.evaluation.statistics import standard_error

__all__ = [
    "TrainedRun",
    "choose_threshold",
    "class_means",
    "classify",
    "dir_fpir",
    "load_run",
    "similarity",
    "standard_error",
]
