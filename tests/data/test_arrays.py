from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from han_retrieval.data import arrays
from han_retrieval.data.arrays import map_npy, read_npz
from han_retrieval.errors import LONGEST_MESSAGE, DataError


def npy(header: str, content: bytes = b"") -> bytes:
    padded = header.encode().ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + content


def header(shape: object, descr: object = "<f4") -> str:
    return repr({"descr": descr, "fortran_order": False, "shape": shape})


WRONG = {
    "empty": b"",
    "another file": b"PK\x03\x04",
    "open bracket": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,"),  # numpy: TokenError
    "beyond 64 bits": npy(header((10**30, 2))),  # numpy: OverflowError
    "petabytes": npy(header((10**9, 10**6))),
    "below zero": npy(header((-1, 2))),
    "shorter than it says": npy(header((1000, 3)), bytes(100)),
    "pickles": npy(header((2, 2), "|O"), bytes(100)),
    "no type": npy(header((2, 2), "nonsense")),
    "type of a list": npy(header((2, 2), [1, 2])),
    "nested": npy("(" * 100),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_wrong_npy_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npy: not an array") as error:
        map_npy(tmp_path / "a.npy")
    assert len(str(error.value)) <= LONGEST_MESSAGE


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_wrong_array_of_an_npz_is_named(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(DataError, match=r"a\.npz: not an \.npz"):
        read_npz(tmp_path / "a.npz", ["x"])


def test_right_files_are_read(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(map_npy(tmp_path / "a.npy"), values)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=values, info=np.array([None], object))
        np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["x"])["x"], values)


def test_an_npz_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "ARRAY_BYTES", 4096)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(10**6, np.float32))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    with pytest.raises(DataError, match=r"a\.npz, x: 4,000,128 bytes, unpacked; an array may have 4,096"):
        read_npz(tmp_path / "a.npz", ["x"])


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_npz_packed_as_numpy_never_does_is_refused(tmp_path: Path, packing: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", packing) as archive:
        archive.writestr("x.npy", npy(header((2, 2)), bytes(16)))
    with pytest.raises(DataError, match=r"a\.npz, x: packed in a way that numpy does not use"):
        read_npz(tmp_path / "a.npz", ["x"])
