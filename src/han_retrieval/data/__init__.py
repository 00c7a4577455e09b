"""Photos, captions and splits, from the formats that people have."""

from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.entities import EntitiesPhoto, EntitiesPhotos, EntitiesSentence, Phrase, read_entities
from han_retrieval.data.photos import open_photo
from han_retrieval.data.read import read_dataset
from han_retrieval.data.scan import scan_image_ids, scan_splits

__all__ = [
    "CaptionedPhoto",
    "CaptionedPhotos",
    "EntitiesPhoto",
    "EntitiesPhotos",
    "EntitiesSentence",
    "Phrase",
    "open_photo",
    "read_dataset",
    "read_entities",
    "scan_image_ids",
    "scan_splits",
]
