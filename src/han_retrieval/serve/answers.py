"""What the server says, as JSON: also its OpenAPI description."""

from __future__ import annotations

from pydantic import BaseModel, Field


class Error(BaseModel):
    """What was wrong, in one line."""

    error: str


class Found(BaseModel):
    """A photo of an answer, as much of it as a grid shows."""

    id: str = Field(description="hash of its content")
    name: str = Field(description="its path from the folder that was indexed")
    width: int = Field(description="of the upright photo, in pixels")
    height: int
    date: str | None = Field(description="when it was taken, '2024-01-31 12:00:00', or null")
    score: float | None = Field(default=None, description="the model's; null where there is no sentence")
    probability: float | None = Field(default=None, description="that it truly matches; null without a calibration")


class Results(BaseModel):
    """Some photos in order, from place ``first`` on."""

    hits: list[Found]
    first: int
    total: int = Field(description="how many photos there are in this order: all, or those that the filters leave")
    nothing: bool = Field(default=False, description="no photo is likely to match; needs a calibration")
    threshold: float | None = Field(default=None, description="the probability below which that is said of a photo")
    unknown: list[str] = Field(default=[], description="words that the model does not know")
    photos: int = Field(description="in the index")
    seconds: dict[str, float] = Field(default={}, description="by stage; empty where the answer was kept from before")


class PhotoFacts(Found):
    """Everything that is known of a photo but its regions."""

    path: str
    copies: list[str] = Field(description="further files of the same content")
    folder: str
    camera: str | None
    size: int = Field(description="of the file, in bytes")
    regions: int


class Word(BaseModel):
    """A word of a sentence, and what it looked at."""

    text: str
    known: bool = Field(description="whether the model's vocabulary has it")
    match: float = Field(description="how well what it gathered fits it, from -1 to 1")
    region: int = Field(description="that it gathered most from")
    colour: str = Field(description="that region's; grey where the region is not among those shown")


class PhraseOfWords(BaseModel):
    """Neighbouring words that gathered most from the same region: words[start:end]."""

    start: int
    end: int


class ShownRegion(BaseModel):
    """A region that words looked at enough for it to be drawn at once, and its colour."""

    region: int
    colour: str


class PartAnswer(BaseModel):
    """Why a photo and a part of a query, or all of it where it is one sentence, got their score."""

    text: str
    weight: float = Field(description="what its score counts in the query's; below 0 it speaks against the photo")
    score: float = Field(description="the sentence's own, without the weight")
    words: list[Word]
    phrases: list[PhraseOfWords]
    alignment: list[list[float]] = Field(
        description="(n)(m) how much each word gathered from each region; rows sum to 1"
    )


class PairAnswer(BaseModel):
    """Why a photo and a query got their score."""

    id: str
    query: str
    score: float = Field(description="the weighted sum of the parts' scores")
    probability: float | None = Field(default=None, description="of a query of one part, where it is known")
    width: int = Field(description="of the photo that the boxes are of, in pixels")
    height: int
    boxes: list[tuple[float, float, float, float]] = Field(description="(m) x0 y0 x1 y1")
    shown: list[ShownRegion] = Field(description="in the order of their words, those of all parts")
    parts: list[PartAnswer] = Field(description="one, where the query is one sentence")


class Caption(BaseModel):
    """A sentence for a photo."""

    sentence: str
    score: float
    probability: float | None = Field(default=None, description="a rough guide: it was fitted to photos for a sentence")


class Captions(BaseModel):
    """Sentences for a photo, best first."""

    captions: list[Caption]
    left_out: list[str] = Field(description="sentences of which the model knows no word")


class Folder(BaseModel):
    """A folder and how many photos are in and below it."""

    root: str
    folder: str = Field(description="'trips/2024/', and '' for a root itself")
    photos: int


class Facets(BaseModel):
    """What filters have to choose from."""

    photos: int
    folders: list[Folder]
    months: dict[str, int] = Field(description="photos by month, '2024-01'")


class Status(BaseModel):
    """Whether the server can answer."""

    status: str
    photos: int | None = None
