"""Radiance that a camera sees: sky, ground, things beside the road, fog, lamps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.datasets.drawing import random_state
from benchmarks.datasets.route import assets as kinds
from benchmarks.datasets.route.assets import Assets
from benchmarks.datasets.route.conditions import Condition
from benchmarks.datasets.route.noise import Tile
from benchmarks.datasets.route.passes import LANE, Poses
from benchmarks.datasets.route.terrain import View, column, look
from benchmarks.datasets.route.walls import Covered, Upright, before, cover, joined
from benchmarks.datasets.route.world import FIELDS, ROAD, STEP, TUNNEL, World

CHUNK = 32
"""Images that are rendered together."""
PORTAL_HALF, PORTAL_HEIGHT = 4.6, 5.6
"""Half the width of a tunnel and its height in metres."""


class Renderer:
    """Draws what cameras in a world see under a condition.

    Parameters
    ----------
    world : World
    assets : Assets
    condition : Condition
    size : int
        Rows and columns of an image.
    key : tuple of int
        Seed of what differs from pass to pass: clouds and traffic.
    """

    def __init__(self, world: World, assets: Assets, condition: Condition, size: int, key: tuple[int, ...]) -> None:
        self.world, self.assets, self.condition, self.size, self.key = world, assets, condition, size, key
        self.clouds = Tile((*key, 1), 3.2)
        azimuth, elevation = np.deg2rad(condition.azimuth), np.deg2rad(condition.elevation)
        self.towards = np.array([np.cos(azimuth), np.sin(azimuth)], np.float32)
        self.rise, self.slant = float(np.sin(elevation)), float(np.cos(elevation))

    def images(self, cameras: Poses, first: int = 0) -> Iterator[np.ndarray]:
        """Yield the radiance of some images after the others, float32 [B, size, size].

        ``first`` is the number of the first image, on which what passes by depends.
        """
        for start in range(0, len(cameras), CHUNK):
            yield self.draw(cameras.part(slice(start, start + CHUNK)), first + start)

    def draw(self, cameras: Poses, first: int, repeated: int = 1) -> np.ndarray:
        """Return the radiance of a few images, of which ``repeated`` at a time show the same moment."""
        view = look(self.world, cameras, self.size)
        condition = self.condition
        light = self._ground(view)
        up = before(self.assets, view)
        shaded = self._shadows(view, up)
        up, cars = self._traffic(view, up, first, repeated)
        covered = cover(up, view)
        image = self._albedo_of_ground(view) * (light * shaded + self._lamps(view, up))
        depth = view.depth.copy()
        self._paint(image, depth, up, covered, cars)
        veil = np.exp(-condition.fog * np.minimum(depth, np.float32(1e6)))
        haze = np.float32(condition.horizon)
        image = image * veil + haze * (1 - veil)
        sky = np.isinf(depth)
        image[sky] = self._sky(view)[sky]
        self._tunnels(view, image)
        return image.astype(np.float32, copy=False)

    def _sky(self, view: View) -> np.ndarray:
        condition = self.condition
        azimuth = column(view.poses.yaw) + np.arctan(view.left)
        up = view.up[:, :, None]
        high = np.clip(up, 0.0, 1.2)
        base = condition.horizon + (condition.zenith - condition.horizon) * (high / 1.2) ** 0.5
        far = 1 / (high + 0.22)
        texture = self.clouds.smooth(far * np.cos(azimuth), far * np.sin(azimuth), 9.0)
        sun = np.arctan2(self.towards[1], self.towards[0])
        apart = (azimuth - sun + np.pi) % (2 * np.pi) - np.pi
        elevation = np.arcsin(self.rise)
        glow = 1.5 * condition.sun * np.exp(-(apart**2 + (np.arctan(up) - elevation) ** 2) / 0.15)
        return base * (1 + condition.clouds * texture).clip(0.2, 2.5) + glow

    def _ground(self, view: View) -> np.ndarray:
        """Return how much light falls on the ground of each pixel."""
        condition = self.condition
        step = np.float32(14.0)
        hills = self.world.hills
        slope = hills.smooth(view.x + step * self.towards[0], view.y + step * self.towards[1], 2600.0)
        slope -= hills.smooth(view.x, view.y, 2600.0)
        lit = (self.rise - slope * np.float32(28 / 14) * self.slant).clip(0, 1)
        return condition.ambient + condition.sun * lit

    def _albedo_of_ground(self, view: View) -> np.ndarray:
        world, condition = self.world, self.condition
        i, n = world.beside(view.x, view.y)
        s = world.where[i] + (view.x - i * np.float32(STEP)) / world.cosine[i]
        beside = np.abs(n)
        blur = np.exp(-view.depth * np.float32(1 / 45))
        blur[np.isinf(view.depth)] = 0
        fine = world.fine.at(view.x, view.y, 24.0) * blur
        middle = world.land.at(view.x, view.y, 310.0)
        # fields of 70 m, each with a tone of its own
        side = (n > 0).astype(np.int32)
        patch = (
            np.floor(s * np.float32(1 / 70)).astype(np.int32) * 2 + side + np.floor(beside / 90).astype(np.int32) * 7
        )
        tone = world.fine.flat[(patch * 1571) & 0xFFFF]
        field = (world.kind[i] == FIELDS) & (beside > 9)
        albedo = np.where(field, condition.crop * (1 + 0.35 * tone), condition.grass)
        dull = world.bare[i]
        albedo = albedo * (1 + (0.30 * middle + 0.16 * fine) * (1 - 0.75 * dull))
        rows = np.sin(n * np.float32(2.4) + tone * 3) * blur
        albedo = np.where(field, albedo * (1 + 0.12 * rows), albedo)
        wood = (world.forest[i] > 0.5) & (beside > 15)
        albedo = np.where(wood, 0.35 * condition.leaf * (1 + 0.4 * fine + 0.3 * middle), albedo)
        paved = world.paved[i] * (beside < 6.5)
        albedo += paved * (0.22 + 0.02 * fine - albedo)
        white = condition.snow * (0.75 + 0.25 * np.tanh(2 * middle)) * (1 - 0.4 * wood)
        albedo += white * (0.85 - albedo)
        verge = (beside < ROAD + 1.2) & (world.paved[i] < 0.5)
        albedo = np.where(verge, 0.30 + 0.05 * fine + 0.25 * condition.snow, albedo)
        # asphalt was laid in lengths of 130 m, and mended
        laid = world.fine.flat[(np.floor(s * np.float32(1 / 130)).astype(np.int32) * 7919) & 0xFFFF]
        mended = world.land.at(s, n * 6, 140.0) > 1.6
        asphalt = (0.13 + 0.015 * laid - 0.05 * mended) * (1 + 0.07 * fine) + 0.25 * condition.snow
        albedo = np.where(beside < ROAD, asphalt, albedo)
        dashes = (beside < 0.12 + view.depth * 0.004) & (s % 12 < 4) & (view.depth < 60)
        lines = (np.abs(beside - 3.1) < 0.10 + view.depth * 0.003) & (view.depth < 60)
        return np.where(dashes | lines, 0.5 + 0.1 * condition.snow, albedo).clip(0.02, 0.95)

    def _shadows(self, view: View, up: Upright) -> np.ndarray:
        """Return the share of light that things leave to the ground: each darkens a stripe away from the sun."""
        shaded = np.ones(view.depth.shape, np.float32)
        condition = self.condition
        if condition.sun < 0.2:
            return shaded
        reach = self.slant / max(self.rise, 0.12)
        assets = self.assets
        near = (up.ahead > 0) & (up.ahead < 45) & (assets.height[up.thing] > 2.5)
        picked = np.flatnonzero(near & (np.abs(up.left) < 30) & (assets.kind[up.thing] != kinds.LAMP))
        camera, thing = up.camera[picked], up.thing[picked]
        long = np.minimum(assets.height[thing] * reach, 40.0)
        wide = np.maximum(up.length[picked] * 0.42, 0.3)
        px = assets.x[thing] + assets.dx[thing] / 2
        py = assets.y[thing] + assets.dy[thing] / 2
        flat = shaded.reshape(len(shaded), -1)
        lower = view.size * 2 // 5  # the ground before the camera
        for number in range(len(shaded)):
            mine = camera == number
            if not mine.any():
                continue
            x, y = view.x[number, lower:, :, None] - px[mine], view.y[number, lower:, :, None] - py[mine]
            away = -(x * self.towards[0] + y * self.towards[1])
            across = np.abs(y * self.towards[0] - x * self.towards[1])
            dark = ((away > 0) & (away < long[mine]) & (across < wide[mine])).any(2)
            dark &= view.depth[number, lower:] < 70
            flat[number, lower * view.size :] = np.where(dark.ravel(), self._shade(), 1.0)
        return shaded

    def _shade(self) -> float:
        condition = self.condition
        return condition.ambient / (condition.ambient + condition.sun * max(self.rise, 0.05)) + 0.08

    def _lamps(self, view: View, up: Upright) -> np.ndarray:
        """Return the light of headlights and street lamps on the ground."""
        condition = self.condition
        if condition.lamps == 0:
            return np.zeros(view.depth.shape, np.float32)
        beam = np.exp(-((view.left / 0.45) ** 2)) * np.clip(0.35 - view.up[:, :, None], 0, 1)
        light = condition.lamps * 20 * beam / (view.depth + 5.0) ** 1.5
        street = np.flatnonzero((self.assets.kind[up.thing] == kinds.LAMP) & (up.ahead > -8) & (up.ahead < 80))
        for camera, thing in zip(up.camera[street], up.thing[street], strict=True):
            far = (view.x[camera] - self.assets.x[thing]) ** 2 + (view.y[camera] - self.assets.y[thing]) ** 2
            light[camera] += condition.lamps * 0.9 * np.exp(-far / 60.0)
        return light

    def _traffic(self, view: View, up: Upright, first: int, repeated: int) -> tuple[Upright, np.ndarray]:
        """Add cars that are on this pass only; return them and which uprights they are."""
        rows = []
        for number in range(len(view.poses)):
            random = random_state(*self.key, 2, (first + number) // repeated)
            chance, lane, far, high, tone = random.random_sample(5)
            if chance < self.condition.traffic:
                rows.append((number, lane < 0.6, 7.0 + 45.0 * far**1.5, 1.4 + 1.6 * (high > 0.75), tone))
        if not rows:
            return up, np.full(len(up.thing), -1.0, np.float32)
        camera, oncoming, far, tall, tone = (np.array(each) for each in zip(*rows, strict=True))
        poses = view.poses
        x, y, z, _ = self.world.point(poses.s[camera] + far, np.where(oncoming, -LANE, LANE))
        dx, dy, yaw = x - poses.x[camera], y - poses.y[camera], poses.yaw[camera]
        left = (dy * np.cos(yaw) - dx * np.sin(yaw)).astype(np.float32)
        ahead = (dx * np.cos(yaw) + dy * np.sin(yaw)).astype(np.float32)
        wide = np.full(len(rows), 1.9, np.float32)
        zero = np.zeros(len(rows), np.float32)
        foot = (z - poses.z[camera]).astype(np.float32)
        cars = Upright(
            camera, np.full(len(rows), -1), left + wide / 2, ahead, -wide, zero, foot, tall.astype(np.float32), wide
        )
        marks = np.concatenate([np.full(len(up.thing), -1.0), tone]).astype(np.float32)
        return joined(up, cars), marks

    def _paint(self, image: np.ndarray, depth: np.ndarray, up: Upright, covered: Covered, cars: np.ndarray) -> None:
        """Paint things over the ground, the farthest first."""
        colour, opaque = self._colours(up, covered, cars)
        pixel = covered.pixel[opaque]
        # where an index comes twice, NumPy keeps the last: the nearest
        image.reshape(-1)[pixel] = colour[opaque]
        depth.reshape(-1)[pixel] = covered.depth[opaque]

    def _colours(self, up: Upright, covered: Covered, cars: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        condition, assets, fine = self.condition, self.assets, self.world.fine
        of = covered.upright
        car = cars[of]
        thing = up.thing[of]
        kind = np.where(car >= 0, kinds.CAR, assets.kind[thing])
        own, phase = assets.albedo[thing], assets.phase[thing]
        t, h = covered.along, covered.above
        metres, metres_up = t * up.length[of], h * up.height[of]
        blur = np.exp(-covered.depth / 60)
        texture = fine.at(metres + phase * 71, metres_up + phase * 37, 26.0) * blur
        rough = fine.at(metres + phase * 71, metres_up + phase * 37, 90.0)

        facing = assets.facing[up.thing]
        cosine = np.cos(facing) * self.towards[0] + np.sin(facing) * self.towards[1]
        # the side of a wall that is seen is the one that faces the camera
        yaw = np.arctan2(up.to_left, up.to_ahead)
        outward = np.sin(yaw) * up.ahead - np.cos(yaw) * up.left
        cosine = np.where(outward > 0, -cosine, cosine)[of] * self.slant
        light = condition.ambient * 0.85 + condition.sun * np.where(
            kind == kinds.WALL, cosine.clip(0, 1), 0.55 * self.slant
        )

        albedo = own * (1 + 0.12 * texture)
        opaque = np.ones(len(of), bool)
        middle = np.abs(2 * t - 1)

        tree = kind == kinds.CONIFER
        albedo = np.where(tree, own * (0.11 + 0.4 * condition.snow * (h > 0.4)) * (1 + 0.35 * rough), albedo)
        opaque &= ~tree | (middle < (1.05 - h) * (1 + 0.25 * rough)) & (h > 0.06) | tree & (middle < 0.08)
        leafy = kind == kinds.LEAFY
        crown = (middle**2 + ((h - 0.62) / 0.38) ** 2) < 1 + 0.3 * rough
        # bare crowns are holes and branches
        leaves = crown & (fine.at(metres * 3 + phase * 53, metres_up * 3, 60.0) < 2.6 * condition.foliage - 0.6)
        trunk = (middle < 0.07) & (h < 0.5)
        opaque &= ~leafy | leaves | trunk
        shade = 0.65 + 0.55 * h
        albedo = np.where(leafy, own * np.where(trunk, 0.1, condition.leaf * shade * (1 + 0.35 * rough)), albedo)
        bush = kind == kinds.BUSH
        opaque &= ~bush | (middle**2 + h**2 < 1 + 0.3 * rough)
        albedo = np.where(bush, own * (0.18 + 0.3 * condition.snow) * (1 + 0.3 * rough), albedo)

        wall = kind == kinds.WALL
        grid_x, grid_y = 2.2 + 1.6 * phase, 2.9
        window = wall & (metres / grid_x % 1 > 0.3) & (metres / grid_x % 1 < 0.75)
        window &= (metres_up / grid_y % 1 > 0.35) & (metres_up / grid_y % 1 < 0.8) & (h < 0.74)
        roof = wall & (h > 0.76)
        albedo = np.where(window, 0.06, albedo)
        albedo = np.where(roof, 0.12 + 0.3 * (phase * 7 % 1) + condition.snow * 0.5, albedo)
        pole = kind == kinds.LAMP
        lamp = pole & (h > 0.93)
        cargo = kind == kinds.CAR
        tone = np.where(cargo, car, 0)
        albedo = np.where(cargo, np.where((h > 0.55) & (h < 0.88), 0.05, 0.06 + 0.6 * tone * tone), albedo)
        sign = kind == kinds.SIGN
        stripes = (t * (2 + 3 * phase) + h * 2 * phase) % 1 > 0.5
        albedo = np.where(sign, np.where(stripes, own, 0.9 - own * 0.7), albedo)
        portal = kind == kinds.PORTAL
        hole = portal & (np.abs(metres - 11) < PORTAL_HALF) & (metres_up < PORTAL_HEIGHT)
        albedo = np.where(hole, 0.03, albedo)

        if condition.lamps:
            beam = np.exp(-((up.left[of] / (up.ahead[of].clip(1) * 0.45)) ** 2))
            light = light + condition.lamps * 9 * beam / (covered.depth + 5) ** 1.4
        colour = albedo * light
        if condition.lamps:
            code = (np.floor(metres / grid_x) * 13 + np.floor(metres_up / grid_y) * 7 + phase * 997).astype(np.int64)
            lit = window & (fine.flat[(code * 1571) & 0xFFFF] > 0.5)
            colour = np.where(lit, condition.lamps * 0.8, colour)
            colour = np.where(lamp, condition.lamps * 3, colour)
            colour = np.where(cargo & (h < 0.5) & (h > 0.25) & (middle > 0.6), condition.lamps * 2, colour)
        return colour.astype(np.float32), opaque

    def _tunnels(self, view: View, image: np.ndarray) -> None:
        """Paint the inside of a tunnel around the cameras that are in one."""
        poses = view.poses
        world, condition = self.world, self.condition
        for number in np.flatnonzero(world.kind[world.index(poses.x.astype(np.float32))] == TUNNEL):
            s = float(poses.s[number])
            stretch = next(each for each in world.stretches if each.start <= s < each.end)
            up, left = view.up[number][:, None], view.left[None]
            eye = 1.5
            with np.errstate(divide="ignore"):
                across = np.where(left > 0, PORTAL_HALF - LANE, PORTAL_HALF + LANE) / np.abs(left)
                ceiling = np.where(up > 0, (PORTAL_HEIGHT - eye) / np.abs(up), np.inf)
                floor = np.where(up < 0, eye / np.abs(up), np.inf)
            depth = np.minimum(np.minimum(across, ceiling), floor)
            inside = depth < stretch.end - s
            place = s - stretch.start + depth
            lamp = np.exp(-(((place + 10) % 20 - 10) ** 2) / 18)
            light = 0.25 * condition.lamps + 0.10 + 0.35 * lamp + 3 / (depth + 5) ** 1.3
            # daylight comes in at both ends
            light = (
                light
                + condition.ambient * np.exp(-place / 8)
                + condition.ambient * np.exp(-(stretch.end - s - depth) / 8)
            )
            road = floor < np.minimum(across, ceiling)
            line = road & (np.abs(left * depth + LANE) < 0.12 + depth * 0.004) & (place % 12 < 4)
            albedo = np.where(road, np.where(line, 0.5, 0.13), 0.28)
            strip = (ceiling < np.minimum(across, floor)) & (np.abs(left * depth + LANE) < 0.5) & (lamp > 0.8)
            tunnel = np.where(strip, 1.5, albedo * light)
            image[number] = np.where(inside, tunnel, image[number])
