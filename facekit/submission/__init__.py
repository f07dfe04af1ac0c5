"""What is handed in: written, checked, scored, sent. Two CSVs, or since F24 one of pairs.

Read csvs first, then cutoffs (what a score earns), pipeline (from a run's folder to both files),
pairs (the same of a term with pairs), forms and leaderboard (all runs); then zips and hand_in
(what a student writes of all that).
"""

from facekit.submission.csvs import check, score, write_classification, write_verification
from facekit.submission.forms import form_of
from facekit.submission.pipeline import write_submissions

__all__ = [
    "check",
    "form_of",
    "score",
    "write_classification",
    "write_submissions",
    "write_verification",
]
