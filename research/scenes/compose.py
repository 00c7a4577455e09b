"""What a scene shows: which things, how large, where, and how they stand to each other. Nothing is drawn here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from research.scenes.settings import SETTINGS, day_of
from research.scenes.things import COLOURS, KINDS

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, x1 and y1 excluded

_SIZES = ((256, 192), (256, 192), (224, 224), (192, 256))


@dataclass(frozen=True, slots=True)
class _Host:
    """A thing that others may stand on or in.

    Attributes:
        guests: The kinds that may.
        top: Where they stand or vanish behind its rim, as a share of its height.
        tall, wide: The most that a guest may have of its height and width.
    """

    guests: tuple[str, ...]
    top: float
    tall: float
    wide: float


_RIDERS = {
    "cube": _Host(("ball", "bird", "cup", "cone", "mushroom", "cube"), 0.13, 0.65, 0.8),
    "house": _Host(("bird", "ball"), 0.03, 0.4, 0.6),
    "car": _Host(("bird", "ball", "cup", "cube"), 0.08, 0.7, 0.5),
}
_PASSENGERS = {
    "cup": _Host(("fish", "ball", "mushroom", "star"), 0.17, 0.75, 0.6),
    "boat": _Host(("ball", "bird", "cube", "cup", "mushroom"), 0.73, 0.36, 0.6),
}
_INDOORS = ("ball", "cube", "cone", "cup", "mushroom", "car", "bird")


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a scene, or several alike that are spoken of together.

    Attributes:
        kind, colour: Keys of ``KINDS`` and ``COLOURS``.
        size: "small", "big", or "" for neither.
        boxes: Where it is drawn; several for a group.
        seen: The same, without what a cup or a boat hides of the thing in it; a nearer thing may still hide a part.
        place: "sky", "ground", "water", "on" (another thing) or "in" (another thing).
    """

    kind: str
    colour: str
    size: str
    boxes: tuple[Box, ...]
    seen: tuple[Box, ...]
    place: str

    @property
    def extent(self) -> Box:
        """The box about all its boxes."""
        return tuple(f(b[i] for b in self.boxes) for i, f in enumerate((min, min, max, max)))  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene in full, ready to be drawn and spoken about.

    Attributes:
        setting, day: Keys of ``SETTINGS`` and its light.
        width, height, horizon: In pixels.
        light: -1 where it comes from the left, 1 from the right.
        things: One to four.
        relations: (subject, relation, object), things by number; each holds in the picture. Relations are "left",
            "right", "above", "next", "on", "in" and "front".
    """

    setting: str
    day: str
    width: int
    height: int
    horizon: int
    light: int
    things: tuple[Thing, ...]
    relations: tuple[tuple[int, str, int], ...]


def compose(rng: np.random.Generator) -> Scene:
    """A scene at random: one to four things, none hiding another beyond recognition."""
    while True:
        scene = _Composer(rng).scene()
        if scene is not None:
            return scene


class _Composer:
    """One attempt at a scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.setting = str(rng.choice(list(SETTINGS)))
        self.width, self.height = _SIZES[rng.integers(len(_SIZES))]
        self.unit = float(np.sqrt(self.width * self.height))
        self.horizon = round(self.height * rng.uniform(*SETTINGS[self.setting].horizon))
        self.things: list[Thing] = []
        self.bond: tuple[int, str, int] | None = None

    def scene(self) -> Scene | None:
        count = int(self.rng.choice(4, p=(0.1, 0.42, 0.33, 0.15))) + 1
        if count > 1 and self.rng.random() < 0.6 and not self._bonded_pair():
            return None
        while len(self.things) < count:
            if not self._another():
                return None
        light = 1 if self.rng.integers(2) else -1
        day = day_of(self.setting, self.rng)
        size = self.width, self.height, self.horizon
        return Scene(self.setting, day, *size, light, tuple(self.things), self._relations())

    def _bonded_pair(self) -> bool:
        """Two things of which one stands on, in or in front of the other."""
        ground = SETTINGS[self.setting].ground
        bond = str(self.rng.choice(["on", "in", "front"] if ground == "ground" else ["in", "front"]))
        if bond == "front":
            return self._hidden_pair(ground)
        hosts = _RIDERS if bond == "on" else _PASSENGERS
        host = str(self.rng.choice([kind for kind in self._kinds(ground) if kind in hosts]))
        first = self._ground_box(host, "", tries=20)
        if first is None:
            return False
        about = hosts[host]
        guest = str(self.rng.choice(about.guests))
        x0, y0, x1, y1 = first
        aspect = KINDS[guest].aspect
        height = min(0.75 * KINDS[guest].height * self.unit, about.tall * (y1 - y0), about.wide * (x1 - x0) / aspect)
        rim = round(y0 + about.top * (y1 - y0))
        centre = (x0 + x1) / 2 + self.rng.uniform(-0.1, 0.1) * (x1 - x0)
        box = self._box(guest, height, centre, rim if bond == "on" else rim + 0.3 * height)
        if not self._inside(box):
            return False
        seen = box if bond == "on" else (box[0], box[1], box[2], rim)
        self.things.append(Thing(guest, self._colour(guest), "", (box,), (seen,), bond))
        self.things.append(Thing(host, self._colour(host), "", (first,), (first,), ground))
        self.bond = (0, bond, 1)
        return True

    def _hidden_pair(self, ground: str) -> bool:
        """A thing partly hidden by a nearer one; over half of it stays in sight."""
        near, far = (str(kind) for kind in self.rng.choice(self._kinds(ground), 2))
        for _ in range(20):
            front, back = self._ground_box(near, "", tries=1), self._ground_box(far, "", tries=1)
            if front is None or back is None or front[3] < back[3] + 0.04 * self.height:
                continue
            if 0.12 < _overlap(front, back) / _area(back) < 0.45:
                self.things.append(Thing(near, self._colour(near), "", (front,), (front,), ground))
                self.things.append(Thing(far, self._colour(far), "", (back,), (back,), ground))
                self.bond = (0, "front", 1)
                return True
        return False

    def _another(self) -> bool:
        """One more thing, or a group of them, clear of all the others."""
        setting = SETTINGS[self.setting]
        place = "sky" if setting.sky and self.rng.random() < 0.38 else setting.ground
        kind = str(self.rng.choice(self._kinds(place)))
        size = str(self.rng.choice(["small", "", "big"], p=(0.14, 0.72, 0.14)))
        grouped = self.rng.random() < 0.14 and all(len(thing.boxes) == 1 for thing in self.things)
        boxes: list[Box] = []
        for _ in range(int(self.rng.choice([2, 2, 3])) if grouped else 1):
            box = self._free_box(kind, size, place, boxes)
            if box is None:
                return False
            boxes.append(box)
        self.things.append(Thing(kind, self._colour(kind), size, tuple(boxes), tuple(boxes), place))
        return True

    def _free_box(self, kind: str, size: str, place: str, others: Sequence[Box]) -> Box | None:
        taken = [box for thing in self.things for box in thing.boxes] + list(others)
        for _ in range(25):
            box = self._sky_box(kind, size) if place == "sky" else self._ground_box(kind, size, tries=1)
            if box and all(_overlap(box, other) <= 0.04 * min(_area(box), _area(other)) for other in taken):
                return box
        return None

    def _kinds(self, place: str) -> list[str]:
        return [k for k, kind in KINDS.items() if place in kind.places and (self.setting != "table" or k in _INDOORS)]

    def _colour(self, kind: str) -> str:
        """A colour that no other thing of this kind has."""
        taken = {thing.colour for thing in self.things if thing.kind == kind}
        return str(self.rng.choice([colour for colour in COLOURS if colour not in taken]))

    def _height(self, kind: str, size: str) -> float:
        usual = KINDS[kind].height * self.unit * self.rng.uniform(0.92, 1.08)
        return usual * {"small": 0.68, "": 1.0, "big": 1.35}[size]

    def _ground_box(self, kind: str, size: str, *, tries: int) -> Box | None:
        """Nearer things stand lower in the picture and are larger."""
        for _ in range(tries):
            near = self.rng.uniform(0, 1)
            farthest = 0.36 if self.setting == "beach" else 0.22  # not in the sea
            scale = 0.85 + 0.25 * near if self.setting == "table" else 0.62 + 0.5 * near
            base = self.horizon + (farthest + (0.94 - farthest) * near) * (self.height - self.horizon)
            box = self._box(kind, self._height(kind, size) * scale, self.rng.uniform(0.06, 0.94) * self.width, base)
            if self._inside(box):
                return box
        return None

    def _sky_box(self, kind: str, size: str) -> Box | None:
        height = self._height(kind, size) * 0.85
        base = self.rng.uniform(height + 4, max(self.horizon * 1.05, height + 5))
        box = self._box(kind, height, self.rng.uniform(0.06, 0.94) * self.width, base)
        return box if self._inside(box) else None

    def _box(self, kind: str, height: float, centre: float, base: float) -> Box:
        width = height * KINDS[kind].aspect
        x0, y0 = round(centre - width / 2), round(base - height)
        return x0, y0, x0 + max(4, round(width)), y0 + max(4, round(height))

    def _inside(self, box: Box) -> bool:
        return box[0] >= 2 and box[1] >= 2 and box[2] <= self.width - 2 and box[3] <= self.height - 2

    def _relations(self) -> tuple[tuple[int, str, int], ...]:
        found = [self.bond] if self.bond else []
        for i, j in permutations(range(len(self.things)), 2):
            if self.bond and {i, j} == {self.bond[0], self.bond[2]}:
                continue
            found += [(i, relation, j) for relation in self._between(self.things[i], self.things[j])]
        return tuple(found)

    def _between(self, one: Thing, other: Thing) -> list[str]:
        """How ``one`` stands to ``other``, from their boxes alone."""
        a, b = one.extent, other.extent
        level = (one.place != "sky" and other.place != "sky") or one.place == other.place
        apart = max(a[0] - b[2], b[0] - a[2]) / self.width
        found = []
        if level and apart > -0.02:
            found.append("left" if a[0] < b[0] else "right")
            if apart < 0.14 and abs(a[3] - b[3]) < 0.1 * self.height and len(one.boxes) == len(other.boxes) == 1:
                found.append("next")
        across = abs(a[0] + a[2] - b[0] - b[2]) / 2
        if one.place == "sky" and a[3] <= b[1] + 0.02 * self.height and across < 0.5 * max(a[2] - a[0], b[2] - b[0]):
            found.append("above")
        return found


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(a: Box, b: Box) -> int:
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
