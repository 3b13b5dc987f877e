"""Drives of event cameras: counting events in every form of file, positions of a GPS receiver, and what is refused."""

from __future__ import annotations

import zipfile
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import datasets
from benchmarks.datasets import event_frames as events
from benchmarks.datasets.event_frames import event_frames
from benchmarks.datasets.event_traverses import DRIVES, WALKS
from benchmarks.datasets.gps import metres, read_nmea
from benchmarks.datasets.places import PlaceDataset
from neurons.errors import DataError, OptionError

SENSOR = (6, 4)


def recording(t: list[float], seed: int = 0) -> pd.DataFrame:
    """Events at given seconds, at random pixels of a sensor of 6 columns and 4 rows."""
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, high, len(t)) for high in (*SENSOR, 2))
    return pd.DataFrame({"t": t, "x": x, "y": y, "p": p})


def written(table: pd.DataFrame, path: Path, *, header: bool = True) -> Path:
    text = (f"{SENSOR[0]} {SENSOR[1]}\n" if header else "") + table.to_csv(sep=" ", header=False, index=False)
    if path.suffix == ".parquet":
        whole = table.assign(t=(table["t"] * 1e6).round().astype("int64"))
        whole.astype({"x": "uint16", "y": "uint16", "p": "bool"}).to_parquet(path)
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{path.stem}.txt", text)
    else:
        path.write_text(text)
    return path


def expected(table: pd.DataFrame, start: float, window: float, count: int, clip: int, size: int) -> Tensor:
    """Frames from their definition, pixel by pixel."""
    frames = np.zeros((count, SENSOR[1], SENSOR[0]))
    for t, x, y in zip(table["t"], table["x"], table["y"], strict=True):
        frame = int(np.floor((t - start) / window))
        if 0 <= frame < count:
            frames[frame, int(y), int(x)] += 1
    clipped = torch.from_numpy(np.minimum(frames, clip)).float().unsqueeze(1)
    return torch.nn.functional.adaptive_avg_pool2d(clipped, size) / clip


@pytest.mark.parametrize("suffix", [".parquet", ".zip", ".txt"])
@pytest.mark.parametrize("block", [7, 1 << 20])
def test_events_are_counted(suffix: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "BLOCK", block)
    times = np.sort(np.random.default_rng(3).uniform(100.03, 102.2, 400).round(5))
    times = times[(times < 100.75) | (times > 101.3)]  # a frame without any
    table = recording(times.tolist())
    path = written(table, tmp_path / f"r{suffix}")
    found = event_frames(path, 2, 0.25, 3, lambda first: (100.1, None), SENSOR)
    assert found.shape == (8, 1, 2, 2)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected(table, 100.1, 0.25, 8, 3, 2))
    assert not found[3].any()
    assert 0 < found.max() <= 1
    early = event_frames(path, 2, 0.25, 3, lambda first: (first, first + 0.6), SENSOR)
    assert len(early) == 2


def test_the_unit_of_time_is_told_by_the_point(tmp_path: Path) -> None:
    table = recording([0.5, 1.0, 1.5, 2.75])
    seconds = written(table, tmp_path / "s.txt", header=False)
    micro = written(table.assign(t=(table["t"] * 1e6).astype("int64")), tmp_path / "m.txt", header=False)
    frames = [event_frames(path, 1, 1.0, 9, lambda first: (first, None), SENSOR) for path in (seconds, micro)]
    assert torch.equal(*frames)
    assert [round(float(frame.sum()) * 9 * 24) for frame in frames[0]] == [2, 1]


def wrong(words: str, path: Path, **options: Any) -> None:
    settings = {"size": 2, "window": 1.0, "clip": 3, "span": lambda first: (first, None), "sensor": SENSOR, **options}
    with pytest.raises((DataError, OptionError), match=words) as error:
        event_frames(path, **settings)
    assert "\n" not in str(error.value)


def test_wrong_recordings(tmp_path: Path) -> None:
    good = recording([0.0, 1.0, 2.0, 3.5])
    wrong("window must be above 0 seconds", tmp_path / "a.txt", window=0)
    wrong("clip must be at least 1 event", tmp_path / "a.txt", clip=0)
    wrong("size is 1 to 4 cells, not 5", tmp_path / "a.txt", size=5)
    wrong("does not exist", tmp_path / "a.txt")
    wrong("is no recording of events", tmp_path / "a.bag")
    wrong("has events outside of 6 columns and 4 rows", written(good.assign(x=[0, 1, 6, 0]), tmp_path / "a.parquet"))
    wrong("not in the order of their times", written(good.assign(t=[0.0, 2.0, 1.0, 3.0]), tmp_path / "a.parquet"))
    wrong("has no whole window of 9 s", written(good, tmp_path / "a.parquet"), window=9)
    wrong("holds no events", written(good[:0], tmp_path / "a.parquet"))
    good.drop(columns="x").to_parquet(tmp_path / "b.parquet")
    wrong("lacks the columns x", tmp_path / "b.parquet")
    (tmp_path / "b.parquet").write_bytes(b"none")
    wrong("cannot be read as a parquet file of events", tmp_path / "b.parquet")
    for text in ("1.0 2 3 1\n1.5 no 2 1\n", "1.0 2 3 1\n1.5 2\n", "1.0,2,3,1\n"):
        (tmp_path / "c.txt").write_text(text)
        wrong("has lines that are not 't x y p'", tmp_path / "c.txt")
    (tmp_path / "c.txt").write_text("wide high\n")
    wrong("must start with 'columns rows' or an event", tmp_path / "c.txt")
    (tmp_path / "d.zip").write_bytes(b"none")
    wrong(r"d\.zip cannot be read", tmp_path / "d.zip")
    with zipfile.ZipFile(tmp_path / "e.zip", "w") as archive:
        archive.writestr("a.csv", "")
    wrong("must hold one .txt file of events, not 0", tmp_path / "e.zip")


# Positions


def sentence(body: str) -> str:
    return f"${body}*{reduce(xor, body.encode(), 0):02X}"


def rmc(second: int, latitude: float, longitude: float, *, start: int = 86_390, fix: str = "A") -> str:
    """A sentence of a receiver in Brisbane, south and east; ``latitude`` is of degrees south."""
    clock = (start + second) % 86_400
    time = f"{clock // 3600:02d}{clock // 60 % 60:02d}{clock % 60:02d}.000"
    south, east = (f"{int(v):0{width}d}{v % 1 * 60:09.6f}" for v, width in ((latitude, 2), (longitude, 3)))
    return sentence(f"GPRMC,{time},{fix},{south},S,{east},E,10.0,90.0,210420,,,A")


def test_positions_of_a_receiver(tmp_path: Path) -> None:
    lines = [
        rmc(0, 27.0, 153.0, fix="V"),
        "$GPGSV,3,1,11,03,03,111,00*74",
        rmc(4, 27.5, 153.0),
        rmc(12, 27.5, 153.1),  # past midnight
        rmc(14, 20.0, 150.0).replace("153", "154").replace("*", "*F"),  # a wrong checksum
        sentence("GPGGA,000006.50,2730.000000,S,15312.000000,E,1,08,0.9,545.4,M,46.9,M,,"),
        "$GPRMC,00",
    ]
    path = tmp_path / "log.nmea"
    path.write_text("\n".join(lines))
    track = read_nmea(path)
    np.testing.assert_allclose(track.seconds, [4, 12, 16.5])
    np.testing.assert_allclose(track.latitude, [-27.5] * 3)
    np.testing.assert_allclose(track.longitude, [153.0, 153.1, 153.2], atol=1e-7)
    np.testing.assert_allclose(track.at(np.array([8.0, 0.0])), [[-27.5, 153.05], [-27.5, 153.0]], atol=1e-7)
    # one degree of latitude is 111.195 km, of longitude the cosine of the latitude of that
    apart = metres(np.array([[0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(apart, [[111_195, 111_195]], rtol=1e-5)
    apart = metres(np.array([[60.0, 0.0]]), np.array([[60.0, 0.01]]))
    np.testing.assert_allclose(apart, [[555.975]], rtol=1e-4)
    path.write_text("\n".join(lines[:3]))
    with pytest.raises(DataError, match="has 1 positions; a track needs RMC or GGA sentences with a fix"):
        read_nmea(path)
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_nmea(tmp_path / "none.nmea")


# Data sets

STEP = 0.001
"""Degrees of longitude between the places of the made-up road, some 99 m at 27 degrees south."""


def road(folder: Path, name: str, seconds: int, speed: float, form: str) -> None:
    """Write a drive of 346x260 pixels along one road: at place k, column 10 k + 5 flickers."""
    folder.mkdir(parents=True, exist_ok=True)
    drive = DRIVES[name]
    lines = [rmc(second, 27.0, 153.0 + STEP * speed * second) for second in range(seconds + 1)]
    (folder / f"20200421_170039-{name}_concat.nmea").write_text("\n".join(lines))
    rng = np.random.default_rng(len(name))
    t = drive.start - 2 + np.sort(rng.uniform(0, seconds + 5, 400 * seconds))
    place = np.clip(np.floor((t - drive.start) * speed), 0, 33).astype(int)
    table = pd.DataFrame({"t": t, "x": 10 * place + 5, "y": rng.integers(0, 260, len(t)), "p": 1})
    if form == "frames":
        (folder / name).mkdir()
        for second in range(seconds):
            picture = np.zeros((26, 34), np.uint8)
            picture[:, int(second * speed)] = 255
            Image.fromarray(picture).save(folder / name / f"{second}.png")
    else:
        written(table, folder / f"{drive.file}{form}", header=False)
        (folder / f"{drive.file}_hot_pixels.txt").write_text("1,2\n")


def test_brisbane(tmp_path: Path) -> None:
    folder = tmp_path / "brisbane-event-vpr"
    road(folder, "sunset2", 10, 1.0, "_no_hot_pixels_nobursts_denoised.parquet")
    road(folder, "daytime", 20, 0.5, ".txt")
    road(folder, "sunset1", 5, 2.0, "frames")
    data = datasets.load("brisbane-event-vpr", root=tmp_path, reference=["sunset2", "daytime"], size=34)
    assert isinstance(data, PlaceDataset)
    assert (data.shape, data.places, data.traverses, len(data.test)) == ((1, 34, 34), 10, 2, 5)
    # a second at twice the speed covers two places, whose middles are 50 m away
    right = torch.zeros(10, 5, dtype=torch.bool)
    for query in range(5):
        right[2 * query : 2 * query + 2, query] = True
    assert torch.equal(data.truth, right)
    for traverse in range(2):
        images, _ = data.references(traverse).batch(slice(None))
        assert images.sum(dim=(1, 2)).argmax(dim=1).tolist() == list(range(10))
    images, _ = data.test.batch(slice(None))
    assert images.sum(dim=(1, 2)).argmax(dim=1).tolist() == [0, 2, 4, 6, 8]

    with pytest.raises(DataError, match="the ground truth is empty"):
        datasets.load("brisbane-event-vpr", root=tmp_path, size=34, tolerance=1)
    some = datasets.load("brisbane-event-vpr", root=tmp_path, size=34, places=6, calibration=2)
    assert isinstance(some, PlaceDataset)
    assert (some.places, len(some.test)) == (4, 2)
    assert some.calibration is not None
    assert (some.calibration.places, len(some.calibration.test)) == (2, 1)


def test_qcr(tmp_path: Path) -> None:
    folder = tmp_path / "qcr-event-vpr"
    folder.mkdir()
    for name in ("1", "6"):
        walk = WALKS[name]
        length = walk.landmarks[-1]
        t = np.sort(np.random.default_rng(int(name)).uniform(500, 500 + walk.start + length + 5, 20_000))
        t[0] = 500
        table = pd.DataFrame({"t": t, "x": 1, "y": 1, "p": 0})
        written(table, folder / f"{walk.file}_denoised.parquet")
    data = datasets.load("qcr-event-vpr", root=tmp_path, reference=1, query="6", size=4)
    assert isinstance(data, PlaceDataset)
    assert (data.places, len(data.test)) == (163, 68)
    share = data.truth.float().mean(dim=0)
    assert data.truth.any(dim=0).all()
    assert 0.02 < float(share.mean()) < 0.045  # within 2 % on either side, less at the ends
    # the third landmark: second 31 of walk 1 is second 12.7 of walk 6
    shown = data.truth[:, 12].nonzero().flatten()
    assert shown.min() <= 30 <= shown.max()
    assert int(shown.max() - shown.min()) + 1 == len(shown)


def test_absent_recordings(tmp_path: Path, empty_machine: Path) -> None:
    for name in ("brisbane-event-vpr", "qcr-event-vpr"):
        with pytest.raises(DataError, match=f"data set '{name}' not found: .*https://zenodo.org"):
            datasets.load(name)
        with pytest.raises(DataError, match=f"{name} cannot be fetched: get recordings"):
            datasets.fetch(name)
    with pytest.raises(OptionError, match=r"dataset.query is one of sunset1, .*, not 'noon'"):
        datasets.load("brisbane-event-vpr", query="noon")
    with pytest.raises(OptionError, match=r"dataset.tolerance must be at least 0, not -1"):
        datasets.load("qcr-event-vpr", tolerance=-1)
    folder = tmp_path / "brisbane-event-vpr"
    road(folder, "sunset2", 3, 1.0, ".zip")
    with pytest.raises(DataError, match=r"has no file \*sunset1\*.nmea with the positions of sunset1"):
        datasets.load("brisbane-event-vpr", root=tmp_path)
    (folder / "sunset1.nmea").write_text("\n".join(rmc(second, 27.0, 153.0) for second in range(3)))
    with pytest.raises(DataError, match="has no recording dvs_vpr_2020-04-21-17-03-03"):
        datasets.load("brisbane-event-vpr", root=tmp_path)
    with pytest.raises(OptionError, match=r"dataset.places is 1 to 3 for sunset2, not 4"):
        datasets.load("brisbane-event-vpr", root=tmp_path, places=4)
