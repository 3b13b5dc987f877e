"""Energy counters of this computer: read where they are, named and never invented where they are not."""

import math
import sys
import threading
import time

import pytest
import torch

from energy import measured as module
from energy.measured import LABEL, Measured, Reading, measured, meter
from neurons.errors import OptionError, ShapeError

pytest.importorskip("zeus.monitor")
rapl = pytest.importorskip("zeus.device.cpu.rapl")
WATTS = 40.0


@pytest.fixture(autouse=True)
def no_counters(monkeypatch, tmp_path):
    """A machine without counters, whatever this one has; a test adds its own."""
    import zeus.device.cpu
    import zeus.device.gpu

    for holder, name in ((zeus.device.cpu, "_cpus"), (zeus.device.gpu, "_gpus")):
        monkeypatch.setattr(holder, name, None)
    for name in ("nvml_is_available", "amdsmi_is_available"):
        monkeypatch.setattr(zeus.device.gpu, name, lambda: False)
    monkeypatch.setattr(rapl, "RAPL_DIR", str(tmp_path / "intel-rapl"))
    monkeypatch.setattr(rapl, "CONTAINER_RAPL_DIR", str(tmp_path / "none"))
    monkeypatch.setattr(rapl.ZeusdConfig, "from_env", staticmethod(lambda: None))
    # the watcher of overflows is another process; these counters do not overflow
    monkeypatch.setattr(rapl, "RaplWraparoundTracker", lambda *_: type("", (), {"get_num_wraparounds": lambda _: 0})())
    monkeypatch.setattr(module, "_SETTLE", 0.0)
    rapl.rapl_is_available.cache_clear()
    yield
    rapl.rapl_is_available.cache_clear()


@pytest.fixture
def tree(tmp_path):
    """RAPL files of one package with memory, standing still."""
    zone = tmp_path / "intel-rapl" / "intel-rapl:0"
    for folder, name in ((zone, "package-0"), (zone / "intel-rapl:0:0", "dram")):
        folder.mkdir(parents=True)
        (folder / "name").write_text(f"{name}\n")
        (folder / "energy_uj").write_text("1000000\n")
        (folder / "max_energy_range_uj").write_text("262143328850\n")
    return zone


@pytest.fixture
def running(tree):
    """The same files, counting as a package of 40 W and memory of 4 W would."""
    stop, begin = threading.Event(), time.perf_counter()
    files = ((tree / "energy_uj", WATTS), (tree / "intel-rapl:0:0" / "energy_uj", WATTS / 10))

    def count() -> None:
        while not stop.wait(0.002):
            for file, watts in files:
                part = file.with_suffix(".part")
                part.write_text(f"{1_000_000 + int(1e6 * watts * (time.perf_counter() - begin))}\n")
                part.replace(file)  # a reader must not meet an empty file

    thread = threading.Thread(target=count)
    thread.start()
    yield
    stop.set()
    thread.join()


class Fake:
    """NVML of one GPU, as zeus asks for it."""

    def __init__(self, architecture: int = 9) -> None:
        self.architecture, self.begin = architecture, time.perf_counter()

    def install(self, monkeypatch) -> None:
        import pynvml
        import zeus.device.gpu

        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(zeus.device.gpu, "nvml_is_available", lambda: True)
        for name, answer in {
            "nvmlInit": lambda: None, "nvmlShutdown": lambda: None, "nvmlDeviceGetCount": lambda: 1,
            "nvmlDeviceGetHandleByIndex": lambda index: index, "nvmlDeviceGetName": lambda handle: "Test GPU",
            "nvmlDeviceGetC2cModeInfoV": lambda handle: type("", (), {"isC2cEnabled": False})(),
            "nvmlDeviceGetArchitecture": lambda handle: self.architecture,
            "nvmlDeviceGetTotalEnergyConsumption":
                lambda handle: int(1e3 * 300 * (time.perf_counter() - self.begin)),
        }.items():  # fmt: skip
            monkeypatch.setattr(pynvml, name, answer)


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5))


X = torch.ones(3, 4, 8)


@pytest.mark.usefixtures("running")
def test_joules_are_what_the_counter_says_divided_by_the_inferences():
    found = measured(network(), X, seconds=0.5)
    package, memory = found.readings
    assert (package.device, memory.device) == ("processor package 0", "memory of package 0")
    assert "RAPL" in package.counter
    assert "zeus" in package.counter
    assert found.batch == 4
    assert found.inferences % 4 == 0
    assert package.joules * found.inferences / found.seconds == pytest.approx(WATTS, rel=0.15)
    assert memory.joules == pytest.approx(package.joules / 10, rel=0.15)
    # these counters do not know whether anything runs, so that all of it is idle
    assert package.idle_joules == pytest.approx(package.joules, rel=0.15)


@pytest.mark.usefixtures("running")
def test_every_row_says_that_this_computer_simulates():
    found = measured(network(), X, seconds=0.5)
    table = found.table()
    assert list(table["where"]) == [LABEL, LABEL] == ["this computer, simulating"] * 2
    assert table["J_per_inference"].gt(0).all()
    assert found.notes[0].startswith(LABEL)
    assert "not subtracted" in found.notes[1]


@pytest.mark.usefixtures("running")
def test_the_network_runs_in_eval_mode_and_gets_its_flags_back():
    net, flags = network().train(), []
    net[1].register_forward_hook(lambda *_: flags.append((net.training, torch.is_grad_enabled())))
    measured(net, X, seconds=0.5)
    assert set(flags) == {(False, False)}
    assert net.training


def test_a_counter_that_stands_still_gives_no_reading(tree):
    found = measured(network(), X, seconds=0.5)
    assert found.readings == ()
    assert "processor package 0" in found.missing[0]
    assert "did not advance" in found.missing[0]
    assert found.notes[0] == f"{LABEL}: nothing was measured"


def test_without_rapl_the_network_does_not_run_and_a_line_says_what_was_looked_for():
    net, calls = network(), []
    net.register_forward_hook(lambda *_: calls.append(1))
    found = measured(net, X)
    assert found == Measured((), 0, 4, 0.0, found.missing)
    assert calls == []
    assert len(found.missing) == 1  # the network is on the processor, so no GPU was looked for
    assert "RAPL" in found.missing[0]
    assert "does not exist" in found.missing[0]
    assert found.table().empty


def test_unreadable_files_are_told_from_missing_ones(tree, monkeypatch):
    def deny(path, *rest):
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied")
        return open(path, *rest)

    monkeypatch.setattr(rapl, "open", deny, raising=False)
    assert "may not read it" in meter(torch.device("cpu")).missing[0]


def test_an_incomplete_tree_is_not_readable(tree):
    (tree / "name").unlink()
    assert "not readable: Error reading package name" in meter(torch.device("cpu")).missing[0]


def test_no_nvml_is_said_only_where_a_gpu_was_looked_for():
    assert "NVML" in meter().missing[1]
    assert "NVML" in meter(torch.device("cuda", 0)).missing[1]
    assert len(meter(torch.device("cpu")).missing) == 1


def test_gpu_energy_is_read_through_nvml(monkeypatch):
    Fake().install(monkeypatch)
    found = meter(torch.device("cuda", 0))
    assert found.devices == {"GPU 0 (Test GPU)": "NVML total energy, read by zeus"}
    joules, seconds = found.spent(lambda: time.sleep(0.2))
    assert joules["GPU 0 (Test GPU)"] / seconds == pytest.approx(300, rel=0.1)
    assert not found.counts_processor


def test_a_gpu_without_energy_counter_is_missing_and_its_power_is_not_integrated(monkeypatch):
    Fake(architecture=4).install(monkeypatch)  # Pascal
    found = meter()
    assert found.devices == {}
    assert found.missing[1] == "GPU 0 (Test GPU) has no energy counter"


def test_a_gpu_that_zeus_cannot_number_is_missing(monkeypatch):
    Fake().install(monkeypatch)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    assert "MIG" in meter().missing[1]


def test_without_the_library_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "zeus.monitor", None)
    assert measured(network(), X).missing == (
        "no counter was looked for: zeus is not installed (pip install 'step-snn[measured]')",
    )


def test_refusals():
    with pytest.raises(OptionError, match=r"at least 0.5 s, not 0.1"):
        measured(network(), X, seconds=0.1)
    with pytest.raises(OptionError, match="not inf"):
        measured(network(), X, seconds=math.inf)
    with pytest.raises(ShapeError, match=r"\[T, B, ...\]"):
        measured(network(), torch.ones(8))


def test_an_idle_share_that_is_unknown_stays_unknown():
    found = Measured((Reading("GPU 0", "NVML", 0.5, math.nan),), 8, 4, 1.0, ())
    assert math.isnan(found.table().loc[0, "J_of_which_idle"])
