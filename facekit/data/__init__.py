"""From a folder of images to augmented batches on the device.

Read layout first (pairs for the terms since F24), then images, samplers, transforms with
transform_params (what is drawn) and transforms_cpu and transforms_gpu (carrying it out), mixing,
and last cache and loader. Whoever brings a transform or a DataLoader of their own: dataset,
own_loader and own_images.
"""

from facekit.data.cache import PixelCache
from facekit.data.dataset import ClassFolders
from facekit.data.images import read_rgb
from facekit.data.layout import NO_MATCH, SPLITS, TERMS, CourseData, ImageSet, Term
from facekit.data.loader import Loader
from facekit.data.mixing import Batch, mix
from facekit.data.own_loader import OwnLoader
from facekit.data.pairs import PairData, Pairs, open_data
from facekit.data.transform_params import sample_params
from facekit.data.transforms import NOTHING, Augment, Preprocess, only, preview

__all__ = [
    "NOTHING",
    "NO_MATCH",
    "SPLITS",
    "TERMS",
    "Augment",
    "Batch",
    "ClassFolders",
    "CourseData",
    "ImageSet",
    "Loader",
    "OwnLoader",
    "PairData",
    "Pairs",
    "PixelCache",
    "Preprocess",
    "Term",
    "mix",
    "only",
    "open_data",
    "preview",
    "read_rgb",
    "sample_params",
]
