"""The non-zeros of a tensor as lists, made once for all layers that read the same spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from neurons.errors import OptionError
from neurons.products.kernel import Counted, Lists, available, sample


class Events:
    """A tensor together with lists of its non-zeros, made when a layer first needs them.

    The lists follow the tensor: where it was changed in place since, they are made anew. A tensor of inference mode
    does not say whether it was changed, and its lists serve for one call.

    Parameters
    ----------
    x : Tensor
        Spikes: tokens [..., K], or maps [B, C, H, W].
    channels : int
        The dimension of the channels: -1 for :func:`spike_linear`, 1 for :func:`spike_conv2d`.
    """

    def __init__(self, x: Tensor, channels: int = -1) -> None:
        self.x, self.channels = x, channels
        self._version: int | None = None
        self._rows: Tensor | None = None
        self._sample: float | None = None
        self._counted: Counted | None = None
        self._lists: Lists | None = None

    def look(self) -> None:
        """Forget what was found where the tensor may have changed since; called once by every layer."""
        version = None if self.x.is_inference() else self.x._version
        if version is None or version != self._version:
            self._rows = self._sample = self._counted = self._lists = None
            self._version = version

    def rows(self) -> Tensor:
        """Return the tensor with channels innermost, in one piece: [tokens, K], or [B, H, W, C]."""
        if self._rows is None:
            x = self.x.detach()
            rows = x.permute(0, 2, 3, 1) if self.channels == 1 else x.reshape(-1, x.shape[-1])
            self._rows = rows.contiguous()
        return self._rows

    def sample(self) -> float:
        """Return the share of non-zeros in a sample."""
        if self._sample is None:
            self._sample = sample(self.rows())
        return self._sample

    def share(self) -> float:
        """Return the share of non-zeros in a sample; 1 where products do not look for zeros."""
        looked_for = self.x.dtype == torch.float32 and self.x.device.type == "cpu" and available()
        if not looked_for:
            return 1.0
        self.look()
        return self.sample()

    def counted(self) -> Counted:
        """Return the count of the non-zeros."""
        if self._counted is None:
            rows = self.rows()
            pixels = rows.numel() // rows.shape[-1]
            self._counted = Counted(rows, pixels, rows.shape[2] if self.channels == 1 else 1, rows.shape[-1])
        return self._counted

    def lists(self) -> Lists:
        """Return the lists."""
        if self._lists is None:
            self._lists = self.counted().lists()
        return self._lists


def events(x: Tensor, channels: int = -1) -> Events:
    """Return the events of a tensor of spikes, to hand to several layers in its place.

    Parameters
    ----------
    x : Tensor
        Tokens [..., K], or maps [B, C, H, W].
    channels : int
        -1 for :func:`spike_linear`, 1 for :func:`spike_conv2d`.

    Raises
    ------
    OptionError
        When ``channels`` is another number, or the map has not four dimensions.

    Examples
    --------
    >>> import torch
    >>> spikes = events((torch.rand(4, 64, 384) < 0.1).float())
    >>> query, key = torch.randn(2, 384, 384)
    >>> spike_linear(spikes, query).shape, spike_linear(spikes, key).shape
    (torch.Size([4, 64, 384]), torch.Size([4, 64, 384]))
    """
    if channels not in (-1, 1):
        raise OptionError(f"channels is -1 (tokens [..., K]) or 1 (maps [B, C, H, W]), not {channels}")
    if channels == 1 and x.dim() != 4:
        raise OptionError(f"events of maps are made of [B, C, H, W], not of {x.dim()} dimensions")
    return Events(x, channels)
