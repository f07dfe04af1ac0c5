"""The two CSVs: written, checked, scored, graded, sent.

Read csvs first, then pipeline (from a run's folder to both files) and leaderboard (all runs).
"""

from facekit.submission.csvs import check, score, write_classification, write_verification
from facekit.submission.pipeline import write_submissions

__all__ = [
    "check",
    "score",
    "write_classification",
    "write_submissions",
    "write_verification",
]
