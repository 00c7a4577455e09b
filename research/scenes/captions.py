"""Sentences about a scene, from a small grammar, each noun phrase tied to the thing that it names.

A sentence says nothing that its picture does not show. It need not mention everything, and it leaves out a colour only
where no other thing of the kind is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from research.scenes.compose import Scene
from research.scenes.settings import SETTINGS
from research.scenes.things import KINDS

_PLACE = -1  # stands for the setting where a phrase names it

# "{0}" is the subject of the relation, "{1}" its object; "is" agrees with what comes before it.
_RELATIONS: dict[str, tuple[str, ...]] = {
    "left": (
        "{0} to the left of {1}",
        "{0} left of {1}",
        "{0} is on the left side of {1}",
        "there is {0} to the left of {1}",
        "{1} with {0} on the left",
    ),
    "right": (
        "{0} to the right of {1}",
        "{0} right of {1}",
        "{0} is on the right side of {1}",
        "there is {0} to the right of {1}",
        "{1} with {0} on the right",
    ),
    "next": ("{0} next to {1}", "{0} beside {1}", "{0} is near {1}", "{0} and {1} side by side", "{0} close to {1}"),
    "above": ("{0} above {1}", "{0} over {1}", "{1} below {0}", "{1} under {0}", "there is {0} above {1}"),
    "on": ("{0} on {1}", "{0} on top of {1}", "{0} is on top of {1}", "{1} with {0} on top", "{0} sits on {1}"),
    "in": ("{0} in {1}", "{0} inside {1}", "{1} with {0} in it", "there is {0} in {1}"),
    "front": ("{0} in front of {1}", "{1} behind {0}", "{1} is behind {0}", "{1} partly hidden by {0}"),
}  # fmt: skip
_WEIGHTS = {"left": 1.0, "right": 1.0, "next": 1.5, "above": 2.0, "on": 5.0, "in": 5.0, "front": 5.0}  # how often told
_POSES = {
    "boat": "sailing",
    "fish": "swimming",
    "car": "parked",
    "house": "standing",
    "tree": "growing",
    "mushroom": "growing",
    "ball": "lying",
    "cup": "standing",
}
_FLIGHTS = {"bird": "flying", "balloon": "floating", "kite": "flying", "star": "hanging"}
_NUMBERS = {2: ("two", "two", "a pair of"), 3: ("three",)}


@dataclass
class Caption:
    """A sentence in the making.

    Attributes:
        tokens: Its words, punctuation apart.
        phrases: (start, end, thing) of each noun phrase, tokens[start:end]; the thing is -1 for the setting.
    """

    tokens: list[str] = field(default_factory=list)
    phrases: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def things(self) -> set[int]:
        """The things that it names."""
        return {thing for _, _, thing in self.phrases if thing != _PLACE}

    def text(self) -> str:
        """As a person would write it."""
        sentence = " ".join(self.tokens).replace(" ,", ",").replace(" .", ".")
        return sentence[0].upper() + sentence[1:]


def captions(scene: Scene, rng: np.random.Generator) -> list[Caption]:
    """Three to five sentences, no two the same; together they name every thing."""
    wanted = int(rng.integers(3, 6))
    speaker = _Speaker(scene, rng)
    found: dict[str, Caption] = {}
    for attempt in range(60):
        caption = speaker.sentence()
        unseen = set(range(len(scene.things))) - set[int]().union(*(other.things for other in found.values()))
        if len(found) == wanted - 1 and unseen and not unseen <= caption.things and attempt < 50:
            continue
        found.setdefault(caption.text(), caption)
        if len(found) == wanted:
            break
    return list(found.values())


class _Speaker:
    """Says sentences about one scene."""

    def __init__(self, scene: Scene, rng: np.random.Generator) -> None:
        self.scene, self.rng = scene, rng
        kinds = [thing.kind for thing in scene.things]
        self.alone = [kinds.count(kind) == 1 for kind in kinds]
        self.caption = Caption()

    def sentence(self) -> Caption:
        self.caption = Caption()
        forms: list[Callable[[], None]] = [self._single]
        if len(self.scene.things) > 1:
            forms = [self._single] + [self._list] * 2
        if self.scene.relations:
            forms += [self._relation] * (5 if len(self.scene.things) == 2 else 3)
        if self.scene.relations and len(self.scene.things) > 2:
            forms += [self._relation_and_more] * 4
        forms[self.rng.integers(len(forms))]()
        if self.rng.random() < 0.6:
            self.caption.tokens.append(".")
        return self.caption

    def _single(self) -> None:
        thing = int(self.rng.integers(len(self.scene.things)))
        opening = self._one("", "", "", "there is", "a photo of", "we see")
        self._say(opening.replace("is", self._is(thing)) if opening == "there is" else opening)
        self._name(thing, colourless=0.05)
        self._place_of(thing)

    def _relation(self) -> None:
        self._related(*self._pick_relation())
        if self.rng.random() < 0.25:
            self._setting()

    def _relation_and_more(self) -> None:
        one, relation, other = self._pick_relation()
        rest = [i for i in range(len(self.scene.things)) if i not in (one, other)]
        third = rest[self.rng.integers(len(rest))]
        if self.rng.random() < 0.4:
            self._name(third)
            self._say(self._one(", and", ", with"))
            self._related(one, relation, other, plain=True)
            return
        self._related(one, relation, other)
        self._say(self._one(", and", ", with"))
        self._name(third)
        if self.scene.things[third].place == "sky" and self.rng.random() < 0.6:
            self._say("in the sky")

    def _list(self) -> None:
        order = [int(i) for i in self.rng.permutation(len(self.scene.things))]
        order = order[: 2 if len(order) == 2 or self.rng.random() < 0.4 else 3]
        for i, thing in enumerate(order):
            if i:
                self._say("and" if i == len(order) - 1 else ",")
            self._name(thing)
        if self.rng.random() < 0.5 and all(self.scene.things[thing].place != "sky" for thing in order):
            self._setting()

    def _pick_relation(self) -> tuple[int, str, int]:
        weights = np.array([_WEIGHTS[name] for _, name, _ in self.scene.relations])
        return self.scene.relations[self.rng.choice(len(weights), p=weights / weights.sum())]

    def _related(self, one: int, relation: str, other: int, *, plain: bool = False) -> None:
        """Says the relation; ``plain`` without a verb, as a part of a longer sentence."""
        ways = [way for way in _RELATIONS[relation] if not plain or (" is " not in way and "sits" not in way)]
        things = {"{0}": one, "{1}": other}
        subject = one
        for word in self._one(*ways).split():
            if word in things:
                subject = things[word]
                self._name(subject)
            elif word == "is" and self.caption.tokens == ["there"]:
                self._say(self._is(one))
            elif word in ("is", "sits"):
                self._say(self._is(subject) if word == "is" else word if self._is(subject) == "is" else "sit")
            else:
                self._say(word)

    def _place_of(self, thing: int) -> None:
        kind, place = self.scene.things[thing].kind, self.scene.things[thing].place
        if place == "sky":
            if self.rng.random() < 0.6:
                self._say(_FLIGHTS[kind])
            self._say("in the sky")
        elif place in ("ground", "water"):
            if self.rng.random() < 0.4:
                self._say(_POSES.get(kind, "standing"))
            if kind == "fish":
                self._say("in")
                self._mark(_PLACE, "the water")
            else:
                self._setting()

    def _setting(self) -> None:
        preposition, _, noun = self._one(*SETTINGS[self.scene.setting].places).partition(" ")
        self._say(preposition)
        self._mark(_PLACE, noun) if self.scene.setting != "night" else self._say(noun)

    def _name(self, index: int, *, colourless: float = 0.15) -> None:
        """The thing's noun phrase: number or article, size, colour, noun."""
        thing = self.scene.things[index]
        words = []
        if thing.size and self.rng.random() < 0.7:
            words.append(self._one("small", "little", "tiny") if thing.size == "small" else self._one("big", "large"))
        if not self.alone[index] or self.rng.random() >= colourless:
            words.append(thing.colour)
        nouns = KINDS[thing.kind].nouns
        noun = nouns[0] if self.rng.random() < 0.8 else nouns[-1]
        count = len(thing.boxes)
        words.append(noun if count == 1 or noun == "fish" else noun + "s")
        article = "an" if words[0][0] in "aeiou" else "a"
        self._mark(index, " ".join([article if count == 1 else self._one(*_NUMBERS[count]), *words]))

    def _is(self, thing: int) -> str:
        return "is" if len(self.scene.things[thing].boxes) == 1 else "are"

    def _mark(self, thing: int, words: str) -> None:
        start = len(self.caption.tokens)
        self._say(words)
        self.caption.phrases.append((start, len(self.caption.tokens), thing))

    def _say(self, words: str) -> None:
        self.caption.tokens += words.split()

    def _one(self, *choices: str) -> str:
        return choices[self.rng.integers(len(choices))]
