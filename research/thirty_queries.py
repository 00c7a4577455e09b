"""What thirty searches show on a folder of photos from Python packages, to be compared between two revisions.

    pip install --no-deps --target packages gradio holoviews imgaug mahotas mezzanine ultralytics
    PYTHONPATH=packages python -m research.thirty_queries gather photos
    han index photos --out index
    python -m research.thirty_queries show index --sheet sheet.jpg > after.txt

It prints what the page of `han serve` shows: how many photos match well, where likely matches end, the best photos,
words that the model does not know, and refusals. Packages that are not installed are passed over.
"""

from __future__ import annotations

import io
import zipfile
from importlib.util import find_spec
from pathlib import Path

import click
from PIL import Image, ImageDraw

from han_retrieval.errors import HANError
from han_retrieval.serve import SearchService
from han_retrieval.serve.ranking import PageRequest
from han_retrieval.serve.schemas import SearchResponse
from research.program import run

SOURCES = (
    ("skimage", "data/*"),
    ("sklearn", "datasets/images/*.jpg"),
    ("matplotlib", "mpl-data/sample_data/*.jpg"),
    ("gradio", "media_assets/images/*"),
    ("gradio", "test_data/cheetah2.jpg"),
    ("holoviews", "examples/assets/macaw.png"),
    ("holoviews", "examples/assets/penguins.png"),
    ("imgaug", "quokka.jpg"),
    ("mahotas", "demos/data/*.jpg"),
    ("mezzanine", "core/static/test/*.zip"),
    ("ultralytics", "assets/*.jpg"),
)
QUERIES = (
    "a cat",
    "a dog",
    "two dogs in the snow",
    "a woman in an orange suit",
    "a man with a camera",
    "a cup of coffee on a table",
    "a red flower",
    "a lion",
    "a cheetah in the grass",
    "a colorful bird",
    "a small smiling animal",
    "a motorcycle",
    "a rocket launches into the sky",
    "airplane",
    "a bus on a street with people",
    "two men in suits",
    "a tall tower",
    "a city at night",
    "skyscrapers by the water",
    "a bridge over a river",
    "boats on the water -bridge",
    '"a city" - "at night"',
    'chelsea.png + "a dog"',
    "an old coin",
    "a man runing on the beach",
    "a selfie",
    "receipt",
    "python source code",
    "ein Hund im Schnee",
    "a telephone box made of chocolate",
)
SHOWN = 5
_SUFFIXES = (".jpg", ".jpeg", ".png")
_LEAST_SIDE = 200  # pixels; icons are smaller
_TILE = 150  # pixels of the contact sheet


@click.group()
def main() -> None:
    """What thirty searches show on photos from Python packages."""


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def gather(folder: Path) -> None:
    """Copy the photos of installed packages into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for package, pattern in SOURCES:
        photos = _photos(package, pattern)
        for name, content in photos.items():
            (folder / name).write_bytes(content)
        click.echo(f"{package}: {len(photos)} photos" if photos else f"{package}: not installed", err=True)


def _photos(package: str, pattern: str) -> dict[str, bytes]:
    """Names and contents of the photos that a pattern finds in a package."""
    spec = find_spec(package)
    if spec is None:
        return {}
    files: dict[str, bytes] = {}
    for root in spec.submodule_search_locations or ():
        for path in sorted(Path(root).glob(pattern)):
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as packed:
                    files |= {_name(info): packed.read(info) for info in packed.infolist() if _is_photo(info.filename)}
            elif _is_photo(path.name):
                files[path.name] = path.read_bytes()
    return {name: content for name, content in files.items() if min(_size(content)) >= _LEAST_SIDE}


def _name(info: zipfile.ZipInfo) -> str:
    """The name of a packed file; some programs write UTF-8 without saying so."""
    name = Path(info.filename).name
    return name if info.flag_bits & 0x800 else name.encode("cp437").decode()


def _is_photo(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not Path(name).name.startswith(".")


def _size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as photo:
        return photo.size


@main.command()
@click.argument("index", type=click.Path(exists=True, path_type=Path))
@click.option("--sheet", type=click.Path(path_type=Path), help="Also draw the best photos of each query here.")
def show(index: Path, sheet: Path | None) -> None:
    """Print what the page shows for each query on INDEX."""
    service = SearchService(index)
    service.warm_up()
    rows: list[tuple[str, list[tuple[Path, str]]]] = []
    tiles: list[tuple[Path, str]]
    for number, query in enumerate(QUERIES, start=1):
        try:
            found = service.search(query, PageRequest(0, len(service.catalogue), None))
        except HANError as error:
            lines, tiles = [f"refused: {error}"], []
        else:
            lines = _lines(found)
            tiles = [(_file(service, hit.id), hit.match or "") for hit in found.hits[:SHOWN]]
        click.echo("\n  ".join([f"{number}. {query}", *lines]))
        rows.append((f"{number}. {query}   [{lines[0]}]", tiles))
    if sheet:
        _draw(rows).save(sheet)


def _lines(found: SearchResponse) -> list[str]:
    count = {match: sum(hit.match == match for hit in found.hits) for match in ("strong", "likely", "weak")}
    counted = ", ".join(f"{n} {match}" for match, n in count.items())
    lines = [f"no photo is likely to match; {counted}" if found.nothing else counted]
    for hit in found.hits[:SHOWN]:
        chance = "" if hit.probability is None else f" {hit.probability:.0%}"
        lines.append(f"{hit.match or '':<6}{chance:>5} {hit.score:6.3f} {hit.name}")
    if found.unknown:
        lines.append(f"unknown: {', '.join(found.unknown)}")
    if found.alike:
        lines.append(f"did you mean: {', '.join(f'{word} -> {other}' for word, other in found.alike.items())}")
    return lines


def _file(service: SearchService, photo_id: str) -> Path:
    row = service.catalogue.row(photo_id)
    assert row is not None
    file = service.catalogue.files(row)[0]
    return Path(file.root, file.path)


def _draw(rows: list[tuple[str, list[tuple[Path, str]]]]) -> Image.Image:
    """The queries in two columns, each with its best photos."""
    half, step = (len(rows) + 1) // 2, _TILE + 30
    sheet = Image.new("RGB", (2 * (SHOWN * _TILE + 20), half * step), "white")
    pen = ImageDraw.Draw(sheet)
    for place, (title, tiles) in enumerate(rows):
        left, top = place // half * (SHOWN * _TILE + 20), place % half * step
        pen.text((left + 4, top + 4), title, fill="black", font_size=14)
        for i, (path, match) in enumerate(tiles):
            with Image.open(path) as opened:
                photo = opened.convert("RGB")
            photo.thumbnail((_TILE - 6, _TILE - 6))
            corner = left + i * _TILE, top + 24
            sheet.paste(photo, corner)
            pen.text((corner[0] + 4, corner[1] + 4), match, fill="white", stroke_width=2, stroke_fill="black")
    return sheet


if __name__ == "__main__":
    run(main)
