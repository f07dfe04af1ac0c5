"""What an instructor does with what students handed in. Only `exercise_sheets` runs what is theirs.

Read hand_ins first (scores, points, who is as good, what is there twice), then pages (one table,
and a page for each student); board and board_page (a leaderboard with a private part);
exercise_sheets (what notebooks define, compared with the references) and attempts (the process in
which students' code runs).
"""

from facekit.grading.hand_ins import grade

__all__ = ["grade"]
