"""Photos behind URLs, read by fsspec: ``https://``, ``s3://``, ``gs://``, ``file://`` and its other file systems."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from han_retrieval.data.packed import PackedPhoto
from han_retrieval.data.stored_files import UnreadablePhotoError, open_stored
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.objects import is_remote, to_path

_WAITS = (0.5, 2.0)  # seconds between tries
_SECONDS = 60  # for one try
_PASSING = {408, 425, 429}  # answers of a web server that may be others later, beside those from 500 on


class UrlPhotos:
    """Photos by their URL; see ``PhotoContainer``."""

    def read(self, place: str) -> bytes:
        """The content behind a URL; what may be a passing fault is tried again twice.

        Raises:
            UnreadablePhotoError: It cannot be read now.
        """
        if is_remote(to_path(place)):
            return open_stored(to_path(place)).read()
        with _reading(place):
            system, path = _open(place)
            for seconds in (*_WAITS, None):
                try:
                    return bytes(system.cat_file(path))
                except Exception as error:
                    if seconds is None or not _may_pass(error):
                        raise
                time.sleep(seconds)
        raise AssertionError  # the last try returns or raises

    def name(self, place: str) -> str:
        """See ``PhotoContainer``."""
        return place


_PHOTOS = UrlPhotos()


def photo_at(url: str) -> PackedPhoto:
    """The photo behind a URL."""
    return PackedPhoto(_PHOTOS, url)


def read_url(url: str) -> bytes:
    """The content behind a URL, such as a list of photos.

    Raises:
        DataError: It cannot be read.
    """
    return _PHOTOS.read(url)


def list_urls(url: str) -> list[tuple[str, str]]:
    """The files below a URL, or those that it matches where it has wildcards: names and URLs, in order.

    A name is what follows the URL, or its folders without wildcards.

    Raises:
        DataError: They cannot be listed.
        ConfigError: The library for this kind of URL is not installed.
    """
    try:
        with _reading(url):
            system, path = _open(url)
            found = sorted(system.glob(path) if has_wildcards(url) else system.find(path))
            base = fixed_part(path, "/") if has_wildcards(url) else path.rstrip("/")
            return [(each.removeprefix(base).lstrip("/"), str(system.unstrip_protocol(each))) for each in found]
    except UnreadablePhotoError as error:
        raise DataError(str(error)) from None


def fixed_part(pattern: str, separator: str) -> str:
    """The folders of a pattern before the first one with wildcards."""
    folders = []
    for folder in pattern.split(separator)[:-1]:
        if has_wildcards(folder):
            break
        folders.append(folder)
    return separator.join(folders)


def has_wildcards(text: str) -> bool:
    """Whether a path or URL stands for those that it matches."""
    return any(mark in text for mark in "*?[")


def _open(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    more: dict[str, Any] = {}
    try:
        from fsspec.core import url_to_fs

        if url.lower().startswith(("http://", "https://")):
            from aiohttp import ClientTimeout

            more = {"client_kwargs": {"timeout": ClientTimeout(total=_SECONDS)}}
    except ModuleNotFoundError as error:
        raise ConfigError(f"{url}: {error.name} is missing: pip install 'han-retrieval[ray]'") from None
    try:
        system, path = url_to_fs(url, **more)
    except ImportError as error:  # such as: Install s3fs to access S3
        raise ConfigError(f"{url}: cannot be read ({error})") from None
    return system, path


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """A context in which what goes wrong with a URL, and file systems raise many kinds, is an UnreadablePhotoError."""
    try:
        yield
    except (DataError, ConfigError):
        raise
    except FileNotFoundError:
        raise UnreadablePhotoError(f"{url}: no such photo") from None
    except Exception as error:
        status = getattr(error, "status", None)
        reason = f"the server answers {status}" if status else f"{type(error).__name__}: {error}".rstrip(": ")
        raise UnreadablePhotoError(f"{url}: cannot be read ({reason})") from None


def _may_pass(error: Exception) -> bool:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status >= 500 or status in _PASSING
    # What fsspec raises of a missing key, wrong credentials or a wrong URL is of these kinds.
    return not isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | ValueError | ImportError)
