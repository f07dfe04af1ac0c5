"""What an instructor does with what students handed in. Nothing of theirs is run here.

Read hand_ins first (scores, points, who is as good, what is there twice), then pages (one table,
and a page for each student); then board and board_page (a leaderboard with a private part).
"""

from facekit.grading.hand_ins import grade

__all__ = ["grade"]
