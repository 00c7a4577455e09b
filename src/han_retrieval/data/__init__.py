"""Photos, captions and splits, from the formats that people have."""

from han_retrieval.data.ahead import read_ahead
from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.entities import EntitiesPhoto, EntitiesPhotos, EntitiesSentence, Phrase, read_entities
from han_retrieval.data.files import is_text
from han_retrieval.data.folder import photo_files
from han_retrieval.data.photos import HEIF_SUFFIXES, PHOTO_SUFFIXES, Shot, open_photo, read_shot
from han_retrieval.data.read import read_dataset
from han_retrieval.data.scan import scan_image_ids, scan_splits
from han_retrieval.data.sentences import read_sentences

__all__ = [
    "HEIF_SUFFIXES",
    "PHOTO_SUFFIXES",
    "CaptionedPhoto",
    "CaptionedPhotos",
    "EntitiesPhoto",
    "EntitiesPhotos",
    "EntitiesSentence",
    "Phrase",
    "Shot",
    "is_text",
    "open_photo",
    "photo_files",
    "read_ahead",
    "read_dataset",
    "read_entities",
    "read_sentences",
    "read_shot",
    "scan_image_ids",
    "scan_splits",
]
