"""Find the photo files in and below folders."""

from __future__ import annotations

import errno
import fnmatch
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from han_retrieval.data import is_text, photo_files
from han_retrieval.data.files import NOT_TEXT, readable
from han_retrieval.data.manifest import is_list, read_list
from han_retrieval.data.url_path import UrlPath, is_url
from han_retrieval.errors import DataError, QueryError
from han_retrieval.files import from_home
from han_retrieval.objects import is_remote, to_path
from han_retrieval.search.settings import Patterns, Settings

Place = tuple[str, str]
"""A root and a path relative to it, with slashes."""


@dataclass(frozen=True, slots=True)
class FileState:
    """Tells whether a file was changed: its size in bytes, and when it was last written, in nanoseconds."""

    size: int
    mtime: int


LISTED = FileState(-1, 0)
"""A photo behind a URL: nothing is asked about it. Once indexed, its content is taken to stay."""


@dataclass
class Scan:
    """The photo files below some roots.

    Attributes:
        roots: The roots.
        files: The photo files.
        left_out: Files left out because of what they are or how they are called, and the reason in words.
        unread: Photos whose files cannot be read now, such as links to a disk that is away, and the reason in words.
        unsure: Whether one of them may be any photo at all.
        unreadable: Folders that could not be listed, so that the files below them are not known.
    """

    roots: frozenset[str]
    files: dict[Place, FileState] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    unread: dict[Place, str] = field(default_factory=dict)
    unsure: bool = False
    unreadable: list[Path] = field(default_factory=list)
    _objects: dict[Place, Path] = field(default_factory=dict)  # as they were listed, so that none is asked for again

    def path(self, place: Place) -> Path | UrlPath:
        """The path of a file."""
        return self._objects.get(place) or path_of(place)

    def add(self, place: Place, file: Path) -> None:
        """Take up a photo file.

        Raises:
            OSError: Nothing is known of it.
        """
        there = file.with_state() if is_remote(file) else file
        status = there.stat()
        self.files[place] = FileState(status.st_size, status.st_mtime_ns)
        if is_remote(there):
            self._objects[place] = there  # type: ignore[assignment]  # see ``to_path``

    def overlooks(self, place: Place) -> bool:
        """Whether nothing is known of a file: it cannot be read, or is below a folder that could not be listed."""
        return place in self.unread or any(path_of(place).is_relative_to(folder) for folder in self.unreadable)


def path_of(place: Place) -> Path | UrlPath:
    """Where a file is. In a list, paths are absolute, or URLs."""
    root, path = place
    if not is_url(path):
        return to_path(root) / path
    return to_path(path) if is_remote(to_path(path)) else UrlPath(path)


def scan(roots: dict[str, Patterns]) -> Scan:
    """Find photos below folders; hidden files and folders are left out, links to folders are not followed.

    A root may also be a list of photos, see ``data/manifest``, whose paths are absolute and patterns match its ids.

    A pattern (``*``, ``?``, ``[...]``) with a slash must match the path from the root, where ``*`` matches slashes too.
    A pattern without a slash must match a name on that path, of a folder or of the file. Case does not matter. Photos
    that match an exclude pattern are left out; if there are include patterns, so are photos that match none of them.
    """
    found = Scan(frozenset(roots))
    for root, patterns in roots.items():
        (_scan_list if is_list(root) else _scan)(root, patterns, found)
    return found


def root_name(given: str | Path, known: Collection[str]) -> str:
    """The name of a folder in an index: the name it has there already, else its absolute path without ".."."""
    if is_url(given) and not is_remote(to_path(given)):
        return str(given)
    path = _plain(given)
    # Compared as paths, since case does not matter on Windows.
    return next((each for each in known if to_path(_plain(each)) == to_path(path)), path)


def _plain(path: str | Path) -> str:
    whole = from_home(path).absolute()
    # Resolved by the file system, since after a link ".." is not the folder written before it.
    return str(whole.resolve() if ".." in whole.parts else whole)


def resolve_roots(given: Sequence[str | Path], known: Collection[str]) -> list[str]:
    """The names of folders in an index.

    Raises:
        DataError: A folder is missing, is a file, has a name that is not UTF-8, or is inside another one.
    """
    roots: list[str] = []
    for each in given:
        root = root_name(each, known)
        if not is_list(root) and not to_path(root).is_dir():
            raise DataError(
                f"{each}: {'not a folder' if to_path(root).exists() else 'no such folder'}; index takes folders and "
                "lists of photos"
            )
        if not is_text(root):
            raise DataError(f"{each!r}: {NOT_TEXT}")
        if root not in roots:
            roots.append(root)
    everywhere = list(dict.fromkeys([*known, *roots]))
    for root in roots:
        for other in everywhere:
            if root == other or is_list(root) or is_list(other):
                continue
            inner, outer = to_path(root), to_path(other)
            if type(inner) is not type(outer) or not outer.is_dir():
                continue
            inner, outer = inner.resolve(), outer.resolve()
            if inner.is_relative_to(outer) or outer.is_relative_to(inner):
                raise DataError(f"{root} and {other} are one inside the other; give the outer one alone")
    return roots


def follow(
    before: Settings | None, roots: Sequence[str], forget: Sequence[str | Path], patterns: Patterns
) -> dict[str, Patterns]:
    """The folders that are indexed from now on, with their patterns; a folder keeps its own where none are given.

    Raises:
        QueryError: No folder is named, or ``forget`` names one that is not indexed.
    """
    follows = dict(before.roots) if before else {}
    for each in forget:
        root = root_name(each, follows)
        if root not in follows:
            raise QueryError(f"{each}: not a folder of this index; its folders are {', '.join(follows) or 'none'}")
        del follows[root]
    if not roots and not before:
        raise QueryError("which photos? name their folder: han index PHOTOS --out INDEX")
    return follows | {root: follows.get(root, patterns) if patterns == Patterns() else patterns for root in roots}


def _scan_list(root: str, patterns: Patterns, found: Scan) -> None:
    for name, photo in read_list(root):
        if _fits(name, patterns.exclude) or (patterns.include and not _fits(name, patterns.include)):
            continue
        place = root, photo if isinstance(photo, str) else str(photo.absolute())
        if not is_text(place[1]):
            found.left_out.append((readable(place[1]), NOT_TEXT))
        elif not isinstance(photo, str):
            try:
                found.add(place, photo)
            except (OSError, ValueError) as error:  # of a name with a NUL
                gone = isinstance(error, FileNotFoundError)
                found.unread[place] = "no such photo" if gone else f"cannot be read ({error})"
        else:
            found.files[place] = LISTED


def _scan(root: str, patterns: Patterns, found: Scan) -> None:
    top = to_path(root)

    def enter(folder: str) -> bool:
        return not _fits(to_path(folder).relative_to(top).as_posix(), patterns.exclude)

    def unreadable(error: OSError) -> None:
        found.unreadable.append(Path(str(error.filename)))

    def wanted(file: Path) -> str | None:
        """The path of a photo from the root, unless it is left out."""
        path = file.relative_to(top).as_posix()
        if _fits(path, patterns.exclude) or (patterns.include and not _fits(path, patterns.include)):
            return None
        if not is_text(path):
            found.left_out.append((readable(str(file)), NOT_TEXT))
            return None
        return path

    def odd(file: Path, error: OSError | None) -> None:
        path = wanted(file)
        if path is None:
            return
        if error is None:
            found.left_out.append((str(file), "is no regular file"))
            return
        is_dangling = isinstance(error, FileNotFoundError) or error.errno == errno.ELOOP
        found.unread[root, path] = "is a link to nothing" if is_dangling else f"cannot be read ({error.strerror})"
        found.unsure |= not is_dangling

    for file in photo_files(top, enter=enter, unreadable=unreadable, odd=odd):
        path = wanted(file)
        if path is None:
            continue
        try:
            found.add((root, path), file)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # gone since it was listed
                odd(file, error)


def _fits(path: str, patterns: Iterable[str]) -> bool:
    path = path.lower()
    for pattern in patterns:
        whole = pattern.strip("/").lower()
        if "/" in pattern.rstrip("/"):
            if fnmatch.fnmatchcase(path, whole):
                return True
        elif any(fnmatch.fnmatchcase(name, whole) for name in path.split("/")):
            return True
    return False
