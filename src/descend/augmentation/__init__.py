"""Data augmentation: more training data, generated for what the network is to be robust to.

==================  ==================================================================
:mod:`.base`        what every method is; mixtures, and what targets become in them
:mod:`.geometry`    flip, translate, rotate, crop
:mod:`.deform`      elastic deformation
:mod:`.blur`        Gaussian blur
:mod:`.light`       color, background
:mod:`.occlude`     a rectangle covered
:mod:`.noise`       noise; feature_dropout of tables
:mod:`.mixing`      mixup, cutmix
:mod:`.pixels`      encoded pictures as pixels from 0 to 1, and back
:mod:`.pipeline`    a list of methods applied to the batches of a training
==================  ==================================================================

A method takes a batch and a generator, on any device, and can be used in anyone's loop:

>>> import torch
>>> from descend.augmentation import Rotate
>>> pictures = torch.rand(4, 3, 8, 8)
>>> Rotate(degrees=20)(pictures, torch.Generator().manual_seed(0)).shape
torch.Size([4, 3, 8, 8])
"""

from collections.abc import Callable
from typing import Any

from descend.augmentation.base import Augmentation, Mixed, Mixing
from descend.augmentation.blur import Blur
from descend.augmentation.deform import Deform
from descend.augmentation.geometry import Crop, Flip, Rotate, Translate
from descend.augmentation.light import Background, Color
from descend.augmentation.mixing import Cutmix, Mixup
from descend.augmentation.noise import FeatureDropout, Noise
from descend.augmentation.occlude import Occlude

__all__ = [
    "AUGMENTATIONS",
    "Augmentation",
    "Background",
    "Blur",
    "Color",
    "Crop",
    "Cutmix",
    "Deform",
    "FeatureDropout",
    "Flip",
    "Mixed",
    "Mixing",
    "Mixup",
    "Noise",
    "Occlude",
    "Rotate",
    "Translate",
]

AUGMENTATIONS: dict[str, Callable[..., Any]] = {
    "flip": Flip,
    "translate": Translate,
    "rotate": Rotate,
    "crop": Crop,
    "deform": Deform,
    "background": Background,
    "color": Color,
    "noise": Noise,
    "blur": Blur,
    "occlude": Occlude,
    "mixup": Mixup,
    "cutmix": Cutmix,
    "feature_dropout": FeatureDropout,
}
