"""VSE-infinity's layout (Chen et al., CVPR 2021).

``precomp/`` as SCAN has it, ``id_mapping.json`` from image ids to photo files, and the photos beside it. Ids are those
of ``precomp/``, so features imported from there fit.
"""

from __future__ import annotations

from pathlib import Path

from han_retrieval.data import scan
from han_retrieval.data.builder import DatasetBuilder
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import field
from han_retrieval.errors import DataError
from han_retrieval.parsing import read_json


class _Layout:
    """See ``DatasetAdapter``."""

    description = "precomp/ (as scan) beside id_mapping.json"

    def recognises(self, source: Path) -> bool:
        """A folder with a SCAN folder precomp/ in it, or the id_mapping.json beside that."""
        return scan.ADAPTER.recognises(_folder(source) / "precomp")

    def read(self, source: Path) -> CaptionedPhotos:
        """The photos of precomp/, in its order."""
        folder = _folder(source)
        mapping = folder / "id_mapping.json"
        if not mapping.exists():
            raise DataError(f"{mapping}: the file is missing; for features without photos, give {folder / 'precomp'}")
        names = read_json(mapping)
        images = scan.ADAPTER.read(folder / "precomp")
        builder = DatasetBuilder("vse-infinity", source)
        builder.skipped.update(images.skipped)
        for photo in images.photos:
            name = field(names, photo.id.rpartition("/")[2], str, str(mapping))
            builder.photo(photo.id, name, split=photo.split, where=str(mapping))
            for caption in photo.captions:
                builder.caption(photo.id, caption)
        return builder.finish()


def _folder(source: Path) -> Path:
    return source.parent if source.name == "id_mapping.json" else source


ADAPTER = _Layout()
