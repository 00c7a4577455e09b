"""Spoil a file: at random bytes, or where its format is known (JSON, npz, safetensors) in what it holds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import PurePath
from random import Random
from typing import Any

# What parsers stumble on; the large ones are drawn less often.
PIECES = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\n\n", b"\t", b" ", b'"', b"'", b"\\", b"#"),
    *(b"[", b"]", b"{", b"}", b"(", b")", b"<", b">", b",", b":", b";", b"=", b"*", b"+", b"-", b"/", b"%", b"/*"),
    *(b"NaN", b"-Infinity", b"inf", b"1e999", b"-1", b"0", b"1.5", b"9" * 30, b"0x" + b"f" * 50, b"true", b"null"),
    *(b"\\ud800", b"\\u0000", "\u2028".encode(), "\u202e\u0301".encode(), "\U0001f468\u200d\U0001f469".encode()),
    *("İ".encode(), "ﬁ".encode(), "１２３".encode(), "²".encode(), b"../../etc/passwd", b"C:\\", b"x" * 300),
]
LARGE = [b"[" * 20_000, b"(" * 500, b"{'a':" * 500, b"a." * 5_000, b"9" * 5_000, b"y" * 200_000, b"<a>" * 20_000]

# In the place of any value of JSON; the last ones are text that Python would not write.
VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    1.5,
    2**31,
    2**63,
    10**40,
    1e300,
    "",
    "\x00",
    "a" * 300,
    "\ud800",
    "é\n",
]
VALUES += [[], {}, [[]], [None], {"": None}, float("nan"), float("inf"), "dog", "../x"]
TEXTS = [
    "1e999",
    "-0",
    "9" * 5_000,
    "[" * 20_000,
    "[" * 900 + "]" * 900,
    '{"a": 1, "a": []}',
    '"\\ud800"',
    "1" + "0" * 400,
]
_MARK = "\x01text"


def mutate(random: Random, name: str, content: bytes) -> bytes:
    """The content of a file of this name, spoiled once or a few times."""
    kind: Callable[[Random, bytes], bytes] = _OF_FORMAT.get(PurePath(name).suffix, _bytes)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        spoil = kind if random.random() < 0.7 else _bytes
        try:
            content = spoil(random, content)
        except Exception:  # spoiled too much for its format by now
            content = _bytes(random, content)
    return content


def _bytes(random: Random, content: bytes) -> bytes:
    # Headers are short and full of meaning.
    most = min(len(content), 128) if random.random() < 0.4 else len(content)
    at = random.randint(0, most)
    end = min(len(content), at + random.choice((1, 1, 2, 4, 16, 200)))
    piece = random.choice(PIECES if random.random() < 0.97 else LARGE)
    return random.choice(
        (
            lambda: content[:at],
            lambda: content[:at] + content[end:],
            lambda: content[:at] + piece + content[at:],
            lambda: content[:at] + piece + content[end:],
            lambda: content[:at] + content[at:end] * 2 + content[end:],
            lambda: content[:at] + bytes([random.randrange(256)]) + content[at + 1 :],
            lambda: content[:at] + bytes(byte ^ 1 << random.randrange(8) for byte in content[at:end]) + content[end:],
            lambda: content[end:] + content[:at],
        )
    )()


def _json(random: Random, content: bytes) -> bytes:
    text = json.dumps(_spoiled(random, json.loads(content)))
    return text.replace(json.dumps(_MARK), random.choice(TEXTS)).encode()


def _json_lines(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = random.randrange(len(lines))
    lines[at] = _json(random, lines[at])
    return b"\n".join(lines)


def _spoiled(random: Random, value: Any) -> Any:
    """A value of JSON with one of those in it replaced, left out, doubled or renamed."""
    if random.random() < 0.15 or not isinstance(value, list | dict) or not value:
        return _MARK if random.random() < 0.1 else random.choice(VALUES)
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = random.choice(keys)
    changed = value.copy()
    action = random.random()
    if action < 0.7:
        changed[key] = _spoiled(random, value[key])
    elif action < 0.85:
        del changed[key]
    elif isinstance(changed, list):
        changed.insert(key, value[random.choice(keys)])
    else:
        changed[random.choice([f"{key}s", "", random.choice(keys)])] = changed.pop(key)
    return changed


def _npz(random: Random, content: bytes) -> bytes:
    """An archive with an array spoiled, left out, or packed in another way."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice(list(members))
    members[name] = _bytes(random, members[name]) if random.random() < 0.9 else b""
    if random.random() < 0.1:
        del members[name]
    packed = io.BytesIO()
    way = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with zipfile.ZipFile(packed, "w", way) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return packed.getvalue()


def _safetensors(random: Random, content: bytes) -> bytes:
    """A file with something else in its header, which is JSON behind eight bytes of length."""
    size = int.from_bytes(content[:8], "little")
    header = _json(random, content[8 : 8 + size])
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


_OF_FORMAT = {".json": _json, ".jsonl": _json_lines, ".npz": _npz, ".safetensors": _safetensors}
