"""Read ``.npy`` and ``.npz`` files of others: no pickle, and no more memory than a file of a sane size takes."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from han_retrieval.errors import DataError

ARRAY_BYTES = 2**28
"""The largest array of an ``.npz``, unpacked: a thousand bytes of zeros pack into one."""

# What numpy writes. Others unpack a block at a time, whatever its size.
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def map_npy(path: Path) -> np.ndarray:
    """The array of a ``.npy`` file, left on the disk.

    Raises:
        DataError: It is no such file, or shorter than its header says.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header raises anything, TokenError and OverflowError among it
        raise DataError(f"{path}: not an array that numpy can map ({_reason(error)})") from None


def read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Arrays of an ``.npz`` file by name; others in it are not read, as they may be pickles.

    Raises:
        DataError: It is no such file, lacks one of the arrays, or one is larger than ``ARRAY_BYTES``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            missing = [name for name in names if name not in held]
            if missing:
                raise DataError(f"{path}: lacks {', '.join(missing)}; it has {', '.join(held) or 'nothing'}")
            return {name: _unpacked(archive, held[name], f"{path}, {name}") for name in names}
    except DataError:
        raise
    except Exception as error:  # a damaged archive raises anything
        raise DataError(f"{path}: not an .npz file that can be read ({_reason(error)})") from None


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> np.ndarray:
    if info.file_size > ARRAY_BYTES:
        raise DataError(f"{where}: {info.file_size:,} bytes, unpacked; an array may have {ARRAY_BYTES:,}")
    if info.compress_type not in _COMPRESSIONS:
        raise DataError(f"{where}: packed in a way that numpy does not use; save it with numpy.savez_compressed")
    with archive.open(info) as file:  # gives no more bytes than its size says
        return np.lib.format.read_array(file, allow_pickle=False)


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
