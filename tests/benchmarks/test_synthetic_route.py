"""The synthetic route: geometry of the pictures, how hard they are, what each option does, and the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import encoders
from benchmarks import datasets
from benchmarks.datasets import Samples
from benchmarks.datasets.places import PlaceDataset
from benchmarks.datasets.route import traverse
from benchmarks.datasets.route.assets import POST, Assets
from benchmarks.datasets.route.conditions import CONDITIONS, Condition
from benchmarks.datasets.route.passes import EYE, Poses, poses, stations, truth
from benchmarks.datasets.route.render import Renderer
from benchmarks.datasets.route.sensor import Sensor
from benchmarks.datasets.route.terrain import FOCAL, HORIZON, View, look
from benchmarks.datasets.route.walls import before, cover, ranges
from benchmarks.datasets.route.world import LEAD, TURN, World
from benchmarks.datasets.synthetic_route import SAD
from neurons.errors import OptionError

CLEAR = Condition(clouds=0.0, fog=0.0, dirt=0.0, traffic=0.0)


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what is rendered apart from the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STEP_CACHE", str(folder))
        yield folder / "routes"


def route(**options: Any) -> PlaceDataset:
    data = datasets.load("synthetic-route", **{"places": 12, **options})
    assert isinstance(data, PlaceDataset)
    return data


def pictures(split: Samples) -> Tensor:
    return split.batch(slice(None))[0]


@pytest.fixture(scope="module")
def world() -> World:
    return World((7, 0), 400.0, 0.3)


# geometry ------------------------------------------------------------------------------------------------------------


class Plain(World):
    """A level plain with a straight road along the x axis."""

    def __init__(self) -> None:
        super().__init__((0,), 200.0, 0.0)
        for table in (self.road_y, self.road_z, self.heading, self.slope, self.bank, self.forest):
            table[:] = 0
        self.cosine[:] = 1
        self.road_s = np.arange(len(self.road_s)) * np.float64(0.5) - LEAD
        self.where = self.road_s.astype(np.float32)
        self.hills.flat[:] = 0


def level(x: float = 400.0, y: float = 0.0, yaw: float = 0.0, eye: float = EYE) -> Poses:
    return Poses(*(np.array([value]) for value in (x - LEAD, x, y, eye, yaw, 0.0)))


def test_a_plain_lies_at_the_distance_that_the_slope_of_the_ray_says() -> None:
    view = look(Plain(), level(), 64)
    rows = (HORIZON - (np.arange(64) + 0.5) / 64) / FOCAL
    below = np.flatnonzero(rows < -0.02)
    expected = EYE / -rows[below]
    assert np.allclose(view.depth[0, below], expected[:, None], rtol=1e-3)
    assert np.isinf(view.depth[0, rows > 0]).all()
    assert np.allclose(view.x[0, below], 400 + expected[:, None], rtol=1e-3)
    assert np.allclose(view.y[0, below], expected[:, None] * view.left, rtol=1e-3, atol=1e-3)


def test_the_march_finds_the_ground_that_a_fine_march_finds(world: World) -> None:
    cameras = poses(world, np.array([20.0, 150.0, 290.0]), (1,), 0.2, 1.0)
    view = look(world, cameras, 32)
    fine = np.arange(1.4, 1100, 0.05)
    checked = differs = 0
    for number in range(3):
        cosine, sine = np.cos(cameras.yaw[number]), np.sin(cameras.yaw[number])
        for column in range(0, 32, 5):
            left = view.left[column]
            x = cameras.x[number] + fine * (cosine - left * sine)
            y = cameras.y[number] + fine * (sine + left * cosine)
            slopes = (world.height(x.astype(np.float32), y.astype(np.float32)) - cameras.z[number]) / fine
            for row in range(32):
                hit = np.flatnonzero(slopes >= view.up[number, row])
                expected = fine[hit[0]] if len(hit) else np.inf
                found = view.depth[number, row, column]
                checked += 1
                # steps are of 18 %; beyond, what is thin is missed
                same = found == expected if np.isinf(expected) else abs(found - expected) < 0.2 * expected
                differs += not same
    assert checked == 672
    assert differs < 0.05 * checked


def post(ahead: float, left: float, height: float, width: float) -> Assets:
    assets = Assets.__new__(Assets)
    values = {"s": 100 + ahead, "x": 400 + ahead, "y": left, "z": 0.0, "dx": 0.0, "dy": 0.0, "width": width}
    for name, value in {**values, "height": height, "albedo": 0.8, "phase": 0.0, "facing": 0.0}.items():
        setattr(assets, name, np.array([value]))
    assets.kind = np.array([POST], np.int8)
    return assets


@pytest.mark.parametrize(("ahead", "left", "yaw"), [(10.0, 3.0, 0.0), (25.0, -6.0, 0.0), (12.0, 0.0, 0.2)])
def test_a_thing_stands_where_a_pinhole_camera_sees_it(ahead: float, left: float, yaw: float) -> None:
    view = look(Plain(), level(yaw=yaw), 64)
    covered = cover(before(post(ahead, left, 2.0, 1.0), view), view)
    rows, columns = covered.pixel // 64, covered.pixel % 64
    depth = ahead * math.cos(yaw) + left * math.sin(yaw)
    across = left * math.cos(yaw) - ahead * math.sin(yaw)
    scale = FOCAL * 64 / depth
    assert abs(columns.mean() - (31.5 - scale * across)) < 1
    assert abs(rows.max() - (HORIZON * 64 - 0.5 + scale * EYE)) <= 1
    assert abs(rows.min() - (HORIZON * 64 - 0.5 - scale * (2.0 - EYE))) <= 1
    assert abs(len(covered.pixel) - scale * 2 * scale) <= 2 * scale + 4
    assert np.allclose(covered.depth, depth, rtol=1e-5)


def test_things_behind_a_hill_or_the_camera_are_not_seen() -> None:
    plain = Plain()
    view = look(plain, level(), 64)
    hidden = View(view.poses, view.left, view.up, np.full_like(view.depth, 5.0), view.x, view.y)
    assert len(cover(before(post(20.0, 3.0, 2.0, 1.0), hidden), hidden).pixel) == 0
    assert len(cover(before(post(-8.0, 3.0, 2.0, 1.0), view), view).pixel) == 0


def test_ranges_are_the_plain_loop() -> None:
    first, last = np.array([3, 5, 2, 9]), np.array([6, 5, 1, 11])
    expected = [(i, k) for i, (a, b) in enumerate(zip(first, last, strict=True)) for k in range(a, b)]
    assert list(zip(*(each.tolist() for each in ranges(first, last)), strict=True)) == expected


def test_the_road_never_turns_back_and_points_lie_beside_it(world: World) -> None:
    assert np.abs(world.heading).max() <= TURN
    assert (np.diff(world.road_s) > 0).all()
    s, n = np.array([0.0, 50.0, 333.0]), np.array([0.0, 4.0, -7.0])
    x, y, _, _ = world.point(s, n)
    i, beside = world.beside(x.astype(np.float32), y.astype(np.float32))
    assert np.allclose(beside, n, atol=0.25)
    assert np.allclose(world.where[i], s, atol=3.0)


def test_a_longer_world_begins_as_a_shorter_one() -> None:
    short, long = route(places=8), route(places=20)
    for traverse_number in (0, 1):
        first, second = (pictures(data.references(traverse_number)) for data in (short, long))
        assert torch.equal(first, second[:8])
    assert torch.equal(pictures(short.test), pictures(long.test)[:8])


# how hard it is ------------------------------------------------------------------------------------------------------


def views(split: Samples) -> Tensor:
    view = encoders.create("view", size=28, window=7)
    return view(pictures(split), 1)[0].flatten(1)


def nearest(data: PlaceDataset) -> float:
    """R@1 of the sum of absolute differences of patch-normalised images, the better of both references."""
    queries, references = views(data.test), views(data.train)
    distance = torch.cdist(queries, references, p=1).reshape(len(queries), data.traverses, data.places)
    best = distance.amin(1).argmin(1)
    return float(data.truth[best, torch.arange(len(queries))].to(torch.float32).mean())


def test_it_is_as_hard_as_it_says() -> None:
    # libraries that round otherwise may move a few queries, no more
    assert abs(nearest(route(places=100)) - SAD[0][100]) <= 0.05
    assert all(0.3 <= by_places[3_300] <= 0.6 for by_places in SAD.values())


def test_places_are_recognised_in_the_light_of_the_map() -> None:
    assert nearest(route(places=100, condition="morning", lateral=0.0, yaw=0.0)) > 0.85


# options -------------------------------------------------------------------------------------------------------------


def test_what_it_is() -> None:
    data = route(size=32)
    assert data.synthetic
    assert (data.places, data.traverses, data.shape, len(data.test)) == (12, 2, (1, 32, 32), 12)
    assert torch.equal(data.truth, torch.eye(12, dtype=torch.bool))
    assert "synthetic" in data.note
    assert not torch.equal(pictures(data.references(0)), pictures(data.references(1)))
    assert float(pictures(data.train).std()) > 0.05


def test_same_seed_same_pictures() -> None:
    first, other = route(), route(seed=1)
    drawn, _ = traverse.drawn(*asked())
    assert torch.equal(drawn, torch.round(pictures(first.test) * 255).to(torch.uint8))
    assert not torch.equal(pictures(first.train), pictures(other.train))


def asked() -> tuple[traverse.Route, traverse.Pass]:
    """Return the queries of ``route()``."""
    run = traverse.Pass((0, 0, 2), CONDITIONS["dusk"], 0.0, 110.0, 10.0, 0.2, 1.0)
    return traverse.Route((0, 0), 110.0, 0.3), run


def test_references_do_not_depend_on_the_queries() -> None:
    first, other = route(), route(condition="snow", lateral=1.0, yaw=5.0, speed=0.2)
    assert torch.equal(pictures(first.train), pictures(other.train))


def test_every_condition_looks_different() -> None:
    shown = {name: pictures(route(places=4, condition=name).test) for name in CONDITIONS}
    assert len({tuple(images.flatten().tolist()) for images in shown.values()}) == len(CONDITIONS)
    assert all(float(images.std()) > 0.04 for images in shown.values())


def test_radiance_of_night_and_snow(world: World) -> None:
    assets = Assets(world)
    cameras = poses(world, stations((1,), 0.0, 300.0, 50.0, 0.0), (1,), 0.0, 0.0)
    radiance = {
        name: np.concatenate(list(Renderer(world, assets, CONDITIONS[name], 32, (1,)).images(cameras)))
        for name in ("morning", "night")
    }
    assert all(np.isfinite(each).all() and (each >= 0).all() for each in radiance.values())
    assert radiance["night"].mean() < 0.25 * radiance["morning"].mean()
    green, white = (
        np.concatenate(list(Renderer(world, assets, replace(CLEAR, snow=snow), 32, (1,)).images(cameras)))
        for snow in (0.0, 0.9)
    )
    assert white[:, 20:].mean() > 1.5 * green[:, 20:].mean()


def test_fog_hides_what_is_far(world: World) -> None:
    cameras = poses(world, np.array([100.0]), (1,), 0.0, 0.0)
    thick = replace(CLEAR, fog=1.0, horizon=0.5, zenith=0.5, sun=0.0)
    image = Renderer(world, Assets(world), thick, 32, (1,)).draw(cameras, 0)
    assert np.abs(image[0, :20] - 0.5).max() < 0.02


def test_queries_outside_the_map_show_no_place() -> None:
    data = route(outside=5)
    assert len(data.test) == 17
    assert data.truth.any(0).tolist() == [True] * 12 + [False] * 5
    assert data.test.labels[12:].tolist() == [-1] * 5
    assert torch.equal(pictures(data.test)[:12], pictures(route().test))


def test_places_for_calibration_are_others() -> None:
    data = route(calibration=6)
    other = data.calibration
    assert other is not None
    assert (other.places, len(other.test), other.traverses) == (6, 6, 2)
    mine, theirs = (pictures(each.train).flatten(1) for each in (data, other))
    assert float(torch.cdist(mine, theirs, p=1).min()) > 0.01 * mine.shape[1]


def test_speed_moves_queries_and_truth_follows() -> None:
    data = route(places=150, speed=0.5, size=16)
    assert len(data.test) != 150
    assert (data.truth.sum(0) == 1).all()
    order = data.test.labels
    assert (order.diff() >= 0).all()
    assert 0 in order.diff()
    assert int(order.diff().max()) >= 2


def test_stations_at_constant_speed_are_even() -> None:
    assert stations((0,), 0.0, 50.0, 10.0, 0.0).tolist() == [0, 10, 20, 30, 40, 50]


def test_truth_is_the_nearest_place() -> None:
    found = truth(np.array([0.0, 10.0, 20.0]), np.array([-3.0, 4.0, 6.0, 26.0, 31.0]), 10.0)
    assert found.tolist() == [
        [True, True, False, False, False],
        [False, False, True, False, False],
        [False] * 3 + [True, False],
    ]


def test_jitter_has_its_size(world: World) -> None:
    s = np.full(400, 100.0)
    still, moved = (poses(world, s, (3,), *jitter) for jitter in ((0.0, 0.0), (0.5, 3.0)))
    yaw, distance = moved.yaw - still.yaw, np.hypot(moved.x - still.x, moved.y - still.y)
    assert abs(np.rad2deg((yaw - yaw.mean()).std()) - 3.0) < 0.6
    assert abs(np.sqrt((distance**2).mean()) - 0.5 * math.sqrt(1 + 4)) < 0.15


def test_photons_are_counted() -> None:
    run = replace(asked()[1], photons=2.0)
    images, _ = traverse.drawn(asked()[0], run)
    counted = images.to(torch.float64) / (255 / 8.0)
    assert abs(float(counted.mean()) - 2.0) < 0.1
    assert float((counted - counted.round()).abs().max()) < 0.02
    even = Sensor(CLEAR, 32, (0,), 3.0).images(np.ones((4, 32, 32), np.float32), 0).astype(float) / (255 / 12.0)
    assert abs(even.mean() - 3.0) < 0.15
    assert abs(even.var() - 3.0) < 0.3


def test_aliasing_makes_places_alike() -> None:
    def closest(aliasing: float) -> float:
        flat = pictures(route(places=150, size=32, aliasing=aliasing, lateral=0.0, yaw=0.0).references(1)).flatten(1)
        return float((torch.cdist(flat, flat, p=1) + torch.eye(150) * 1e6).amin(1).mean())

    assert closest(1.0) < 0.9 * closest(0.0)


def test_events_are_counts_that_follow_edges() -> None:
    data = route(places=3, sensor="events")
    raw = torch.round(pictures(data.train) * 255)
    assert 0.05 < float(raw.mean()) < 20
    frames = pictures(route(places=3).train)
    edges = frames.diff(dim=-1)[:, :, 2:].abs().flatten()
    counted = raw[:, :, 2:, 1:].flatten()
    assert float(torch.corrcoef(torch.stack([edges, counted]))[0, 1]) > 0.15


# cache ---------------------------------------------------------------------------------------------------------------


def test_images_are_kept_and_damaged_ones_drawn_anew(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, run = asked()
    run = replace(run, key=(5, 5, 5))
    known = set(cache_folder.glob("*"))
    first, at = traverse.images_of(spec, run)
    (file,) = set(cache_folder.glob("*")) - known

    calls: list[traverse.Pass] = []
    drawn = traverse.drawn

    def counted(route: traverse.Route, run: traverse.Pass) -> tuple[Tensor, np.ndarray]:
        calls.append(run)
        return drawn(route, run)

    monkeypatch.setattr(traverse, "drawn", counted)
    again, where = traverse.images_of(spec, run)
    assert torch.equal(again, first)
    assert np.array_equal(where, at)
    assert not calls
    file.write_bytes(b"\x08\0\0\0\0\0\0\0spoiled!")
    assert torch.equal(traverse.images_of(spec, run)[0], first)
    assert len(calls) == 1


def test_a_folder_that_cannot_be_written_to_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv("STEP_CACHE", str(tmp_path / "taken"))
    with pytest.warns(UserWarning, match="cannot be kept"):
        data = route(places=2, size=16)
    assert data.places == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"places": 1}, "places"),
        ({"outside": -1}, "outside"),
        ({"size": 8}, "size"),
        ({"condition": "dawn"}, "morning, noon"),
        ({"lateral": 2.0}, "lateral"),
        ({"yaw": -1.0}, "yaw"),
        ({"speed": 1.0}, "speed"),
        ({"aliasing": 1.5}, "aliasing"),
        ({"photons": 0.0}, "photons"),
        ({"sensor": "lidar"}, "frames or events"),
        ({"sensor": "events", "photons": 1.0}, "leave it out"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        route(**options)
