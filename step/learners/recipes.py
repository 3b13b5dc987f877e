"""Named recipes: the training that the papers of the spiking transformers used, as values of the learner's options.

``learner: {name: surrogate-gradient, recipe: spikformer-cifar}`` stands for the values below; what is given beside
the recipe goes before it. The name is not kept: the same values are the same run however they were named.

What the recipes cannot say, because it is no option here: papers normalise images by mean and deviation (encoders take
[0, 1]), fill what a rotation or shear uncovers and what is erased with the mean colour (here black), and draw from
timm's operations, which have Invert and no Identity. timm averages no weights unless told to, and none of them did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from neurons.errors import UnknownNameError, suggest


@dataclass(frozen=True)
class Recipe:
    """Values of a learner's options with their source.

    Attributes
    ----------
    values : mapping
        Option to value; what is missing keeps its default.
    source : str
        Where the values stand.
    unsure : str
        Which of them are ambiguous in the source, or were added; empty when none are.
    """

    values: Mapping[str, Any]
    source: str
    unsure: str = ""


STEP = "training files of STEP (Shen et al., NeurIPS 2025 Datasets and Benchmarks, arXiv 2505.11151)"
_FLIP = "the horizontal flip is timm's default and stands in no file"

# AdamW and a cosine with warm-up; timm neither clips nor decays layer by layer unless told to.
_COMMON: dict[str, Any] = {
    "optimiser": "adamw",
    "schedule": "cosine",
    "min_lr": 1e-5,
    "warmup": 20,
    "warmup_lr": 1e-5,
    "cooldown": 10,
    "label_smoothing": 0.1,
    "layer_decay": 1.0,
    "clip": None,
    "precision": "auto",
    "loss": "cross-entropy",
}


def _rand(magnitude: float, std: float, operations: int = 2) -> dict[str, Any]:
    """Values for timm's ``rand-m<magnitude>-n<operations>-mstd<std>-inc1``, which applies half of the operations."""
    return {
        "auto_augment": "randaugment",
        "randaugment_operations": operations,
        "randaugment_magnitude": magnitude,
        "randaugment_std": std,
        "randaugment_probability": 0.5,
    }


_CIFAR: dict[str, Any] = {
    **_COMMON,
    "epochs": 400,
    "batch": 128,
    "lr": 5e-4,
    "weight_decay": 0.06,
    "flip": 0.5,
    **_rand(9, 0.4, 1),
    "erase": 0.25,
    "mixup": 0.5,
    "mixup_off_epoch": 200,
}
_IMAGENET: dict[str, Any] = {
    **_COMMON,
    "epochs": 300,
    "batch": 24,
    "lr": 5e-4,
    "weight_decay": 0.05,
    "warmup_lr": 1e-6,
    "flip": 0.5,
    **_rand(9, 0.5),
    "erase": 0.25,
    "mixup": 0.8,
    "cutmix": 1.0,
}
_MNIST: dict[str, Any] = {**_COMMON, "epochs": 200, "batch": 256, "lr": 5e-4, "weight_decay": 0.06, "erase": 0.25}
_SEQUENTIAL_MNIST: dict[str, Any] = {**_MNIST, "epochs": 400, "batch": 128}

_PER_GPU = "the batch is that of one GPU and the file does not say how many there were"
_IMAGENET_CROP = "the file crops the whole image (scale 1), so there is no crop here"
_SEQUENCE = "that the images are not flipped is assumed: the file of the MNIST family names erasing alone"

recipes: dict[str, Recipe] = {
    "spikformer-cifar": Recipe(
        _CIFAR,
        f"cifar10.yml of Spikformer (Zhou et al., ICLR 2023) and {STEP}",
        f"400 epochs as in STEP, where Spikformer's own file has 300; {_FLIP}",
    ),
    "spikingformer-cifar": Recipe(_CIFAR, STEP, f"versions of the file differ in the batch (64 or 128); {_FLIP}"),
    "sdt-cifar": Recipe(
        {**_CIFAR, "lr": 3e-4, "warmup_lr": 1e-6, "erase": 0.0, "precision": "float32"},
        f"2_512_300E_t4.yml of Spike-driven Transformer (Yao et al., NeurIPS 2023) and {STEP}",
        "400 epochs of batches of 128 as STEP reports, where the files have 300 of 64; the colour jitter of 0.5 in the "
        f"files is left out, because timm leaves it out beside RandAugment; {_FLIP}",
    ),
    "qkformer-cifar": Recipe(
        {**_CIFAR, "lr": 1e-3}, STEP, f"batches of 128 as STEP reports, where a version of the file has 64; {_FLIP}"
    ),
    "semm-cifar": Recipe({**_CIFAR, "lr": 1e-3}, STEP, _FLIP),
    "sglformer-cifar": Recipe(
        {**_CIFAR, "lr": 1e-3, "batch": 16},
        STEP,
        f"a weight decay of 0.05 is used on CIFAR-100; a version of the file has batches of 32; {_FLIP}",
    ),
    "spikingresformer-cifar": Recipe(
        {**_CIFAR, "weight_decay": 0.01, **_rand(7, 0.5, 1)},
        STEP,
        f"400 epochs as STEP reports, where a version of the file has 600; {_FLIP}",
    ),
    "swformer-cifar": Recipe(
        {**_CIFAR, "lr": 1.5e-3, "warmup_lr": 8e-5},
        STEP,
        f"warm-up from 8e-5 on CIFAR-10, from 1e-5 on CIFAR-100; {_FLIP}",
    ),
    "spikformer-imagenet": Recipe(
        _IMAGENET,
        f"imagenet.yml of Spikformer (Zhou et al., ICLR 2023) and {STEP}",
        f"{_PER_GPU}; {_IMAGENET_CROP}; {_FLIP}",
    ),
    "qkformer-imagenet": Recipe(
        {**_IMAGENET, "epochs": 200, "batch": 32, "lr": 6e-4, "warmup": 5},
        STEP,
        f"200 epochs as in STEP's paper, where a version of the file has 300, batches of 8, lr 5e-4 and a warm-up of "
        f"20; {_PER_GPU}; {_IMAGENET_CROP}; {_FLIP}",
    ),
    "sdt-imagenet": Recipe(
        {
            **_IMAGENET,
            "optimiser": "lamb",
            "batch": 48,
            "lr": 1.5e-3,
            "min_lr": 1.5e-5,
            "warmup_lr": 1e-5,
            "weight_decay": 0.01,
            "clip": 1.0,
            **_rand(5, 0.5),
            "crop_scale": (0.2, 1.0),
            "erase": 0.0,
            "mixup": 0.2,
            "mixup_probability": 0.6,
        },
        "8_512_300E_t4.yml of Spike-driven Transformer (Yao et al., NeurIPS 2023)",
        "clipping at 1 is inside timm's LAMB and stands in no file; three augmented views of each image in an epoch "
        f"and a drop path of 0.2 are no options here; STEP has batches of 32, no crop and float32; {_PER_GPU}",
    ),
    "semm-imagenet": Recipe(
        {**_IMAGENET, "batch": 18},
        STEP,
        f"the key of the epochs is misspelt in the file, so 300 is taken over; {_PER_GPU}; {_IMAGENET_CROP}; {_FLIP}",
    ),
    "mnist": Recipe(_MNIST, STEP, _SEQUENCE),
    "spikformer-sequential-mnist": Recipe(_SEQUENTIAL_MNIST, STEP, _SEQUENCE),
    "sdt-sequential-mnist": Recipe(_SEQUENTIAL_MNIST, STEP, _SEQUENCE),
    "semm-sequential-mnist": Recipe(
        {**_SEQUENTIAL_MNIST, "lr": 1e-3, **_rand(9, 0.4, 1)},
        STEP,
        f"RandAugment is kept in the file; its learning rate is taken over from CIFAR; {_SEQUENCE}",
    ),
    "spikformer-sequential-cifar": Recipe(_CIFAR, STEP, _FLIP),
    "sdt-sequential-cifar": Recipe(
        {**_CIFAR, "warmup_lr": 1e-6, "erase": 0.0},
        STEP,
        f"all but the learning rate and the mixed precision is taken over from images; {_FLIP}",
    ),
    "semm-sequential-cifar": Recipe(
        {**_CIFAR, "lr": 1e-3}, STEP, f"the learning rate is taken over from images; {_FLIP}"
    ),
}


def names() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(recipes)


def get(name: str) -> Recipe:
    """Return the recipe ``name``.

    Raises
    ------
    UnknownNameError
        With the nearest known names.
    """
    if name not in recipes:
        raise UnknownNameError(f"unknown recipe {name!r}{suggest(str(name), recipes)}")
    return recipes[name]


def describe(name: str) -> str:
    """Return the source of a recipe, and what in it is unsure."""
    recipe = get(name)
    return f"from {recipe.source}" + (f"; {recipe.unsure}" if recipe.unsure else "")
