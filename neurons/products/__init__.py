"""Event-driven products on the CPU: linear layers and convolutions whose inputs are spikes.

:func:`spike_linear` and :func:`spike_conv2d` stand where ``torch.nn.functional.linear`` and ``conv2d`` would. They add
up one row of weights for every spike, which takes a share of the time of a dense product that is near the share of
ones, and take the dense product themselves where that is faster. Several layers that read the same spikes share the
lists of them through :func:`events`. ``STEP_KERNELS=eager`` leaves every product to torch.
"""

from neurons.products.event_lists import Events, events
from neurons.products.functional import spike_conv2d, spike_conv2d_weight, spike_linear, spike_linear_weight

__all__ = ["Events", "events", "spike_conv2d", "spike_conv2d_weight", "spike_linear", "spike_linear_weight"]
