"""Connections to object storage, by the environment's usual variables, and its errors in words.

``obstore`` and Lance are both built on the Rust library ``object_store`` and read the same variables, such as
``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and ``AWS_REGION``.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol, runtime_checkable

from han_retrieval.errors import ConfigError, StoreError

SCHEMES = ("s3", "gs", "az")

_CONNECT_SECONDS = 5
_ANSWER_SECONDS = 10
_FIRST_TRIES, _FIRST_SECONDS = 2, 15  # of the first contact, where a name or an address may be wrong
_TRIES, _SECONDS = 8, 120  # later: storage is busy at times
_ENDPOINTS = {"s3": "AWS_ENDPOINT_URL", "gs": "GOOGLE_BASE_URL", "az": "AZURE_STORAGE_ENDPOINT"}
_VARIABLE = re.compile("AWS_|GOOGLE_|AZURE_")
_KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}


@runtime_checkable
class InBucket(Protocol):
    """A place in a bucket, such as an ``ObjectPath``; as text, its URL."""

    @property
    def scheme(self) -> str:
        """One of ``SCHEMES``."""
        ...

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        ...


class _Bucket(NamedTuple):
    scheme: str
    bucket: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}"


@lru_cache
def require_obstore() -> None:
    """Check that ``obstore`` is installed.

    Raises:
        ConfigError: It is not.
    """
    if find_spec("obstore") is None:
        raise ConfigError("object storage needs obstore: pip install 'han-retrieval[s3]'")


def bucket_of(path: InBucket) -> Any:
    """The bucket of a path, of which the first call of a process has made sure that it can be listed.

    Raises:
        StoreError: It cannot.
    """
    variables = frozenset(each for each in os.environ.items() if _VARIABLE.match(each[0]))
    return _reached(path.scheme, path.bucket, variables)


def lance_options(path: object) -> dict[str, str] | None:
    """Lance's ``storage_options`` for a table; None for one on this machine."""
    if not isinstance(path, InBucket):
        return None
    bucket_of(path)  # a wrong name or address is told at once
    options = {
        "client_max_retries": str(_TRIES),
        "client_retry_timeout": str(_SECONDS),
        "connect_timeout": f"{_CONNECT_SECONDS}s",
    }
    return options | ({"allow_http": "true"} if _is_plain_http(path.scheme) else {})


@contextmanager
def explained(path: InBucket) -> Iterator[None]:
    """Make of obstore's errors those of files, or a ``StoreError``.

    Raises:
        FileNotFoundError: There is no such object.
        FileExistsError: A condition of writing is not met.
        StoreError: Anything else, which no other object of the bucket would tell otherwise.
    """
    import obstore.exceptions as errors

    try:
        yield
    except FileNotFoundError as error:
        if error.errno is not None:  # ours
            raise
        if "NoSuchBucket" in str(error):
            raise StoreError(f"{path}: {explain(path, str(error))}") from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except (errors.AlreadyExistsError, errors.PreconditionError):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
    except (errors.BaseError, ValueError) as error:
        raise StoreError(f"{path}: {explain(path, str(error))}") from None


def explain(path: InBucket, text: str) -> str:
    """What is wrong and how to mend it, of an error of ``object_store``, be it obstore's or Lance's."""
    found = re.search(r"<Code>(\w+)</Code>", text)
    code = found[1] if found else ""
    where = os.environ.get(_ENDPOINTS[path.scheme], "")
    if code == "NoSuchBucket" or "ContainerNotFound" in text:
        return f"there is no bucket {path.bucket!r}{f' at {where}' if where else ''}; make it first, or mend the name"
    if code in ("SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"):
        return f"the credentials are refused ({code}); mend or renew them: {_KEYS[path.scheme]}"
    if code == "AccessDenied" or re.search(r"40[13] (Forbidden|Unauthorized)|lacked the necessary privileges", text):
        if "169.254.169.254" in text:
            return _no_credentials(path.scheme)
        return f"the credentials do not allow this (access denied); ask who keeps the bucket {path.bucket!r}"
    if re.search(r"169\.254\.169\.254|get AWS credentials|CredentialsNotLoaded", text):
        return _no_credentials(path.scheme)
    if re.search(r"error sending request|[Cc]onnection|timed out|dns error", text):
        at = where or "its address"
        return f"object storage cannot be reached at {at}; mend {_ENDPOINTS[path.scheme]}, or try again later"
    if "invalid path" in text:
        odd = re.search(r"invalid path: (.*?): ", text)
        return (
            f"an object's key{f' {odd[1]!r}' if odd else ''} has an empty part, '.' or '..', so that nothing beside it "
            "can be listed; rename the object"
        )
    if where and "list request" in text and "404 Not Found" in text and not code:
        return f"what answers at {where} is no object storage; mend {_ENDPOINTS[path.scheme]}"
    return " ".join(re.sub(r"<[^>]*>", " ", text.split("\n\nDebug source")[0]).split())[:300]


def _no_credentials(scheme: str) -> str:
    return f"no credentials were found; set {_KEYS[scheme]}"


@lru_cache
def _reached(scheme: str, name: str, _: frozenset[tuple[str, str]]) -> Any:
    import obstore

    with explained(_Bucket(scheme, name)):
        first = _connect(scheme, name, tries=_FIRST_TRIES, seconds=_FIRST_SECONDS, timeout=f"{_ANSWER_SECONDS}s")
        next(iter(obstore.list(first, chunk_size=1)), None)
        return _connect(scheme, name, tries=_TRIES, seconds=_SECONDS)


def _connect(scheme: str, name: str, *, tries: int, seconds: float, **client: str) -> Any:
    from datetime import timedelta

    from obstore.store import AzureStore, GCSStore, S3Store

    options: Any = {
        "client_options": {"connect_timeout": f"{_CONNECT_SECONDS}s", "allow_http": _is_plain_http(scheme), **client},
        "retry_config": {"max_retries": tries, "retry_timeout": timedelta(seconds=seconds)},
    }
    if scheme == "gs":
        return GCSStore(name, **options)
    if scheme == "az":
        return AzureStore(name, **options)
    return S3Store(name, **options, credential_provider=_profile())


def _profile() -> Any:
    """The credentials of boto3, which knows profiles and sign-ons; None where the environment holds keys.

    Raises:
        StoreError: There are none.
    """
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_SKIP_SIGNATURE") or find_spec("boto3") is None:
        return None
    import boto3
    from botocore.exceptions import BotoCoreError
    from obstore.auth.boto3 import Boto3CredentialProvider

    try:
        session = boto3.Session()
        found = session.get_credentials()
    except BotoCoreError as error:
        raise StoreError(f"no credentials for object storage: {error}") from None
    if found is None:
        raise StoreError(f"object storage: {_no_credentials('s3')}")
    return Boto3CredentialProvider(session)


def _is_plain_http(scheme: str) -> bool:
    return os.environ.get(_ENDPOINTS[scheme], "").startswith("http://")
