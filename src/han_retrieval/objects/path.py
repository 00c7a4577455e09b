"""The path of an object, or of what is below a prefix, with what this package uses of ``pathlib.Path``.

Object storage has no folders: a folder is there as long as an object is below it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, TypeGuard, cast
from zlib import crc32

from han_retrieval.errors import ConfigError, StoreError
from han_retrieval.objects.connection import SCHEMES, bucket_of, explained, require_obstore

# One slash is left where a Path was made of it.
_URL = re.compile(rf"(?P<scheme>{'|'.join(SCHEMES)}):/{{1,2}}(?P<bucket>[^/]+)/*(?P<key>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """What is known of an object: as ``os.stat_result``, as far as object storage has it.

    Attributes:
        st_size: Its size in bytes.
        st_mtime_ns: When it was written, by the clock of the storage. Many know whole seconds alone: what is below
            a millisecond tells contents of one second apart.
        st_ino: Tells its content from others.
        e_tag, version: By these the storage tells its content from others.
    """

    st_size: int
    st_mtime_ns: int
    st_ino: int
    e_tag: str | None
    version: str | None

    @classmethod
    def of(cls, facts: Any) -> ObjectStatus:
        """What ``obstore`` says of an object."""
        seconds = facts["last_modified"].timestamp()
        tag = facts["e_tag"] or facts["version"] or ""
        written = round(seconds * 1000) * 1_000_000 + crc32(tag.strip('"').encode()) % 1_000_000
        return cls(facts["size"], written, hash(tag), facts["e_tag"], facts["version"])


class ObjectPath:
    """A path in a bucket; ``to_path`` makes one of a URL.

    Raises:
        StoreError: Methods that ask the storage: there is no such bucket, it cannot be reached, or the credentials are
            missing or not enough. What is missing in a bucket is a ``FileNotFoundError``, as in a folder.
    """

    __slots__ = ("_known", "bucket", "key", "scheme")

    def __init__(self, url: str, known: ObjectStatus | None = None) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise ValueError(f"{url!r} is no URL of object storage; these are such as s3://bucket/prefix")
        self.scheme, self.bucket = found["scheme"], found["bucket"]
        self.key = "/".join(part for part in found["key"].split("/") if part not in ("", "."))
        self._known = known  # as it was listed

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}".rstrip("/")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: ObjectPath) -> bool:
        return str(self) < str(other)

    def __reduce__(self) -> tuple[Callable[[str], ObjectPath], tuple[str]]:
        return type(self), (str(self),)

    def __truediv__(self, name: str | os.PathLike[str]) -> Self:
        return type(self)(f"{self}/{os.fspath(name)}")

    @property
    def name(self) -> str:
        """As of a path."""
        return self._pure.name

    @property
    def stem(self) -> str:
        """As of a path."""
        return self._pure.stem

    @property
    def suffix(self) -> str:
        """As of a path."""
        return self._pure.suffix

    @property
    def parts(self) -> tuple[str, ...]:
        """The bucket, and the parts of the key."""
        return f"{self.scheme}://{self.bucket}/", *self._pure.parts

    @property
    def parent(self) -> Self:
        """The folder that holds it; the bucket itself has none above it."""
        return type(self)(f"{self.scheme}://{self.bucket}/{self.key.rpartition('/')[0]}")

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.key)

    def with_name(self, name: str) -> Self:
        """As of a path."""
        return self.parent / name

    def as_posix(self) -> str:
        """The URL."""
        return str(self)

    def absolute(self) -> Self:
        """Itself."""
        return self

    def resolve(self) -> Self:
        """Itself: object storage has no links."""
        return self

    def is_absolute(self) -> bool:
        """It always is."""
        return True

    def is_relative_to(self, other: object) -> bool:
        """Whether it is another path, or below it."""
        return isinstance(other, ObjectPath) and f"{self}/".startswith(f"{other}/")

    def relative_to(self, other: object) -> PurePosixPath:
        """The path from another one, which is above it."""
        if not self.is_relative_to(other):
            raise ValueError(f"{self} is not below {other}")
        return PurePosixPath(str(self)[len(str(other)) :].lstrip("/"))

    def exists(self) -> bool:
        """Whether there is an object, or one below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether there is an object below it; a bucket is always a folder."""
        if not self.key:
            bucket_of(self)
            return True
        return next(self._listed(), None) is not None

    def stat(self) -> ObjectStatus:
        """What is known of the object: as it was listed, where it was."""
        if self._known is None:
            return self.stat_now()
        return self._known

    def stat_now(self) -> ObjectStatus:
        """What is known of the object now.

        Raises:
            FileNotFoundError: There is none.
        """
        import obstore

        if not self.key:
            raise self._missing()
        with explained(self):
            return ObjectStatus.of(obstore.head(bucket_of(self), self.key))

    def seconds_since(self, status: ObjectStatus) -> float:
        """How long ago something was written, by the clock of the storage, of which an object below this one tells."""
        probe = self / f".time.{secrets.randbits(64)}"
        probe.write_bytes(b"")
        try:
            return (probe.stat_now().st_mtime_ns - status.st_mtime_ns) / 1e9
        finally:
            probe.unlink(missing_ok=True)

    def iterdir(self) -> Iterator[Self]:
        """What is directly below it."""
        import obstore

        with explained(self):
            found = obstore.list_with_delimiter(bucket_of(self), self.key or None)
        for prefix in found["common_prefixes"]:
            yield type(self)(f"{self.scheme}://{self.bucket}/{prefix}")
        for facts in found["objects"]:
            if facts["path"].strip("/") != self.key:
                yield self._of(facts)

    def with_state(self) -> Self:
        """The same object with what is known of it now, so that whoever reads it can tell later that it was replaced.

        Raises:
            FileNotFoundError: There is no such object.
        """
        return type(self)(str(self), self.stat())

    def glob(self, pattern: str) -> Iterator[Self]:
        """What is directly below it and has a name that fits a pattern without slashes."""
        if "/" in pattern:
            raise ValueError(f"{pattern!r}: a pattern of names has no slash; walk_files() gives what is deeper")
        return (each for each in self.iterdir() if fnmatchcase(each.name, pattern))

    def walk_files(self) -> Iterator[Self]:
        """All objects below it, in the order of their keys."""
        return map(self._of, self._listed())

    def open(self, mode: str = "rb", **_: object) -> IO[Any]:
        """Its content, to read as bytes."""
        if mode != "rb":
            raise ValueError(f"an object is opened for reading bytes, not as {mode!r}")
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            FileNotFoundError: There is no such object.
        """
        return self.read()[0]

    def read(self) -> tuple[bytes, ObjectStatus]:
        """Its content, and what was known of it then; errors are those of ``read_bytes``."""
        import obstore

        if not self.key:
            raise self._missing()
        with explained(self):
            found = obstore.get(bucket_of(self), self.key)
            return bytes(found.bytes()), ObjectStatus.of(found.meta)

    def copy_into(self, file: IO[bytes]) -> None:
        """Write its content into a file, some of it in memory at a time; errors are those of ``read_bytes``."""
        import obstore

        with explained(self):
            for part in obstore.get(bucket_of(self), self.key).stream():
                file.write(part)

    def write_bytes(self, content: bytes, *, instead_of: ObjectStatus | None = None, new: bool = False) -> ObjectStatus:
        """Write the object, which readers see as a whole or not at all.

        Args:
            content: What it holds from now on.
            instead_of: Only in place of this.
            new: Only where there is none.

        Returns:
            What tells this content from others; its size and time are not known.

        Raises:
            FileExistsError: There is another one.
        """
        import obstore

        mode: Any = "create" if new else "overwrite"
        if instead_of is not None:
            known = {"e_tag": instead_of.e_tag, "version": instead_of.version}
            mode = {name: value for name, value in known.items() if value is not None}
        with explained(self):
            put = obstore.put(bucket_of(self), self.key, content, mode=mode, use_multipart=False if new else None)
        tag = put["e_tag"] or put["version"] or ""
        return ObjectStatus(len(content), 0, hash(tag), put["e_tag"], put["version"])

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; object storage does not say whether there was one."""
        import obstore

        with explained(self):
            try:
                obstore.delete(bucket_of(self), self.key)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def delete_below(self) -> None:
        """Delete all objects below it."""
        import obstore

        with explained(self):
            if keys := [facts["path"] for facts in self._listed()]:
                obstore.delete(bucket_of(self), keys)

    def mkdir(self, **_: object) -> None:
        """Nothing: a folder is there once an object is."""

    def _listed(self) -> Iterator[Any]:
        """What ``obstore`` says of the objects below it, in the order of their keys."""
        import obstore

        with explained(self):
            for part in obstore.list(bucket_of(self), self.key or None):
                yield from part

    def _of(self, facts: Any) -> Self:
        return type(self)(f"{self.scheme}://{self.bucket}/{facts['path']}", ObjectStatus.of(facts))

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))


def to_path(name: str | os.PathLike[str] | ObjectPath) -> Path:
    """The path of a name: of a file or folder here, or an ``ObjectPath`` where it is a URL of object storage.

    It is typed as a Path, since an ``ObjectPath`` has what this package uses of one.

    Raises:
        StoreError: The URL names no bucket.
        ConfigError: It is a URL, and ``obstore`` is not installed.
    """
    if is_remote(name):
        return cast(Path, name)
    text = os.fspath(cast("str | os.PathLike[str]", name))
    if _URL.fullmatch(text):
        require_obstore()
        return cast(Path, ObjectPath(text))
    if text.partition(":")[0] in SCHEMES and text.partition(":")[2].startswith("/"):
        raise StoreError(f"{text}: names no bucket; a URL of object storage is such as s3://bucket/prefix")
    return Path(text)


def local_path(name: str | os.PathLike[str] | ObjectPath) -> Path:
    """The path of what can only be on this machine.

    Raises:
        ConfigError: It is a URL of object storage.
    """
    path = to_path(name)
    if is_remote(path):
        raise ConfigError(
            f"{path}: only photos, region stores and indexes can be in object storage; give a folder here"
        )
    return path


def refuse_unreachable(path: object) -> None:
    """Check that the bucket of a path can be reached; nothing is asked of a path on this machine.

    Raises:
        StoreError: It cannot.
    """
    if is_remote(path):
        bucket_of(path)


def is_remote(path: object) -> TypeGuard[ObjectPath]:
    """Whether a path is one of object storage."""
    return isinstance(path, ObjectPath)
