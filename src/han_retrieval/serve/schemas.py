"""The JSON of the API's responses, and so its OpenAPI description."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from han_retrieval.rounding import rounded_seconds
from han_retrieval.search.calibration import Match

_NO_PROBABILITY = "without a calibration, and where the model does not know more than a third of the sentence"
Box = Annotated[tuple[float, float, float, float], Field(description="x0 y0 x1 y1 in pixels of the upright photo")]


class ErrorResponse(BaseModel):
    """What was wrong with a request."""

    error: str = Field(description="one line")


class StatusResponse(BaseModel):
    """Whether the server can answer."""

    status: str
    photos: int | None = None


class PhotoSummary(BaseModel):
    """A photo of a list of results."""

    id: str = Field(description="hash of the photo's content")
    name: str = Field(description="its path below the folder that was indexed")
    width: int = Field(description="of the upright photo, in pixels")
    height: int
    date: str | None = Field(description="when it was taken, '2024-01-31 12:00:00', or null")
    score: float | None = Field(default=None, description="the model's score; null where there is no query")
    probability: float | None = Field(default=None, description=f"that it is a match; null {_NO_PROBABILITY}")
    match: Match | None = Field(default=None, description="how well it fits; null without a calibration")


class QueryPart(BaseModel):
    """A part of a query: a sentence, a photo, or what must be written about photos."""

    weight: float = Field(description="of its score; below 0 it counts against photos, or must not be written")
    sentence: str | None = Field(default=None, description="null where the part is none")
    written: str | None = Field(default=None, description="what `text:` names")
    photo: str | None = Field(default=None, description="the photo as the query names it")
    id: str | None = Field(default=None, description="hash of that photo's content, where the index has it")


class SearchResponse(BaseModel):
    """One page of a list of photos, in order."""

    hits: list[PhotoSummary]
    first: int = Field(description="position of the first hit in the whole list, from 0")
    total: int = Field(description="length of the whole list: all photos, or those that pass the filters")
    nothing: bool = Field(default=False, description="true if no photo is likely to match; needs a calibration")
    parts: list[QueryPart] = Field(default=[], description="of the query's text, in order")
    unknown: list[str] = Field(default=[], description="words of the query that the model does not know")
    alike: dict[str, str] = Field(default={}, description="for unknown words, known ones that are spelt alike")
    knows: str | None = Field(default=None, description="what the model knows, where that is not most of a sentence")
    photos: int = Field(description="number of photos in the index")
    missing: int = Field(default=0, description="photos that were not searched, as their shard is being replaced")
    seconds: Annotated[dict[str, float], PlainSerializer(rounded_seconds)] = Field(
        default={}, description="time of each stage; empty for a cached result"
    )


class PhotoDetails(PhotoSummary):
    """A photo of the index."""

    path: str
    copies: list[str] = Field(description="further files of the same content")
    folder: str
    camera: str | None
    text: str | None = Field(description="title, caption, keywords and names in the file, a line each")
    place: str | None = Field(description="the town where it was taken, with province and country")
    latitude: float | None
    longitude: float | None
    size: int = Field(description="of the file, in bytes")
    regions: int = Field(description="number of regions")


class WordEvidence(BaseModel):
    """A word, and the region that it is aligned with most."""

    word: str
    known: bool = Field(description="whether the model knows the word")
    function: bool = Field(description="whether it is a function word, such as 'the', which says little of a photo")
    match: float = Field(description="how well the word matches the regions it is aligned with: a cosine, -1 to 1")
    region: int = Field(description="the region with the word's greatest alignment weight: a row of boxes")
    weight: float = Field(description="that alignment weight, 0 to 1")
    box: Box


class PhraseEvidence(BaseModel):
    """Neighbouring words that are aligned with the same region: words[start:end]."""

    words: list[str]
    start: int
    end: int
    region: int
    weight: float = Field(description="mean of the words' alignment weights on the region")
    box: Box


class SentenceEvidence(BaseModel):
    """Why a photo and one part of a query have their score: the JSON of `han_retrieval.evidence.Evidence`."""

    model_config = ConfigDict(extra="forbid")

    weight: float = Field(description="the part's weight in the query; below 0 it counts against the photo")
    sentence: str
    score: float = Field(description="the model's score of the photo and the sentence, not weighted")
    words: list[WordEvidence]
    phrases: list[PhraseEvidence]
    width: int = Field(description="of the upright photo, in pixels")
    height: int
    boxes: list[Box] = Field(description="boxes of the photo's m regions")
    alignment: list[list[float]] = Field(description="(n, m) alignment weights, words x regions; rows sum to 1")


class RegionColour(BaseModel):
    """A region that is drawn, and its colour."""

    region: int
    colour: str = Field(description="'#rrggbb'")


class PhotoScore(BaseModel):
    """A photo that is part of a query, and its score."""

    weight: float = Field(description="the part's weight in the query")
    id: str = Field(description="hash of the photo's content")
    score: float = Field(description="2 s - 1, where s is the similarity of the two photos; not weighted")


class EvidenceResponse(BaseModel):
    """Why a photo and a query have their score."""

    id: str
    query: str
    score: float = Field(description="the weighted sum of the parts' scores")
    probability: float | None = Field(
        default=None, description=f"that the photo is a match; of one sentence alone, and null {_NO_PROBABILITY}"
    )
    match: Match | None = Field(default=None, description="how well the photo fits; of one sentence alone")
    shown: list[RegionColour] = Field(description="the regions to draw, of all parts, in the order of their words")
    parts: list[SentenceEvidence] = Field(description="the query's sentences; one where it is a plain sentence")
    photos: list[PhotoScore] = Field(default=[], description="the photos that are parts of the query")


class AlikeRegions(BaseModel):
    """A region of a photo, and one of the other photo that is like it."""

    box: Box
    other_box: Box
    cosine: float = Field(description="of the two regions' tokens, -1 to 1")
    colour: str = Field(description="'#rrggbb', to draw both in")


class LikenessResponse(BaseModel):
    """How similar another photo is to a photo, and by which regions."""

    score: float = Field(description="the mean cosine of the photo's regions with the other's: that of lists of photos")
    width: int = Field(description="of the upright photo, in pixels")
    height: int
    other_width: int
    other_height: int
    pairs: list[AlikeRegions] = Field(description="the regions that are most alike first; each shows another thing")


class RankedSentence(BaseModel):
    """A sentence for a photo."""

    sentence: str
    score: float
    match: Match | None = Field(default=None, description="how well it fits; null without a calibration")


class CaptionsResponse(BaseModel):
    """Sentences for a photo, best first."""

    captions: list[RankedSentence]
    left_out: list[str] = Field(description="sentences of which the model knows no word, or too few")


class FolderFacet(BaseModel):
    """A folder, with the number of photos in it and below it."""

    root: str
    folder: str = Field(description="'trips/2024/', or '' for the root itself")
    photos: int


class FacetsResponse(BaseModel):
    """The values that filters can choose from."""

    photos: int
    folders: list[FolderFacet]
    months: dict[str, int] = Field(description="number of photos by month, '2024-01'")
    examples: list[str] = Field(description="up to three queries for what the detector found often")
