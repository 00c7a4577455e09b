"""Photos as hostile as disks hold them: odd but sound, broken, bombs, and names behind which there is no photo.

Everything is made in code from a few drawn pictures. Sound photos must open; of the others it is enough that they are
refused with a reason, or open, soon and in little memory.
"""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

SIZE = (72, 56)
EMPTY = b""


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(photo: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    photo.save(buffer, kind, **options)
    return buffer.getvalue()


def _formats() -> dict[str, str]:
    kinds = {"jpg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "ppm": "PPM"}
    kinds |= {"webp": "WEBP"} if features.check("webp") else {}
    return kinds | ({"avif": "AVIF"} if features.check("avif") else {})


def _plain(suffix: str) -> bytes:
    return encoded(picture(), _formats()[suffix])


def _exif(**tags: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = tags.get("orientation", 1)
    exif[0x0110] = "camera"
    return exif


def png_chunk(kind: bytes, content: bytes, *, length: int | None = None) -> bytes:
    length = len(content) if length is None else length
    return struct.pack(">I", length) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes, *, bits: int = 8, colours: int = 2, more: bytes = b"") -> bytes:
    """A PNG with any header; ``pixels`` are compressed already, ``more`` are further chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header)
    return start + more + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def tiff(*tags: tuple[int, int, int, int], data: bytes = b"", next_page: int = 0) -> bytes:
    """A little-endian TIFF of (tag, type, count, value); ``data`` begin at byte 8, before the directory."""
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    entries = b"".join(struct.pack("<HHII", *each) for each in sorted(tags))
    return start + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", next_page)


def grey_tiff(width: int, height: int, *, data: bytes = b"\x80" * 64, **changes: int) -> bytes:
    values = {"bits": 8, "compression": 1, "photometric": 1, "strip": 8, "rows": height, "bytes": len(data)} | changes
    numbers = {256: width, 257: height, 258: values["bits"], 259: values["compression"], 262: values["photometric"]}
    numbers |= {273: values["strip"], 277: 1, 278: values["rows"], 279: values["bytes"]}
    tags = [(tag, 4, 1, value & 0xFFFFFFFF) for tag, value in numbers.items()]
    return tiff(*tags, data=data, next_page=values.get("next_page", 0))


def _with_size(jpeg: bytes, width: int, height: int) -> bytes:
    """A JPEG with another size in its header."""
    places = [jpeg.find(bytes([0xFF, kind])) for kind in (0xC0, 0xC1, 0xC2)]
    place = min(each for each in places if each >= 0)
    return jpeg[: place + 5] + struct.pack(">HH", height, width) + jpeg[place + 9 :]


def jpeg_with_scans(scans: int, width: int, height: int) -> bytes:
    """A progressive JPEG whose last scan, of a few bytes, is repeated."""
    whole = encoded(picture(size=(16, 16)).convert("L"), "JPEG", progressive=True)
    last = whole.rfind(b"\xff\xda")
    header = whole[last : last + 2 + int.from_bytes(whole[last + 2 : last + 4], "big")]
    return _with_size(whole[:-2], width, height) + (header + b"\0") * scans + b"\xff\xd9"


def _jpeg_segment(kind: int, content: bytes) -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content


def _behind_start(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


@cache
def sound() -> dict[str, bytes]:
    """Photos that must open, by their names."""
    rgb, found = picture(), {}
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(SIZE))
    grey = rgb.convert("L")
    for suffix, kind in _formats().items():
        found[f"plain.{suffix}"] = _plain(suffix)
        found[f"grey.{suffix}"] = encoded(grey, kind)
    for turn in range(1, 9):
        found[f"turned-{turn}.jpg"] = encoded(rgb, "JPEG", exif=_exif(orientation=turn))
    found["turned-6.png"] = encoded(rgb, "PNG", exif=_exif(orientation=6))
    found["turned-6.tif"] = encoded(rgb, "TIFF", exif=_exif(orientation=6))
    found["turned-by-99.jpg"] = encoded(rgb, "JPEG", exif=_exif(orientation=99))
    for mode in ("1", "LA", "P", "RGBA"):
        found[f"mode-{mode}.png"] = encoded(alpha.convert(mode), "PNG")
        found[f"mode-{mode}.tif"] = encoded(alpha.convert(mode), "TIFF")
    found["palette-with-transparency.png"] = encoded(rgb.quantize(16), "PNG", transparency=bytes(range(0, 256, 16)))
    found["palette-of-one.gif"] = encoded(Image.new("P", SIZE), "GIF")
    found["four-bits.bmp"] = encoded(rgb.quantize(16), "BMP")
    found["transparent-colour.png"] = encoded(rgb, "PNG", transparency=rgb.getpixel((0, 0)))
    found["deep.png"] = encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "PNG")
    found["deep.tif"] = encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), "TIFF")
    found["floating.tif"] = encoded(Image.fromarray(np.asarray(grey, dtype=np.float32) / 255), "TIFF")
    odd = np.asarray(grey, dtype=np.float32) / 255
    found["not-a-number.tif"] = encoded(Image.fromarray(np.where(odd > 0.5, np.nan, odd)), "TIFF")
    found["infinite.tif"] = encoded(Image.fromarray(np.where(odd > 0.5, np.inf, odd)), "TIFF")
    found["cmyk.jpg"] = encoded(rgb.convert("CMYK"), "JPEG")
    found["cmyk.tif"] = encoded(rgb.convert("CMYK"), "TIFF")
    adobe = _jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\0")
    found["cmyk-adobe.jpg"] = _behind_start(encoded(rgb.convert("CMYK"), "JPEG"), adobe)
    found["lab.tif"] = encoded(rgb.convert("LAB"), "TIFF")
    for compression in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg"):
        found[f"{compression}.tif"] = encoded(rgb, "TIFF", compression=compression)
    found["fax.tif"] = encoded(rgb.convert("1"), "TIFF", compression="group4")
    found["progressive.jpg"] = encoded(rgb, "JPEG", progressive=True)
    found["restarts.jpg"] = encoded(rgb, "JPEG", restart_marker_blocks=1)
    found["full-colour.jpg"] = encoded(rgb, "JPEG", subsampling=0)
    for kind in ("gif", "webp", "png", "tif"):
        if kind in _formats():
            others = [picture(seed) for seed in (1, 2)]
            found[f"animated.{kind}"] = encoded(rgb, _formats()[kind], save_all=True, append_images=others)
    found["pair.jpg"] = encoded(rgb, "MPO", save_all=True, append_images=[picture(1)])
    found["one-pixel.png"] = encoded(rgb.resize((1, 1)), "PNG")
    found["one-row.jpg"] = encoded(rgb.resize((600, 1)), "JPEG")
    found["one-column.png"] = encoded(rgb.resize((1, 600)), "PNG")
    jpeg, plain_png = _plain("jpg"), _plain("png")
    found["without-end.jpg"] = jpeg[:-2]
    found["without-last-byte.jpg"] = jpeg[:-1]
    found["progressive-without-end.jpg"] = found["progressive.jpg"][:-2]
    for suffix in ("jpg", "png", "gif", "bmp", "tif"):
        found[f"with-more-behind.{suffix}"] = _plain(suffix) + b"junk" * 500
    found["with-a-zip-behind.jpg"] = jpeg + b"PK\3\4" + bytes(100)
    found["with-a-film-behind.jpg"] = jpeg + np.random.default_rng(0).bytes(300_000).replace(b"\xff", b"\xff\xda")
    found["a-png-called.jpg"] = plain_png
    found["a-jpeg-called.png"] = jpeg
    found["a-gif-called.tif"] = _plain("gif")
    found["junk-exif.jpg"] = _behind_start(jpeg, _jpeg_segment(0xE1, b"Exif\0\0" + bytes(range(256)) * 4))
    found["endless-exif.jpg"] = _behind_start(jpeg, _jpeg_segment(0xE1, b"Exif\0\0" + tiff((34665, 4, 1, 8))))
    found["junk-profile.jpg"] = encoded(rgb, "JPEG", icc_profile=bytes(range(256)) * 9)
    found["junk-profile.png"] = encoded(rgb, "PNG", icc_profile=bytes(range(256)) * 9)
    found["junk-xmp.jpg"] = _behind_start(jpeg, _jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta \xff<<"))
    found["entities-xmp.jpg"] = _behind_start(jpeg, _jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + _ENTITIES))
    found["long-comment.jpg"] = _behind_start(jpeg, *[_jpeg_segment(0xFE, b"c" * 65_000)] * 20)
    return found


_ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(10)
)
_SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>'
_PS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n/x { x } def x\nshowpage\n"


@cache
def broken() -> dict[str, bytes]:
    """Files that must be refused or open, within bounds, by their names."""
    found = {"empty.jpg": EMPTY, "one-byte.png": b"\x89", "zeros.jpg": bytes(10_000)}
    for suffix in _formats():
        whole = _plain(suffix)
        for share in (0.02, 0.1, 0.5, 0.9, 0.99):
            found[f"cut-at-{share:.0%}.{suffix}"] = whole[: int(len(whole) * share)]
        for seed in range(3):
            spoiled = np.frombuffer(whole, dtype=np.uint8).copy()
            rng = np.random.default_rng(seed)
            spoiled[rng.integers(0, len(whole), 12)] = rng.integers(0, 256, 12)
            found[f"spoiled-{seed}.{suffix}"] = spoiled.tobytes()
    progressive = encoded(picture(), "JPEG", progressive=True)
    for share in (0.3, 0.6, 0.95):
        found[f"progressive-cut-at-{share:.0%}.jpg"] = progressive[: int(len(progressive) * share)]
    found |= _headers(50_000, 50_000, "huge") | _headers(0, 0, "sizeless") | _headers(2**31 - 1, 1, "flat")
    found |= _bombs()
    for name, content in {
        "svg": _SVG,
        "postscript": _PS,
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "html": b"<!doctype html><script>alert(1)</script>" * 9,
        "text": b"no photo",
        "zip": b"PK\3\4" + bytes(60),
        "icon": b"\0\0\1\0\1\0" + b"\xff" * 60,
        "fits": b"SIMPLE  =                    T" + b" " * 2850,
        "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(80),
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80),
        "psd": b"8BPS\0\1" + bytes(40),
        "blp": b"BLP2" + b"\xff" * 200,
        "dds": b"DDS " + b"\xff" * 200,
    }.items():
        found[f"a-{name}-called.jpg"] = content
    jpeg = _plain("jpg")
    found["start-only.jpg"] = b"\xff\xd8"
    found["starts-only.jpg"] = b"\xff\xd8" * 5_000
    found["segment-without-end.jpg"] = jpeg[:2] + b"\xff\xe1\xff\xff" + jpeg[2:]
    found["segment-of-zero.jpg"] = jpeg[:2] + b"\xff\xe1\0\0" + jpeg[2:]
    found["arithmetic.jpg"] = jpeg.replace(b"\xff\xc0", b"\xff\xc9", 1)
    found["lossless.jpg"] = jpeg.replace(b"\xff\xc0", b"\xff\xc3", 1)
    found["hierarchical.jpg"] = jpeg.replace(b"\xff\xc0", b"\xff\xc5", 1)
    found["two-pictures-cut.jpg"] = encoded(picture(), "MPO", save_all=True, append_images=[picture(1)])[:-800]
    found["html-and-gif.gif"] = _plain("gif")[:6] + b"=1;/*<script>" + _plain("gif")[6:]
    found["no-palette.png"] = png(9, 9, zlib.compress(bytes(90)), colours=3)
    found["no-pixels.png"] = png(9, 9, b"")
    found["odd-bits.png"] = png(9, 9, zlib.compress(bytes(900)), bits=7)
    found["chunk-of-negative-size.png"] = png(9, 9, zlib.compress(bytes(252)), more=b"\xff\xff\xff\xfetEXt" + bytes(8))
    found["no-colours.gif"] = b"GIF89a\x09\0\x09\0\0\0\0,\0\0\0\0\x09\0\x09\0\0\2\2\x84\x51\0;"
    found["picture-beside-the-screen.gif"] = b"GIF89a\x09\0\x09\0\0\0\0,\xff\xff\xff\xff\x09\0\x09\0\0\2\2\x84\x51\0;"
    bmp = bytearray(_plain("bmp"))
    for name, value in (("negative", -50), ("most-negative", -(2**31)), ("zero", 0)):
        changed = bytearray(bmp)
        changed[18:22] = changed[22:26] = struct.pack("<i", value)
        found[f"sides-of-{name}.bmp"] = bytes(changed)
    found["pixels-before-the-start.bmp"] = bytes(bmp[:10] + struct.pack("<I", 2**32 - 4) + bmp[14:])
    found["runs-without-end.bmp"] = bytes(bmp[:28] + struct.pack("<HI", 8, 1) + bmp[34:54]) + b"\0\2\xff\xff" * 500
    found["page-that-is-its-own-next.tif"] = grey_tiff(8, 8, next_page=72)
    found["no-tags.tif"] = tiff()
    found["strip-beyond-the-file.tif"] = grey_tiff(8, 8, strip=2**31)
    found["strip-of-4-gb.tif"] = grey_tiff(8, 8, bytes=2**32 - 1)
    found["million-rows-in-a-strip.tif"] = grey_tiff(8, 8, rows=10**6)
    found["bits-without-number.tif"] = grey_tiff(8, 8, bits=2**31)
    for compression in (2, 3, 4, 5, 6, 7, 8, 34712, 34925, 50000, 50001, 65535):
        found[f"compression-{compression}.tif"] = grey_tiff(8, 8, compression=compression)
    found["tag-of-4-gb.tif"] = tiff((256, 4, 1, 8), (257, 4, 1, 8), (273, 4, 2**30, 8), (279, 4, 2**30, 8))
    found["words-for-numbers.ppm"] = b"P6 ten by ten\n" + bytes(300)
    found["long-number.ppm"] = b"P6 " + b"9" * 10_000 + b" 1 255\n"
    found["endless-remark.ppm"] = b"P6 #" + b"x" * 200_000
    found["plain-but-cut.ppm"] = b"P3 9 9 255\n1 2 3"
    found["largest-value-of-0.ppm"] = b"P6 9 9 0\n" + bytes(300)
    return found


def _headers(width: int, height: int, name: str) -> dict[str, bytes]:
    """The header of each format with a size, and hardly a pixel behind it."""
    found = {
        f"{name}.png": png(width, height, zlib.compress(bytes(100))),
        f"{name}-bits.png": png(width, height, zlib.compress(bytes(100)), bits=1, colours=0),
        f"{name}.tif": grey_tiff(width, height),
        f"{name}.ppm": b"P6 %d %d 255\n" % (width, height) + bytes(100),
        f"{name}-plain.ppm": b"P1 %d %d\n0 1 1" % (width, height),
        f"{name}.bmp": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 200, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0),
    }
    if width < 2**16:
        found[f"{name}.jpg"] = _with_size(_plain("jpg"), width, height)
        found[f"{name}-progressive.jpg"] = _with_size(encoded(picture(), "JPEG", progressive=True), width, height)
        gif = _plain("gif")
        place = gif.find(b",\0\0\0\0")
        size = struct.pack("<HH", width, height)
        found[f"{name}.gif"] = gif[:6] + size + gif[10 : place + 5] + size + gif[place + 9 :]
    if "webp" in _formats() and 0 < width < 2**24:
        canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        content = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas + _plain("webp")[12:]
        found[f"{name}.webp"] = b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content
    if "avif" in _formats():
        avif = _plain("avif")
        place = avif.find(b"ispe") + 8
        found[f"{name}.avif"] = avif[:place] + struct.pack(">II", width, height) + avif[place + 8 :]
    return found


def _bombs() -> dict[str, bytes]:
    megabytes = zlib.compress(bytes(2**26), 9)
    text = b"Comment\0\0" + megabytes
    return {
        "text-of-64-mb.png": png(9, 9, zlib.compress(bytes(252)), more=png_chunk(b"zTXt", text)),
        "texts-of-64-mb.png": png(9, 9, zlib.compress(bytes(252)), more=png_chunk(b"zTXt", text) * 20),
        "profile-of-64-mb.png": png(9, 9, zlib.compress(bytes(252)), more=png_chunk(b"iCCP", b"p\0\0" + megabytes)),
        "pixels-of-64-mb.png": png(9, 9, megabytes),
        "many-chunks.png": png(9, 9, zlib.compress(bytes(252)), more=png_chunk(b"tEXt", b"k\0v") * 20_000),
        "strip-of-64-mb.tif": grey_tiff(8, 8, data=megabytes, compression=8),
        "many-pages.tif": b"II*\0" + b"".join(_page(8 + 66 * i, 8 + 66 * (i + 1)) for i in range(2_000)),
        "many-frames.gif": _plain("gif")[:-1] + b"!\xf9\4\0\0\0\0\0,\0\0\0\0\1\0\1\0\0\2\2\x4c\1\0" * 20_000 + b";",
        "many-scans.jpg": jpeg_with_scans(2_000, 2_000, 2_000),
        "many-starts-of-scans.jpg": _plain("jpg")[:-2] + b"\xff\xda" * 50_000,
        "many-segments.jpg": _behind_start(_plain("jpg"), *[_jpeg_segment(0xE1, b"Exif\0\0")] * 20_000),
    }


def _page(place: int, following: int) -> bytes:
    """A page of a TIFF at a place of the file, in 66 bytes."""
    tags = {256: 1, 257: 1, 258: 8, 273: 4, 279: 1}
    start = struct.pack("<I", place) if place == 8 else b""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    page = struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
    return start + page


def large() -> Iterator[tuple[str, bytes]]:
    """Small files of nearly as many pixels as are allowed: seconds and much memory each, one at a time."""
    side = 9_990
    row = zlib.compressobj(9)
    pixels = b"".join([*(row.compress(bytes(1 + 3 * side)) for _ in range(side)), row.flush()])
    yield "large.png", png(side, side, pixels)
    grey = Image.new("L", (side, side), 77)
    yield "large-alpha.png", encoded(Image.merge("LA", [grey, grey]), "PNG", compress_level=1)
    yield "large-deep.png", encoded(Image.new("I;16", (side, side)), "PNG", compress_level=1)
    yield "large-bits.tif", encoded(Image.new("1", (side, side)), "TIFF", compression="group4")
    yield "large-floating.tif", encoded(Image.new("F", (side, side)), "TIFF", compression="tiff_deflate")
    yield "large.gif", encoded(Image.new("P", (side, side)), "GIF")
    yield "large.jpg", encoded(grey, "JPEG", progressive=True)
    yield "large-cut.jpg", encoded(grey, "JPEG")[:-2]
    yield "large-cmyk.jpg", encoded(Image.new("CMYK", (side, side)), "JPEG")
    yield "large-scans.jpg", jpeg_with_scans(90, side, side)
    yield "large-odd-values.ppm", b"P6 %d %d 254\n" % (side, side) + bytes(10_000)


def write_photos(folder: Path, photos: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in photos.items():
        (folder / name).write_bytes(content)


def write_odd_names(folder: Path) -> list[Path]:
    """Sound photos with odd names, as far as the file system takes them; those whose names are UTF-8."""
    written = []
    names: list[str | bytes] = [
        "line\nbreak.jpg",
        "\x1b[31mred\x07.jpg",
        "tab\t.jpg",
        "back\\slash.jpg",
        '"quoted".jpg',
    ]
    names += ["-rf.jpg", " .jpg", "a'b;c&d.jpg", "%2e%2e.jpg", "right-to-left\u202egpj.jpg", "\u2028.jpg", "👩‍👧.jpg"]
    names += ["e\u0301.jpg", "é.jpg", f"{'long' * 60}.jpg", b"\xff\xfe.jpg", b"caf\xe9.jpg", b"\xed\xa0\x80.jpg"]
    for seed, name in enumerate(names):
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))  # noqa: PTH118
        try:
            path.write_bytes(encoded(picture(100 + seed), "JPEG"))
        except (OSError, ValueError):
            continue
        if isinstance(name, str):
            written.append(path)
    return written


def write_what_is_no_file(folder: Path, *, sparse: bool) -> list[str]:
    """Names of photos behind which there is no file, as far as the system has such things, and files that are mostly
    holes; reading the ``sparse`` ones takes seconds.
    """

    def bind(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))

    makers: dict[str, Callable[[Path], object]] = {
        "pipe.jpg": lambda path: os.mkfifo(path),
        "s.jpg": bind,
        "loop.jpg": lambda path: path.symlink_to(path),
        "dangling.jpg": lambda path: path.symlink_to("nowhere"),
        "through-a-file.jpg": lambda path: path.symlink_to("plain.jpg/nowhere"),
        "zero.jpg": lambda path: path.symlink_to("/dev/zero"),
        "null.jpg": lambda path: path.symlink_to("/dev/null"),
        "messages.jpg": lambda path: path.symlink_to("/proc/kmsg"),
        "core.jpg": lambda path: path.symlink_to("/proc/kcore"),
        "memory.jpg": lambda path: path.symlink_to("/proc/self/mem"),
        "pages.jpg": lambda path: path.symlink_to("/proc/self/pagemap"),
        "sparse.jpg": lambda path: _sparse(path, b"\xff\xd8\xff", 2**40),
        "sparse-2-gb.tif": lambda path: _sparse(path, grey_tiff(9, 9), 2**31 - 1),
        "sparse.ppm": lambda path: _sparse(path, b"P6 9000 9000 254\n", 2**28),
    }
    written = []
    for name, make in makers.items():
        if name in ("sparse-2-gb.tif", "sparse.ppm") and not sparse:
            continue
        try:
            make(folder / name)
        except (OSError, AttributeError, NotImplementedError):
            continue
        written.append(name)
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.png").write_bytes(encoded(picture(77), "PNG"))
    return written


def _sparse(path: Path, start: bytes, size: int) -> None:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
