"""Photos, captions, splits and annotations, read from common formats."""

from han_retrieval.data.adapter import DatasetAdapter
from han_retrieval.data.ahead import PIXELS_AT_ONCE, read_ahead, read_batches
from han_retrieval.data.boxes import overlapping, to_stored_size
from han_retrieval.data.builder import DatasetBuilder
from han_retrieval.data.dataset import CaptionedPhoto, CaptionedPhotos
from han_retrieval.data.entities import EntitiesPhoto, EntitiesPhotos, EntitiesSentence, Phrase, read_entities
from han_retrieval.data.files import is_text
from han_retrieval.data.folder import photo_files
from han_retrieval.data.joined import with_splits_of
from han_retrieval.data.packed import PackedPhoto, PhotoBytes, PhotoContainer
from han_retrieval.data.photos import (
    PHOTO_READER,
    PHOTO_SUFFIXES,
    PhotoInfo,
    ShrinkTo,
    add_name,
    count_pixels,
    full_size,
    names_of,
    open_file,
    open_photo,
    read_info,
    reason_without,
    upright_rgb,
)
from han_retrieval.data.read import read_dataset, refuse_missing
from han_retrieval.data.scan import scan_image_ids, scan_splits
from han_retrieval.data.sentences import read_sentences
from han_retrieval.data.stored_files import UnreadablePhotoError
from han_retrieval.parsing import read_lines

__all__ = [
    "PHOTO_READER",
    "PHOTO_SUFFIXES",
    "PIXELS_AT_ONCE",
    "CaptionedPhoto",
    "CaptionedPhotos",
    "DatasetAdapter",
    "DatasetBuilder",
    "EntitiesPhoto",
    "EntitiesPhotos",
    "EntitiesSentence",
    "PackedPhoto",
    "PhotoBytes",
    "PhotoContainer",
    "PhotoInfo",
    "Phrase",
    "ShrinkTo",
    "UnreadablePhotoError",
    "add_name",
    "count_pixels",
    "full_size",
    "is_text",
    "names_of",
    "open_file",
    "open_photo",
    "overlapping",
    "photo_files",
    "read_ahead",
    "read_batches",
    "read_dataset",
    "read_entities",
    "read_info",
    "read_lines",
    "read_sentences",
    "reason_without",
    "refuse_missing",
    "scan_image_ids",
    "scan_splits",
    "to_stored_size",
    "upright_rgb",
    "with_splits_of",
]
