"""Data augmentation: random changes of the training inputs that the network should be robust to.

==================  ==================================================================
:mod:`.base`        base classes of methods and of mixtures
:mod:`.geometry`    flip, translate, rotate, crop
:mod:`.elastic`     elastic deformation
:mod:`.blur`        Gaussian blur
:mod:`.color`       color, background
:mod:`.occlusion`   random erasing
:mod:`.noise`       noise; feature dropout for tables
:mod:`.mixing`      mixup, cutmix
:mod:`.pixels`      conversion between encoded images and pixels from 0 to 1
:mod:`.pipeline`    a sequence of methods applied to the training batches
==================  ==================================================================

A method is called with a batch and a generator, on any device, and works in any training loop:

>>> import torch
>>> from descend.augmentation import Rotate
>>> images = torch.rand(4, 3, 8, 8)
>>> Rotate(degrees=20)(images, torch.Generator().manual_seed(0)).shape
torch.Size([4, 3, 8, 8])
"""

from collections.abc import Callable
from typing import Any

from descend.augmentation.base import Augmentation, Mixed, Mixing
from descend.augmentation.blur import Blur
from descend.augmentation.color import Background, Color
from descend.augmentation.elastic import Deform
from descend.augmentation.geometry import Crop, Flip, Rotate, Translate
from descend.augmentation.mixing import Cutmix, Mixup
from descend.augmentation.noise import FeatureDropout, Noise
from descend.augmentation.occlusion import Occlude

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
