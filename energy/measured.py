"""Measured energy: what this computer uses while it simulates a network, where its counters can be read.

That is the energy of a processor that simulates time steps in floating point, with everything else the machine does
meanwhile. It is not an estimate of hardware made for spikes, and it never stands in one table with those estimates.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from energy.foreign import reset
from neurons.errors import OptionError, ShapeError

if TYPE_CHECKING:
    from pandas import DataFrame

LABEL = "this computer, simulating"
"""Stands beside every measured figure."""

# NVML refreshes its energy counter about ten times a second, RAPL about a thousand times; a window of five refreshes
# is off by at most a fifth.
SHORTEST = 0.5
# The library starts a helper process, which watches for overflow of the RAPL counters, at the first reading; its start
# must not be charged to the network.
_SETTLE = 2.0


@dataclass(frozen=True)
class Reading:
    """Energy of one device of this computer for one inference.

    Attributes
    ----------
    device : str
        What the counter covers: a whole processor package, its memory, or a whole GPU, whoever uses it.
    counter : str
    joules : float
        Energy of one inference. The idle share is not subtracted.
    idle_joules : float
        What the device uses in the same time while this process sleeps; NaN where its counter failed meanwhile.
    """

    device: str
    counter: str
    joules: float
    idle_joules: float


@dataclass(frozen=True)
class Measured:
    """What the counters of this computer said while a network ran.

    Attributes
    ----------
    readings : tuple of Reading
        Empty where no counter can be read.
    inferences, batch : int
        Inferences within the window, and how many ran at a time.
    seconds : float
        Length of the window.
    missing : tuple of str
        Which counters were looked for and not read, and why: one line each.
    """

    readings: tuple[Reading, ...]
    inferences: int
    batch: int
    seconds: float
    missing: tuple[str, ...]

    def table(self) -> DataFrame:
        """Return one row for each device: joules per inference, the idle share of it, and who measured."""
        import pandas as pd

        rows = [(LABEL, r.device, r.counter, r.joules, r.idle_joules, self.inferences, self.seconds)
                for r in self.readings]  # fmt: skip
        columns = ["where", "device", "counter", "J_per_inference", "J_of_which_idle", "inferences", "seconds"]
        return pd.DataFrame(rows, columns=columns)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that must stand beside the table, those on missing counters included."""
        if not self.readings:
            return (f"{LABEL}: nothing was measured", *self.missing)
        return (
            f"{LABEL}: {self.inferences} inferences in batches of {self.batch} over {self.seconds:.2f} s; whole "
            "devices, with all that runs on them. Not to be compared with estimates of other hardware",
            "the idle share is not subtracted: J_of_which_idle is what the device uses in that time while the network "
            "does not run",
            *self.missing,
        )


class Meter:
    """The energy counters of this computer that can be read.

    Attributes
    ----------
    devices : dict of str to str
        Counter of each device.
    missing : tuple of str
        Which counters were looked for and cannot be read, and why.
    """

    def __init__(self, monitor: Any, devices: dict[str, str], names: dict[tuple[str, int], str], missing: list[str]):
        self._monitor, self._names = monitor, names
        self.devices = devices
        self.missing = tuple(missing)

    @property
    def counts_processor(self) -> bool:
        """Whether RAPL is among the counters."""
        return any(kind == "cpu" for kind, _ in self._names)

    def spent(self, run: Callable[[], object]) -> tuple[dict[str, float], float]:
        """Return the joules of each device while ``run`` ran, and the seconds it took.

        A counter that stood still or ran backwards has said nothing: its device is left out.
        """
        self._monitor.begin_window("step", sync_execution=False, restart=True)
        run()
        found = self._monitor.end_window("step", sync_execution=False)
        by_kind = {"cpu": found.cpu_energy, "dram": found.dram_energy, "gpu": found.gpu_energy}
        joules = {
            self._names[kind, index]: float(value)
            for kind, values in by_kind.items()
            for index, value in (values or {}).items()
            if value > 0 and (kind, index) in self._names
        }
        return joules, float(found.time)


def meter(device: torch.device | None = None) -> Meter:
    """Return what can be measured here: processors through RAPL, GPUs through NVML (or AMD SMI).

    The counters are read by the library zeus (https://ml.energy/zeus, extra ``measured``). Nothing is derived from
    nominal power: a device without an energy counter is missing.

    Parameters
    ----------
    device : torch.device, optional
        Where a network runs: a GPU is looked for only if it is one. All GPUs when left out.
    """
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError as error:
        why = "zeus is not installed" if (error.name or "").partition(".")[0] == "zeus" else f"zeus: {error}"
        return Meter(None, {}, {}, [f"no counter was looked for: {why} (pip install 'step-snn[measured]')"])
    devices: dict[str, str] = {}
    names: dict[tuple[str, int], str] = {}
    missing: list[str] = []
    _find_processors(devices, names, missing)
    if device is None or device.type == "cuda":
        index = None if device is None else device.index or 0
        _find_gpus(index, devices, names, missing)
    if not devices:
        return Meter(None, {}, {}, missing)
    indices = {kind: sorted(i for k, i in names if k == kind) for kind in ("cpu", "gpu")}
    monitor = ZeusMonitor(gpu_indices=indices["gpu"], cpu_indices=indices["cpu"])
    return Meter(monitor, devices, names, missing)


def _find_processors(devices: dict[str, str], names: dict[tuple[str, int], str], missing: list[str]) -> None:
    from zeus.device import get_cpus
    from zeus.device.cpu import rapl
    from zeus.device.cpu.common import ZeusCPUNoPermissionError
    from zeus.exception import ZeusBaseError

    where = f"RAPL ({rapl.RAPL_DIR})"
    if not rapl.rapl_is_available():
        missing.append(
            f"no processor counter: {where} does not exist; other systems, most containers and virtual machines do "
            "not show it"
        )
        return
    try:
        packages = get_cpus()
    except ZeusCPUNoPermissionError:
        missing.append(f"no processor counter: {where} is there, but this user may not read it (root may)")
        return
    except (ZeusBaseError, OSError, ValueError) as error:
        missing.append(f"no processor counter: {where} is there, but not readable: {error}")
        return
    if not len(packages):
        missing.append(f"no processor counter: {where} is there, but holds no package")
    for index in range(len(packages)):
        names["cpu", index] = f"processor package {index}"
        devices[names["cpu", index]] = f"RAPL intel-rapl:{index}, read by zeus"
        if packages.supports_get_dram_energy_consumption(index):
            names["dram", index] = f"memory of package {index}"
            devices[names["dram", index]] = f"RAPL intel-rapl:{index}, dram, read by zeus"


def _find_gpus(
    wanted: int | None, devices: dict[str, str], names: dict[tuple[str, int], str], missing: list[str]
) -> None:
    from zeus.device import get_gpus
    from zeus.exception import ZeusBaseError

    try:
        gpus = get_gpus()
        for index in range(len(gpus)) if wanted is None else [wanted]:
            name = f"GPU {index} ({gpus.get_name(index)})"
            if not gpus.supports_get_total_energy_consumption(index):
                # the library would integrate samples of its power instead, which misses what lies between them
                missing.append(f"{name} has no energy counter")
                continue
            interface = "NVML" if type(gpus).__name__ == "NVIDIAGPUs" else "AMD SMI"
            names["gpu", index] = name
            devices[name] = f"{interface} total energy, read by zeus"
    except (ZeusBaseError, OSError, ValueError, LookupError, ImportError) as error:
        missing.append(f"no GPU counter through NVML or AMD SMI: {error}")


def measured(network: nn.Module, x: Tensor, seconds: float = 2.0) -> Measured:
    """Measure what this computer uses for one inference while it simulates a network.

    The forward pass is repeated without gradients for about ``seconds``; then the process sleeps as long for the
    idle share. Where no counter can be read, the network does not run, and ``missing`` says why.

    Parameters
    ----------
    network : nn.Module
    x : Tensor, shape [T, B, ...]
        Encoded input, on the device of the network; a larger batch costs less for each inference.
    seconds : float
        At least 0.5, for the counters are refreshed about ten times a second.

    Raises
    ------
    OptionError
        For a window that is too short.
    ShapeError
        For an input without time steps or samples.
    """
    if not SHORTEST <= seconds < math.inf:
        raise OptionError(f"energy is measured over at least {SHORTEST:g} s, not {seconds:g}")
    if x.dim() < 2 or 0 in x.shape[:2]:
        raise ShapeError(f"a network is measured on a tensor [T, B, ...] with T >= 1 and B >= 1, not {list(x.shape)}")
    batch = int(x.shape[1])
    found = meter(x.device)
    if not found.devices:
        return Measured((), 0, batch, 0.0, found.missing)
    training = {module: module.training for module in network.modules()}
    try:
        network.eval()
        with torch.no_grad():
            found.spent(partial(_passes, network, x, 1))
            if found.counts_processor:
                time.sleep(_SETTLE)
            counted: list[int] = []
            joules, length = found.spent(partial(_repeat, network, x, seconds, counted))
    finally:
        for module, flag in training.items():
            module.training = flag
    idle, rest = found.spent(partial(time.sleep, seconds))
    inferences = sum(counted) * batch
    readings = tuple(
        Reading(device, counter, joules[device] / inferences,
                idle.get(device, math.nan) / rest * length / inferences)
        for device, counter in found.devices.items() if device in joules
    )  # fmt: skip
    still = [f"{device}: its counter ({counter}) did not advance, so it says nothing"
             for device, counter in found.devices.items() if device not in joules]  # fmt: skip
    return Measured(readings, inferences, batch, length, (*found.missing, *still))


def _repeat(network: nn.Module, x: Tensor, seconds: float, counted: list[int]) -> None:
    """Run passes until the time is up; ``counted`` gets the number of each stretch between two looks at the clock."""
    end, count = time.perf_counter() + seconds, 1
    while (begin := time.perf_counter()) < end:
        _passes(network, x, count)
        counted.append(count)
        # a GPU idles while it is waited for, so that looks at the clock are kept rare
        if time.perf_counter() - begin < seconds / 20:
            count *= 2


def _passes(network: nn.Module, x: Tensor, count: int) -> None:
    for _ in range(count):
        reset(network)
        network(x)
    reset(network)
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
