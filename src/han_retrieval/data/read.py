"""Reading a dataset in whichever format it is."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path
from typing import cast

from han_retrieval import plugins
from han_retrieval.data.adapter import DatasetAdapter
from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.files import reading
from han_retrieval.data.manifest import is_listing, read_listing
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.objects import ObjectPath, is_remote, to_path

# A folder of photos is only that where no other format is in it.
_LAST = "photos"
_HUB = "hf:"


def read_dataset(source: str | Path, *, format: str | None = None) -> CaptionedPhotos:
    """Read captioned photos from a file or folder in any known format.

    Args:
        source: The folder, or the file that describes the photos; ``hf:NAME[:SPLIT]``, see ``hub_datasets``; a pattern
            or a URL, see ``manifest``. Of object storage, such as s3://bucket/photos, photos without captions.
        format: The name of the format; by default it is recognised by content.

    Raises:
        DataError: There is no such path, it cannot be read, the folder is empty, the format is not recognised or
            ambiguous, or something in the files is not as their format has it; the message says which file, line or
            field.
        ConfigError: No format has that name, or its plug-in cannot be imported.
    """
    if format in (None, "manifest") and is_listing(source):
        return read_listing(source)
    source = to_path(source)
    if is_remote(source):
        return _read_remote(source, format)
    with reading(source):
        if source.as_posix().startswith(_HUB) and not source.exists():
            return _adapter(format or "hf").read(source)
        _require(source)
        if format is not None:
            return _adapter(format).read(source)
        if source.is_dir() and not any(source.iterdir()):
            raise DataError(f"{source}: the folder is empty")
        fitting = recognised_formats(source)
        if len(fitting) > 1:
            any_of = ", ".join(fitting)
            raise DataError(f"{source}: could be {any_of}; choose one with --format NAME, or give the file itself")
        for adapter in fitting.values():
            return adapter.read(source)
        known = "; ".join(f"{name}: {adapter.description}" for name, adapter in _usable_adapters().items())
        raise DataError(f"{source}: not a dataset in a known format. {known}")


def refuse_missing(source: str | Path) -> None:
    """Check that the file or folder of a dataset is there, without reading it: before something that takes long.

    What is elsewhere, such as a URL, is not asked for.

    Raises:
        DataError: There is no such path.
    """
    path = to_path(source)
    if is_listing(source) or is_remote(path) or path.as_posix().startswith(_HUB):
        return
    with reading(path):
        _require(path)


def _require(path: Path) -> None:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder{_near(path)}")


def _read_remote(source: ObjectPath, format: str | None) -> CaptionedPhotos:
    if format not in (None, _LAST):
        raise DataError(f"{source}: of object storage, photos without captions are read; copy the dataset to a folder")
    if not source.exists():
        raise DataError(f"{source}: no such photo or folder in the bucket {source.bucket!r}")
    return _adapter(_LAST).read(cast(Path, source))


def recognised_formats(source: Path) -> dict[str, DatasetAdapter]:
    """The adapters that recognise a source, by name; "photos" only where no other does.

    A plug-in that cannot be imported, or fails at this, is left out with a warning.
    """
    adapters = _usable_adapters()
    last = adapters.pop(_LAST, None)
    fitting = {name: adapter for name, adapter in adapters.items() if _recognises(name, adapter, source)}
    return {_LAST: last} if not fitting and last is not None and last.recognises(source) else fitting


def _adapter(name: str) -> DatasetAdapter:
    found = plugins.load("datasets", name)
    if missing := [part for part in ("description", "recognises", "read") if not hasattr(found, part)]:
        plugin = plugins.find("datasets", name)
        raise ConfigError(
            f"the dataset format {name!r} of {plugin.package} has no {' and no '.join(missing)}; see DatasetAdapter in "
            "han_retrieval.data"
        )
    adapter: DatasetAdapter = found
    return adapter


def _usable_adapters() -> dict[str, DatasetAdapter]:
    """All adapters that can be imported, by name."""
    adapters = {}
    for name in plugins.installed("datasets"):
        try:
            adapters[name] = _adapter(name)
        except ConfigError as error:
            warnings.warn(f"skipped: {error}", stacklevel=2)
    return adapters


def _recognises(name: str, adapter: DatasetAdapter, source: Path) -> bool:
    try:
        return bool(adapter.recognises(source))
    except (DataError, OSError):
        raise
    except Exception as error:  # of a plug-in, that must not keep the others from reading
        package = plugins.find("datasets", name).package
        warnings.warn(
            f"skipped: the dataset format {name!r} of {package} fails to recognise {source} "
            f"({type(error).__name__}: {error})",
            stacklevel=2,
        )
        return False


def _near(path: Path) -> str:
    """A hint at a name like the one asked for, in the nearest folder that exists."""
    while not path.parent.is_dir():
        path = path.parent
    near = difflib.get_close_matches(path.name, [other.name for other in path.parent.iterdir()], n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
