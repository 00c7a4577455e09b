from __future__ import annotations

import contextlib
import mmap
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from heic import HEIC
from PIL import EpsImagePlugin, Image

from han_retrieval.data import count_pixels, full_size, open_photo, photo_files, read_info, upright_rgb
from han_retrieval.data.photos import most_pixels
from han_retrieval.errors import DataError, HANError

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as open_photo has it, which pytest undoes

# Red, green, blue, white from left to right and top to bottom, each 8 x 8 so that JPEG keeps the middles.
COLOURS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
QUARTERS = COLOURS.repeat(8, axis=0).repeat(8, axis=1)


def middles(photo: Image.Image) -> np.ndarray:
    """(2, 2, 3) colours at the middles of the four quarters."""
    width, height = photo.size
    pixels = np.asarray(photo, dtype=int)
    return pixels[[height // 4, 3 * height // 4]][:, [width // 4, 3 * width // 4]]


def png_header(width: int, height: int) -> bytes:
    """A sound PNG up to its pixels, which are missing."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT" + b"\0" * 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_turned_upright(tmp_path: Path, orientation: int) -> None:
    upright = QUARTERS.repeat(2, axis=1)  # wider than high
    to_stored: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a),
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(to_stored[orientation](upright))).save(tmp_path / "a.png", exif=exif)
    photo = open_photo(tmp_path / "a.png")
    assert photo.mode == "RGB"
    assert np.array_equal(np.asarray(photo), upright)


def test_an_orientation_that_exif_lacks_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.new("RGB", (400, 300)).save(tmp_path / "a.jpg", exif=exif)
    photo = open_photo(tmp_path / "a.jpg", shrink_to=lambda *_: (40, 30))
    assert photo.width > photo.height
    assert full_size(photo) == (400, 300)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGBA", "png"), ("RGBA", "webp"), ("RGBA", "tif"), ("LA", "png"), ("P", "png"), ("I;16", "png"), ("I;16", "tif"),
     ("P", "tif"), ("L", "tif"), ("CMYK", "tif"), ("CMYK", "jpg"), ("RGB", "tif")],
)  # fmt: skip
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_is_written_in_a_photo_survives_every_mode(
    tmp_path: Path, mode: str, suffix: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = orientation, "Canon", "A pier"
    exif.get_ifd(0x8769)[0x9003] = "2024:01:31 12:00:00"
    exif.get_ifd(0x8825).update({1: "N", 2: (38.0, 42.0, 0.0), 3: "W", 4: (9.0, 8.0, 0.0)})
    for part in (0x8769, 0x8825):
        exif[part] = exif.get_ifd(part)  # Pillow writes those of a TIFF that are entries, too
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (40, 20)).convert("L" if mode == "I;16" else mode).convert(mode).save(path, exif=exif)
    photo = open_photo(path)
    found = read_info(photo)
    assert photo.size == ((40, 20) if orientation == 1 else (20, 40))
    assert upright_rgb(photo).size == photo.size
    assert (found.date, found.camera, found.text) == ("2024-01-31 12:00:00", "Canon", "A pier")
    assert (found.latitude, found.longitude) == pytest.approx((38.7, -9.1333), abs=1e-3)


def test_large_tags_of_a_tiff_are_not_kept(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[65000] = "Canon", b"x" * 1_000_000
    Image.new("L", (40, 20)).save(tmp_path / "a.tif", exif=exif)
    photo = open_photo(tmp_path / "a.tif")
    assert read_info(photo).camera == "Canon"
    assert len(photo.getexif().tobytes()) < 1000


WRITTEN = {
    "RGB": ["png", "jpg", "tif", "webp", "bmp", "ppm"],
    "CMYK": ["jpg", "tif"],
    "YCbCr": ["jpg", "tif"],
    "P": ["png", "gif", "tif", "bmp"],
    "RGBA": ["png", "tif", "webp"],
}


@pytest.mark.parametrize(("mode", "suffix"), [(mode, suffix) for mode in WRITTEN for suffix in WRITTEN[mode]])
def test_colours_survive_every_mode_and_format(tmp_path: Path, mode: str, suffix: str) -> None:
    Image.fromarray(QUARTERS).convert(mode).save(tmp_path / f"a.{suffix}")
    photo = open_photo(tmp_path / f"a.{suffix}")
    assert photo.mode == "RGB"
    assert np.abs(middles(photo) - COLOURS).max() <= 40


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    alpha = np.array([[0, 255, 128]], np.uint8)
    black = np.zeros((1, 3, 3), np.uint8)
    Image.fromarray(np.dstack([black, alpha])).save(tmp_path / "rgba.png")
    assert np.asarray(open_photo(tmp_path / "rgba.png"))[0, :, 0].tolist() == [255, 0, 127]
    grey = Image.merge("LA", [Image.fromarray(black[..., 0]), Image.fromarray(alpha)])
    grey.save(tmp_path / "la.png")
    assert np.asarray(open_photo(tmp_path / "la.png"))[0, :, 0].tolist() == [255, 0, 127]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(tmp_path / "p.png", transparency=0)
    assert np.asarray(open_photo(tmp_path / "p.png")).tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        (np.array([[0, 32768, 65535]], np.uint16), "png"),
        (np.array([[0, 32768, 65535]], np.uint16), "tif"),
        (np.array([[0, 2**30, 2**31 - 1]], np.int32), "tif"),
        (np.array([[0, 0.5, 1]], np.float32), "tif"),
        (np.array([[0, 128, 255]], np.float32), "tif"),
        (np.array([[0, 128, 255]], np.uint8), "png"),
    ],
)
def test_greys_of_any_depth_keep_their_range(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    assert np.asarray(open_photo(tmp_path / f"a.{suffix}"))[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_black_and_white_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert np.asarray(open_photo(tmp_path / "a.png"))[0].tolist() == [[255] * 3, [0] * 3]


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert np.asarray(open_photo(tmp_path / "a.gif"))[0, 0].tolist() == [255, 0, 0]


def test_what_starts_other_programs_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *args, **options: started.append(args))
    with pytest.raises(HANError, match="not an image"):
        open_photo(tmp_path / "a.jpg")
    assert not started


def test_a_phone_s_108_megapixels_are_a_photo(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png_header(12_000, 9_000))
    assert count_pixels(tmp_path / "large.png") == 108_000_000


def test_a_pair_of_photos_in_one_file_is_its_first(tmp_path: Path) -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("white", "black"))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[second])
    assert np.asarray(open_photo(tmp_path / "a.jpg")).min() == 255


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (13_378, 13_378), (50_000, 4_000)])
def test_a_huge_photo_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    # There are no pixels in the file: decoding would say that it is truncated.
    (tmp_path / "huge.png").write_bytes(png_header(width, height))
    with pytest.raises(HANError, match=r"huge\.png: .*more.* than the limit of 178,956,970") as error:
        open_photo(tmp_path / "huge.png")
    assert "\n" not in str(error.value)


def test_the_limit_is_the_largest_size_that_opens(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    assert open_photo(tmp_path / "a.png", max_pixels=600).size == (30, 20)
    with pytest.raises(HANError, match="30 x 20 pixels, more than the limit of 599"):
        open_photo(tmp_path / "a.png", max_pixels=599)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tif", "bmp"])
def test_a_photo_cut_at_any_point_gives_one_clear_line(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(tmp_path / f"whole.{suffix}")
    whole = (tmp_path / f"whole.{suffix}").read_bytes()
    path = tmp_path / f"cut.{suffix}"
    for length in (1, 10, 30, 100, len(whole) // 2, len(whole) * 3 // 4):
        path.write_bytes(whole[:length])
        with pytest.raises(HANError) as error:
            open_photo(path)
        assert str(error.value).startswith(f"{path}: ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("seed", range(40))
def test_spoiled_bytes_open_or_are_refused(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    suffix = ["jpg", "png", "webp", "gif", "tif", "avif"][seed % 6]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(rng.integers(0, 256, (20, 20, 3), np.uint8)).save(tmp_path / f"a.{suffix}", exif=exif)
    spoiled = bytearray((tmp_path / f"a.{suffix}").read_bytes())
    for place in rng.integers(0, min(len(spoiled), 200), 8):
        spoiled[place] = rng.integers(256)
    (tmp_path / f"a.{suffix}").write_bytes(spoiled)
    with contextlib.suppress(HANError):
        assert open_photo(tmp_path / f"a.{suffix}").mode == "RGB"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file is empty"), (b"Not a photo, just some text.\n" * 20, "not an image")]
)
def test_what_is_no_photo_is_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(HANError, match=reason) as error:
        open_photo(str(path))
    assert str(path) in str(error.value)


def test_missing_photos_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(HANError, match=r"a\.jpg: no such photo"):
        open_photo(tmp_path / "a.jpg")
    with pytest.raises(HANError, match="is a folder"):
        open_photo(tmp_path)


@pytest.mark.parametrize("largest", [1, 100, 254, 256, 1023, 4095])
@pytest.mark.parametrize("magic", [b"P5", b"P6"])
def test_values_of_any_range_are_read_as_pillow_reads_them(tmp_path: Path, magic: bytes, largest: int) -> None:
    values = 37 * 23 * (3 if magic == b"P6" else 1)
    data = np.random.default_rng(0).integers(0, 256, values * (2 if largest > 255 else 1), dtype=np.uint8).tobytes()
    path = tmp_path / "a.ppm"
    path.write_bytes(magic + b" 37 23 %d\n" % largest + data)
    wanted = np.asarray(upright_rgb(Image.open(path)))
    assert np.array_equal(np.asarray(open_photo(path)), wanted)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HANError, match="not enough image data"):
        open_photo(path)


def test_a_photo_in_bands_is_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (20, 30, 4), np.uint8)).save(tmp_path / "alpha.png")
    Image.fromarray(rng.random((20, 30), np.float32)).save(tmp_path / "floating.tif")
    Image.fromarray(rng.integers(0, 2**16, (20, 30), np.uint16)).save(tmp_path / "deep.png")
    whole = [np.asarray(open_photo(path)) for path in sorted(tmp_path.iterdir())]
    monkeypatch.setattr("han_retrieval.data.photos._PIXELS_A_BAND", 70)
    for path, wanted in zip(sorted(tmp_path.iterdir()), whole, strict=True):
        assert np.array_equal(np.asarray(open_photo(path)), wanted)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "ppm"])
def test_no_file_is_mapped_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """The process would die where such a file is cut while it is read, as by a sync or a network share."""
    mapped = []

    def refuse(*given: object, **options: object) -> None:
        mapped.append(given)
        raise OSError

    monkeypatch.setattr(mmap, "mmap", refuse)
    Image.new("L", (64, 64), 7).save(tmp_path / f"a.{suffix}")
    assert np.asarray(open_photo(tmp_path / f"a.{suffix}")).max() == 7
    assert not mapped
    Image.open(tmp_path / f"a.{suffix}").load()
    assert mapped or suffix == "bmp"  # Pillow by itself


def test_an_image_of_the_callers_is_not_the_upright_one() -> None:
    image = Image.fromarray(QUARTERS)
    upright = upright_rgb(image)
    upright.putpixel((0, 0), (1, 2, 3))
    assert image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "CMYK"])
def test_turned_tiffs_of_every_mode(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(QUARTERS.repeat(2, axis=1)).copy()).convert(mode).save(tmp_path / "a.tif", exif=exif)
    photo = open_photo(tmp_path / "a.tif")
    assert photo.size == (32, 16)
    if mode != "L":
        assert np.abs(middles(photo) - COLOURS).max() <= 40


@pytest.mark.parametrize("name", ["phone.heic", "PHONE.HEIC", "phone.jpg"])
def test_a_phone_s_heic_is_a_photo(tmp_path, name):
    (tmp_path / name).write_bytes(HEIC)
    photo = open_photo(tmp_path / name)
    assert photo.size == (24, 16)
    left, right = photo.getpixel((2, 8)), photo.getpixel((21, 8))
    assert left[0] > 150 > 90 > left[2]
    assert right[2] > 150 > 90 > right[0]
    assert read_info(photo).date == "2024-01-31 12:00:00"
    assert [file.name for file in photo_files(tmp_path)] == [name]


def test_a_broken_heic_is_named(tmp_path):
    path = tmp_path / "broken.heic"
    path.write_bytes(HEIC[:-40])
    with pytest.raises(DataError, match=r"broken\.heic: "):
        open_photo(path)


def test_a_jpeg_that_is_called_heic_is_a_photo(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.HEIC", "JPEG")
    assert open_photo(tmp_path / "a.HEIC").size == (8, 8)
    assert [file.name for file in photo_files(tmp_path)] == ["a.HEIC"]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_large_photo_comes_smaller_where_few_pixels_are_needed(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112], exif[0x0132], exif[0x010F] = orientation, "2024:01:31 12:00:00", "Canon"
    path = tmp_path / f"a{suffix}"
    Image.fromarray(QUARTERS).resize((640, 480), Image.Resampling.NEAREST).save(path, exif=exif, quality=95)
    asked = []

    def needed(width: int, height: int) -> tuple[int, int]:
        asked.append((width, height))
        return width // 8, height // 8

    whole, photo = open_photo(path), open_photo(path, shrink_to=needed)
    assert set(asked) == {whole.size}
    assert full_size(photo) == whole.size == full_size(whole)
    assert photo.width < whole.width / 2
    assert photo.width >= whole.width / 8
    assert photo.height >= whole.height / 8
    assert photo.width / photo.height == pytest.approx(whole.width / whole.height, rel=0.02)
    assert np.allclose(middles(photo), middles(whole), atol=12)
    assert read_info(photo) == read_info(whole)


def test_a_photo_that_is_small_enough_comes_as_it_is(tmp_path):
    Image.fromarray(QUARTERS).save(tmp_path / "a.png")
    photo = open_photo(tmp_path / "a.png", shrink_to=lambda width, height: (width, height))
    assert photo.size == full_size(photo) == (16, 16)
    assert np.array_equal(np.asarray(photo), QUARTERS)


def test_a_cut_jpeg_comes_smaller_too(tmp_path):
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", quality=90)
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(content[: int(0.98 * len(content))])
    photo = open_photo(tmp_path / "b.jpg", shrink_to=lambda width, height: (width // 8, height // 8))
    assert photo.size == (160, 120)
    assert full_size(photo) == (640, 480)


def test_the_most_pixels_of_a_photo_are_a_setting(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    assert most_pixels() >= 108_000_000
    monkeypatch.setenv("HAN_MOST_PIXELS", "250000001")
    assert most_pixels() == 250_000_001
    assert 2 * Image.MAX_IMAGE_PIXELS >= 250_000_001
    for wrong in ("many", "-1", "0", "1" * 30):
        monkeypatch.setenv("HAN_MOST_PIXELS", wrong)
        with pytest.raises(HANError, match="HAN_MOST_PIXELS is the most pixels"):
            most_pixels()
