"""The nouns and attributes of a photo's boxes, counted over the captions whose phrases are linked to the boxes.

Legend: k boxes of a photo, N nouns, A attributes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from han_retrieval.data import EntitiesPhoto, Phrase
from han_retrieval.regions.bottom_up.names import Names, parse_phrase


class BoxLabels(NamedTuple):
    """The labels of a photo's k boxes.

    Attributes:
        boxes: (k, 4) float32, x0 y0 x1 y1 in shares of the photo's width and height.
        nouns: (k, N) float32 shares, each row's sum 1.
        attributes: (k, A) bool.
    """

    boxes: np.ndarray
    nouns: np.ndarray
    attributes: np.ndarray


def phrases(photo: EntitiesPhoto) -> Iterator[tuple[tuple[str, ...], Phrase]]:
    """The words of each phrase that has boxes, and the phrase."""
    for sentence in photo.sentences:
        for phrase in sentence.phrases:
            if len(phrase.boxes):
                yield sentence.tokens[phrase.start : phrase.end], phrase


def box_labels(photo: EntitiesPhoto, names: Names) -> BoxLabels:
    """Count the nouns and attributes of each box; a noun that ``names`` lacks counts as its first, "thing"."""
    noun_places = {noun: place for place, noun in enumerate(names.nouns)}
    attribute_places = {attribute: place for place, attribute in enumerate(names.attributes)}
    nouns: dict[tuple[float, ...], np.ndarray] = {}
    attributes: dict[tuple[float, ...], np.ndarray] = {}
    for words, phrase in phrases(photo):
        noun, before = parse_phrase(words)
        for box in map(tuple, phrase.boxes.tolist()):
            counts = nouns.setdefault(box, np.zeros(len(noun_places), np.float32))
            is_said = attributes.setdefault(box, np.zeros(len(attribute_places), bool))
            if noun is not None:
                counts[noun_places.get(noun, 0)] += 1
            is_said[[attribute_places[a] for a in before if a in attribute_places]] = True
    for counts in nouns.values():
        if not counts.any():
            counts[0] = 1
        elif counts[1:].any():
            counts[0] = 0  # a frequent noun tells more than a rare one of the same box
    size = np.array([photo.width, photo.height] * 2, np.float32)
    k = len(nouns)
    counted = np.array(list(nouns.values()), np.float32).reshape(k, len(noun_places))
    return BoxLabels(
        (np.array(list(nouns), np.float32).reshape(k, 4) / size).clip(0, 1),
        counted / counted.sum(1, keepdims=True),
        np.array(list(attributes.values()), bool).reshape(k, len(attribute_places)),
    )
