"""How the study describes a training: one base, and settings that each are a few changes of it.

Two settings that come to the same are one run, whatever they are called in their groups.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from han_retrieval.config import explain_errors
from han_retrieval.errors import ConfigError
from han_retrieval.training import TrainingConfig

HELD_OUT = "held_out"

# What every setting is a change of, as fields of TrainingConfig. Only what all matchers have stands in its "model".
BASE: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 100,
    "learning_rate": 1e-3,
    "word_vectors": "glove-6b-50d",
    "power": 4.0,
    "dev_split": HELD_OUT,
    "dev_photos": 0,
    "model.joint_size": 256,
}


@dataclass(frozen=True)
class Setting:
    """One way to train.

    Attributes:
        label: What it is called in its group.
        changes: Fields of TrainingConfig that differ from the base, those of its tables as "model.NAME".
        store: The name of the region store; the study's first where there is none.
        regions: Take only so many of a photo's regions, the best.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    store: str | None = None
    regions: int | None = None

    @property
    def name(self) -> str:
        """What differs from the base, "han" where nothing does; the same for settings that come to the same."""
        changes = {key: value for key, value in self.changes.items() if _base_value(key) != value}
        if self.regions is not None:
            changes["regions"] = self.regions
        parts = (f"{key.split('.')[-1]}={shown(changes[key])}" for key in sorted(changes))
        return re.sub(r"[/\\:]", "-", ",".join(parts)) or "han"  # it is a folder's name

    def config(self, *, seed: int) -> TrainingConfig:
        """The training's configuration.

        Raises:
            ConfigError: There is no such matcher, text encoder or option.
        """
        fields = _nested({**BASE, **self.changes, "seed": seed})
        try:
            return TrainingConfig.model_validate(fields)
        except ValidationError as error:
            raise ConfigError(explain_errors(TrainingConfig, error, fields)) from None


@dataclass(frozen=True)
class Group:
    """Settings that answer one question; the first is the reference that the others are held against."""

    name: str
    question: str
    settings: tuple[Setting, ...]
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Run:
    """A setting with a seed on a store."""

    setting: Setting
    store: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """Store, setting and seed: what makes it the same run as another."""
        return self.store, self.setting.name, self.seed

    def folder(self, out: Path) -> Path:
        """Where its model goes; its results lie beside, with .json at the end."""
        return out / self.store / self.setting.name / f"seed-{self.seed}"


def runs_of(group: Group, *, first_store: str) -> list[Run]:
    """The group's runs, seed by seed, so that all of it is known once before any of it is known better."""
    return [Run(setting, setting.store or first_store, seed) for seed in group.seeds for setting in group.settings]


def _nested(fields: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, value in fields.items():
        table, _, name = key.rpartition(".")
        (nested.setdefault(table, {}) if table else nested)[name] = value
    return nested


def _base_value(key: str) -> Any:
    fields = _base_fields()
    for part in key.split("."):
        fields = fields.get(part)
    return fields


@functools.cache
def _base_fields() -> Any:
    return HAN.config(seed=0).model_dump()


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


HAN = Setting("HAN")
