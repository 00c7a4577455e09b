"""The demo's gallery: real photos with a free licence, from packages that pip installs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from han_retrieval.errors import ConfigError, DataError


@dataclass(frozen=True)
class FreePhoto:
    """A photo in a package: its path, what it shows, its author and its licence.

    Authors and licences are as the packages state them; matplotlib states none, its photo is of the US Navy.
    """

    package: str
    path: str
    shows: str
    by: str
    licence: str

    @property
    def name(self) -> str:
        """The name of its file."""
        return self.path.rpartition("/")[2]


def _of_skimage(name: str, shows: str, by: str, licence: str) -> FreePhoto:
    return FreePhoto("skimage", f"data/{name}", shows, by, licence)


GALLERY = (
    _of_skimage("astronaut.png", "Eileen Collins", "NASA", "public domain"),
    _of_skimage("brick.png", "bricks", "CC0Textures", "CC0"),
    _of_skimage("camera.png", "a man with a camera", "Lav Varshney", "CC0"),
    _of_skimage("chelsea.png", "Chelsea the cat", "Stefan van der Walt", "CC0"),
    _of_skimage("coffee.png", "a cup of coffee", "Rachel Michetti", "CC0"),
    _of_skimage("coins.png", "coins from Pompeii", "Brooklyn Museum", "no known restrictions"),
    _of_skimage("grass.png", "grass", "linolafett", "CC0"),
    _of_skimage("gravel.png", "gravel", "CC0Textures", "CC0"),
    _of_skimage("hubble_deep_field.jpg", "galaxies", "NASA", "public domain"),
    _of_skimage("rocket.jpg", "a Falcon 9", "SpaceX", "public domain"),
    FreePhoto("sklearn", "datasets/images/china.jpg", "the Summer Palace", "danielbuechele", "CC BY 2.0"),
    FreePhoto("sklearn", "datasets/images/flower.jpg", "a dahlia", "vultilion", "CC BY 2.0"),
    FreePhoto("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "Grace Hopper", "US Navy", "public domain"),
)


def copy_gallery(folder: Path) -> None:
    """Copy the photos into a folder, which is created.

    Raises:
        ConfigError: A package with photos is not installed.
        DataError: The folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for photo in GALLERY:
            with resources.as_file(_file(photo)) as file:
                shutil.copyfile(file, folder / photo.name)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be copied ({error.strerror})") from None


def _file(photo: FreePhoto) -> Traversable:
    try:
        return resources.files(photo.package) / photo.path
    except ModuleNotFoundError:
        raise ConfigError(
            f"the demo's photos come with packages, and {photo.package!r} is missing: pip install 'han-retrieval[demo]'"
        ) from None
