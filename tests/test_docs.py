"""The documentation holds: its commands and options exist, its Python imports resolve, its links lead somewhere."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from han_retrieval.cli.main import cli
from han_retrieval.cli.query_command import QueryCommand
from han_retrieval.config import load_config
from han_retrieval.training import TrainingConfig
from han_retrieval.training.detector import DetectorTrainingConfig

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
# Their commands are of research/ and benchmarks/ as well.
OF_EXPERIMENTS = [*(DOCS / "results").glob("*.md"), DOCS / "study.md"]
# Options of other programs that pages speak of.
OTHERS = {"--extra-index-url"}
CONFIGS = {"train": TrainingConfig, "train-text": TrainingConfig, "train-detector": DetectorTrainingConfig}


class Block(NamedTuple):
    """A fenced block of a page: where it begins, its language ("" for none), its lines without indentation."""

    where: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    found = re.finditer(r"^( *)```([^\n]*)\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for block in found:
        line = page.read_text(encoding="utf-8").count("\n", 0, block.start()) + 1
        text = re.sub(f"^{block[1]}", "", block[3], flags=re.MULTILINE)
        yield Block(f"{page.relative_to(ROOT)}:{line}", block[2].strip(), text)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[tuple[str, list[str], bool]]:
    """Each ``han ...`` of a page: where it is, its words, and whether it stands in a block and so is meant to run."""
    for block in blocks(page):
        if block.language in ("", "bash", "sh", "console"):
            for line in block.text.replace("\\\n", " ").splitlines():
                for part in re.split(r"\s(?:[|;]|&&)\s", line):
                    if not re.search(r"\bhan ", part):  # formulas too stand in blocks
                        continue
                    words = shlex.split(part, comments=True)
                    while words and re.fullmatch(r"\w+=.*", words[0]):
                        del words[0]
                    if words[:1] == ["han"]:
                        yield block.where, words[1:], True
    for code in re.findall(r"`han ([^`]+)`", prose(page)):
        yield str(page.relative_to(ROOT)), code.split(), False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page):
    group = click.Context(cli, info_name="han")
    for where, words, whole in commands(page):
        verb, *args = words
        if verb.isupper() or verb.startswith("-"):  # "han VERB --help"
            continue
        command = cli.get_command(group, verb)
        assert command is not None, f"{where}: no verb {verb}"
        context = click.Context(command, info_name=verb, parent=group)
        if not whole:
            known = {name for param in command.get_params(context) for name in param.opts}
            for word in args:
                assert not word.startswith("-") or word in known, f"{where}: han {verb} has no {word}"
            continue
        args = [word for word in args if word != "..."]
        if isinstance(command, QueryCommand):
            args = command.query_last(context, args)
        try:
            given, left, _ = command.make_parser(context).parse_args(list(args))
        except click.UsageError as error:
            pytest.fail(f"{where}: han {shlex.join(words)}: {error.format_message()}")
        assert not left, f"{where}: han {shlex.join(words)}: {left} is too much"
        _check_values(where, command, context, given)


def _check_values(where: str, command: click.Command, context: click.Context, given: dict[str, Any]) -> None:
    """Numbers and choices are such, what is needed is there, and the fields of --set and --config exist."""
    for param in command.get_params(context):
        value = given.get(param.name or "")
        present = isinstance(value, str | tuple | list | bool) and value not in ((), [])
        if param.required and "--preview" not in given:
            assert present, f"{where}: han {command.name} needs {param.name}"
        if isinstance(value, str) and isinstance(param.type, click.Choice | click.types.IntParamType):
            param.type.convert(value, param, context)
    overrides = given.get("overrides")
    # What plugins.md trains is a part of examples/plugins, which a test of its own installs.
    if command.name in CONFIGS and isinstance(overrides, list) and "plugins.md" not in where:
        file = given.get("config")
        assert file is None or not isinstance(file, str) or (ROOT / file).exists() or file == "FILE.toml", where
        sets = [each for each in overrides if "=" in each and each != "KEY=VALUE"]
        there = isinstance(file, str) and (ROOT / file).exists()
        along = ["backbone.trained=true"] if given.get("train_backbone") else []
        load_config(
            CONFIGS[command.name],
            ROOT / file if there else None,
            overrides=[*_matcher(given), *along, *sets, *_vectors(sets)],
        )


def _matcher(given: dict[str, Any]) -> list[str]:
    name = given.get("matcher")
    return [f"model.matcher={name}"] if isinstance(name, str) else []


def _vectors(sets: list[str]) -> list[str]:
    """What a field of a command needs beside it from the configuration file that the command names."""
    return ["word_vectors=glove-6b-50d"] if any(each.startswith("vocabulary_expansion") for each in sets) else []


@pytest.mark.parametrize("page", [p for p in PAGES if p not in OF_EXPERIMENTS], ids=lambda p: str(p.relative_to(ROOT)))
def test_options_in_prose_exist(page):
    group = click.Context(cli, info_name="han")
    known = {"--help", "--strict", "--version", "--", *OTHERS}
    for name in cli.list_commands(group):
        command = cli.get_command(group, name)
        assert command is not None
        known |= {opt for param in command.params for opt in param.opts}
    text = prose(page)
    for code in re.findall(r"`([^`\n]+)`", text):
        if code.startswith("--"):
            assert code.split()[0].rstrip(",") in known, f"{page.relative_to(ROOT)}: {code}"
    # Fields that a sentence sets: `ema_decay = 0`, `--set model.blocks=0`.
    for override in re.findall(r"`--set (\w[\w.]*=[^`\s]+)`", text):
        if not override.startswith("KEY"):
            load_config(TrainingConfig, overrides=[*_for(override), override])


def _for(override: str) -> list[str]:
    """The matcher that has the option."""
    if "shared_space" in override:
        return ["model.matcher=maxsim"]
    if override.startswith("backbone."):
        return ["backbone.trained=true"]
    return ["model.matcher=vse-infinity"] if "pooling_temp" in override or "position" in override else []


def test_configurations_hold():
    for page in PAGES:
        for block in blocks(page):
            if block.language == "toml" and "[project" not in block.text:
                kind = DetectorTrainingConfig if page.name == "detector.md" else TrainingConfig
                kind.model_validate(tomllib.loads(block.text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_resolves(page):
    for block in blocks(page):
        if block.language != "python" or "--8<--" in block.text:
            continue
        tree = ast.parse(block.text, filename=block.where)
        names: dict[str, Any] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "han_retrieval":
                module = importlib.import_module(str(node.module))
                for alias in node.names:
                    assert hasattr(module, alias.name), f"{block.where}: {node.module} has no {alias.name}"
                    names[alias.asname or alias.name] = getattr(module, alias.name)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.split(".")[0] == "han_retrieval":
                        module = importlib.import_module(alias.name)
                        names[alias.asname or alias.name.split(".")[0]] = module
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"[\w.]+", ast.unparse(node)):
                first, *rest = ast.unparse(node).split(".")
                value = names.get(first)
                for attribute in rest if first in names else []:
                    assert hasattr(value, attribute), f"{block.where}: no {ast.unparse(node)}"
                    value = getattr(value, attribute)


def test_programs_and_targets_exist():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for module in re.findall(r"python -m (research[\w.]*)", text):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), f"{page.name}: {module}"
        for file in re.findall(r"python ((?:benchmarks|examples)/[a-z_]+\.py)", text):
            assert (ROOT / file).is_file(), f"{page.name}: {file}"
        if "result" not in page.name and "plugins" not in page.name:
            for file in re.findall(r"`((?:\w+/)+\w+\.(?:py|toml))`", prose(page)):
                places = (ROOT / file, ROOT / "src/han_retrieval" / file, ROOT / "src/han_retrieval/scoring" / file)
                assert any(place.is_file() for place in places), f"{page.name}: {file}"
        for code in (*re.findall(r"`make ([\w-]+)`", text), *re.findall(r"^make ([\w-]+)", text, re.MULTILINE)):
            assert code in targets, f"{page.name}: make {code}"


def test_every_extra_is_listed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (DOCS / "index.md").read_text(encoding="utf-8")
    for extra in set(project["optional-dependencies"]) - {"dev"}:
        assert f"| `{extra}` |" in page, extra


def test_own_training_loop_runs():
    code = [block for block in blocks(DOCS / "train/own-loop.md") if block.language == "python"]
    exec(compile(code[0].text, code[0].where, "exec"), {})


def anchors(page: Path) -> set[str]:
    """The ids of a page's headings, as Python-Markdown makes them, and of its anchors in HTML."""
    text = prose(page)
    found = set(re.findall(r'<a id="([^"]+)"', text))
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower()))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.relative_to(ROOT)}: {target}"
        if DOCS in page.parents:
            assert DOCS in file.parents, f"{page.relative_to(ROOT)}: {target} is no page of the site"
        if anchor and file.suffix == ".md" and "<!-- verbs -->" not in file.read_text(encoding="utf-8"):
            generated = "::: " in file.read_text(encoding="utf-8") and "." in anchor
            assert generated or anchor in anchors(file), f"{page.relative_to(ROOT)}: {target}"


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS).as_posix()) for page in DOCS.rglob("*.md"))


def test_included_files_exist():
    for page in DOCS.rglob("*.md"):
        for file in re.findall(r'--8<-- "([^":]+)', page.read_text(encoding="utf-8")):
            assert (ROOT / file).is_file(), f"{page.relative_to(ROOT)}: {file}"


def test_generated_parts():
    sys.path.insert(0, str(DOCS))
    try:
        hooks = importlib.import_module("hooks")
    finally:
        sys.path.remove(str(DOCS))
    commands_page = hooks.on_page_markdown((DOCS / "reference/command-line.md").read_text(encoding="utf-8"))
    for verb in cli.list_commands(click.Context(cli)):
        assert f"\n## han {verb}\n" in commands_page
    assert "Sentinel" not in commands_page
    # Raises where a docstring leaves a field out.
    fields = hooks.on_page_markdown((DOCS / "reference/configuration.md").read_text(encoding="utf-8"))
    for kind in (TrainingConfig, DetectorTrainingConfig):
        for field in set(kind.model_fields) - {"model"}:
            assert f"| `{field}` |" in fields


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_path_of_ours(page):
    if page.name != "CONTRIBUTING.md":
        assert "../shared" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["benchmarks", "examples", "research", "src"])
def test_no_program_names_a_path_of_ours(folder):
    for file in (ROOT / folder).rglob("*.py"):
        assert "../shared" not in file.read_text(encoding="utf-8"), file
