"""Nouns and attributes of phrases, and a detector's vocabulary of both, counted from the phrases of a dataset.

There is no parser: phrases of Flickr30k Entities are noun phrases without clauses. The noun is the head, which is the
last word or the word before "of"; attributes are the words before the head.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

_IRREGULAR = {
    "men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot", "teeth": "tooth",
    "leaves": "leaf", "knives": "knife", "geese": "goose", "mice": "mouse", "policemen": "policeman",
    "firemen": "fireman", "scarves": "scarf", "shelves": "shelf", "wolves": "wolf",
}  # fmt: skip


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


# Their singular means something else.
_PLURAL = _words("glasses shorts jeans pants clothes goggles stairs trunks overalls sunglasses")
# "a group of people" is people; "a bottle of water" is a bottle.
_MEASURES = _words(
    "group groups bunch lot lots pair pairs couple number set flight body piece pieces pack team kind type sort series "
    "row rows line part bit top bottom side sides edge end back front shore bank middle corner rest"
)
_NOT_NOUNS = _words(
    "one ones another other others each some something someone everyone it its itself him his her them they he she all "
    "both two three four five six many several few this that these those which who what most more area"
)
_NOT_ATTRIBUTES = _NOT_NOUNS | _words(
    "a an the and or of in on with to for from at by is very no 's ' \" , . - & seven eight nine ten dozen first "
    "second their my your our own same different"
)
_NOT_OF_PEOPLE = _words(
    "black white brown yellow red tan dark light pale colored golden african american asian chinese european german "
    "hispanic indian japanese mexican oriental caucasian"
)


def parse_phrase(phrase: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """The noun and the attributes of a noun phrase: ("a", "group", "of", "young", "men") -> ("man", ("young",)).

    The noun is the head in the singular, None for a pronoun or the like; attributes are the words before it, in order.
    """
    words = [word.lower() for word in phrase]
    while "of" in words[1:-1]:
        place = words.index("of", 1, -1)
        if words[place - 1] not in _MEASURES:
            words = words[:place]
            break
        words = words[place + 1 :]
    if not words:
        return None, ()
    noun = None if words[-1] in _NOT_NOUNS or not words[-1][0].isalpha() else singular(words[-1])
    return noun, tuple(word for word in words[:-1] if word not in _NOT_ATTRIBUTES)


def singular(noun: str) -> str:
    """The singular of a regular noun, or of a frequent irregular one."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun in _PLURAL or not noun.endswith("s") or noun.endswith(("ss", "us", "is")) or len(noun) < 4:
        return noun
    if noun.endswith("ies") and len(noun) > 5:
        return noun[:-3] + "y"
    if noun.endswith(("ches", "shes", "sses", "xes")):
        return noun[:-2]
    return noun[:-1]


class Names(BaseModel):
    """The nouns and attributes that a detector knows.

    Attributes:
        nouns: Frequent ones, most frequent first; the first of all, "thing", stands for any other.
        attributes: Frequent ones, most frequent first.
        together: For each noun, the places of the attributes that may be named with it.
    """

    model_config = ConfigDict(frozen=True)

    nouns: tuple[str, ...]
    attributes: tuple[str, ...]
    together: tuple[tuple[int, ...], ...]

    @model_validator(mode="after")
    def _places_exist(self) -> Self:
        places = (place for places in self.together for place in places)
        if len(self.together) != len(self.nouns) or not all(0 <= place < len(self.attributes) for place in places):
            raise ValueError("together must name, for each noun, places of the attributes")
        return self

    @classmethod
    def count(
        cls,
        phrases: Iterable[tuple[Sequence[str], bool]],
        *,
        noun_count: int,
        attribute_count: int,
        most_nouns: int = 500,
        pair_count: int = 3,
    ) -> Self:
        """Count the vocabulary of some phrases.

        A word that is more often an attribute than a head is not a noun ("a man in black"), and the other way round ("a
        dog house"). Attributes of colour and origin are not combined with people: a detector mostly reads them off
        their clothes.

        Args:
            phrases: The words of each phrase, and whether it is about people.
            noun_count, attribute_count: The least occurrences of a noun and of an attribute.
            most_nouns: Only so many of the most frequent nouns.
            pair_count: The least occurrences of an attribute before a noun, for it to be named with the noun.
        """
        nouns: Counter[str] = Counter()
        of_people: Counter[str] = Counter()
        attributes: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for words, people in phrases:
            noun, before = parse_phrase(words)
            attributes.update(before)
            if noun:
                nouns[noun] += 1
                of_people[noun] += people
                pairs.update((noun, attribute) for attribute in before)
        known = ("thing", *_frequent(nouns, noun_count, unless=attributes))[:most_nouns]
        named = tuple(_frequent(attributes, attribute_count, unless=nouns))

        def may_be(noun: str, attribute: str) -> bool:
            people = 2 * of_people[noun] > nouns[noun]
            return pairs[noun, attribute] >= pair_count and not (people and attribute in _NOT_OF_PEOPLE)

        together = tuple(tuple(i for i, attribute in enumerate(named) if may_be(noun, attribute)) for noun in known)
        return cls(nouns=known, attributes=named, together=together)


def _frequent(words: Counter[str], least: int, *, unless: Counter[str]) -> Iterator[str]:
    for word, count in sorted(words.items(), key=lambda item: (-item[1], item[0])):
        if count >= least and count >= unless[word]:
            yield word
