"""What a person chooses, dates and a folder, as an SQL condition on the index's columns."""

from __future__ import annotations

from datetime import date


def condition(
    *, where: str | None = None, root: str | None = None, folder: str | None = None,
    since: date | None = None, until: date | None = None,
) -> str | None:  # fmt: skip
    """All that is asked for, in one condition; None where nothing is.

    Args:
        where: A condition of one's own.
        root: Only photos of this indexed folder.
        folder: Only photos in or below this folder of a root, "trips/2024/".
        since, until: Only photos taken on these days or between them.
    """
    parts = [f"({where})"] if where else []
    if root:
        parts.append(f"root = {_literal(root)}")
    if folder:
        parts.append(f"starts_with(folder, {_literal(folder)})")
    if since:
        parts.append(f"date >= '{since.isoformat()}'")
    if until:
        parts.append(f"date <= '{until.isoformat()} 23:59:59'")
    return " and ".join(parts) or None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
