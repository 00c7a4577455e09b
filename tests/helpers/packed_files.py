"""Small datasets whose photos lie inside larger files: Parquet, WebDataset shards, Lance tables, benchmark tables."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How the library ``datasets`` stores an image."""


def jpeg(number: int = 0, *, size: tuple[int, int] = (24, 16), kind: str = "JPEG") -> bytes:
    """The content of a small photo; each number gives another."""
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def image(number: int, path: str | None = None) -> dict[str, Any]:
    return {"bytes": jpeg(number), "path": path}


def write_parquet(path: Path, columns: Mapping[str, Sequence[Any] | pa.Array], *, rows_a_group: int = 100) -> Path:
    """A Parquet file; columns of objects with ``bytes`` are stored as the library ``datasets`` does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(
        {name: pa.array(values, IMAGE) if _is_image(values) else pa.array(values) for name, values in columns.items()}
    )
    pq.write_table(table, path, row_group_size=rows_a_group)
    return path


def write_shard(path: Path, members: Mapping[str, bytes | object] | Sequence[tuple[str, bytes | object]]) -> Path:
    """A tar file; what is not bytes becomes JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write_lance(path: Path, columns: Mapping[str, Any]) -> Path:
    import lance

    path.parent.mkdir(parents=True, exist_ok=True)
    lance.write_dataset(pa.table(dict(columns)), str(path))
    return path


def write_benchmark(folder: Path, *, photos: int = 3) -> Path:
    """As ``mteb/flickr30ki2t``: queries are photos, the corpus has texts, two for each photo."""
    ids = [f"q{i}" for i in range(photos)]
    texts = [f"t{i}" for i in range(2 * photos)]
    write_parquet(
        folder / "query/test-00000-of-00001.parquet",
        {
            "id": ids,
            "modality": ["image"] * photos,
            "text": pa.nulls(photos),
            "image": [image(i) for i in range(photos)],
        },
    )
    write_parquet(
        folder / "corpus/corpus-00000-of-00001.parquet",
        {"id": texts, "modality": ["text"] * 2 * photos, "text": [f"caption {i}" for i in range(2 * photos)]},
    )
    write_parquet(
        folder / "qrels/test-00000-of-00001.parquet",
        {"query-id": [ids[i // 2] for i in range(2 * photos)], "corpus-id": texts, "score": [1] * 2 * photos},
    )
    return folder


def _is_image(values: Any) -> bool:
    return not isinstance(values, pa.Array) and len(values) > 0 and isinstance(values[0], dict) and "bytes" in values[0]
