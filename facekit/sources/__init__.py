"""Where the images come from: rendered, a folder, LFW, Kaggle, people held out.

Read profiles and plans first (how much, and which image goes where), then course_data (the files);
detector and align crop photographs to the faces in them; kaggle, credentials and archives fetch and
unpack; health looks for what is odd.
"""

from facekit.sources.course_data import more_people, open_course, set_up
from facekit.sources.profiles import PROFILES, get_profile

__all__ = [
    "PROFILES",
    "get_profile",
    "more_people",
    "open_course",
    "set_up",
]
