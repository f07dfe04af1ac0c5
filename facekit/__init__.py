"""facekit: from a folder of faces to two scored Kaggle submissions.

Data flows one way through the package:

    faces, sources -> layout -> images -> augment -> models
        -> train (optim, checkpoint) -> predict -> openset -> submit

`plots` and `widgets` look at any of it; `cli` and `course` drive it.
"""

__version__ = "0.3.0"
