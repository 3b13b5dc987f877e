"""Where torchvision's transforms come from."""

from __future__ import annotations

import re
from typing import Any

import torch

from neurons.errors import StepError

_declared: list[torch.library.Library] = []


class AugmentError(StepError):
    """Augmentation cannot work here."""


def transforms() -> Any:
    """Return ``torchvision.transforms.v2``.

    A torchvision that was built for another torch (the CUDA wheels of PyPI beside a CPU build of torch) cannot load
    its compiled operators and then stops in the middle of its own import, where it describes them. The transforms are
    plain torch and use none of them, so their names are declared, without an implementation, and the import goes on.

    Raises
    ------
    AugmentError
        When torchvision is missing or cannot be imported.
    """
    while True:
        try:
            from torchvision.transforms import v2

            return v2
        except ImportError as error:
            raise AugmentError(f"augmentation needs torchvision: pip install torchvision ({error})") from None
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise AugmentError(f"torchvision does not fit torch {torch.__version__}: {error}") from None
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{missing[1]}() -> ()")
            _declared.append(library)  # a declaration lives as long as its library
