"""han-retrieval: match photos and sentences by their parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from han_retrieval.version import __version__

if TYPE_CHECKING:
    from han_retrieval.matchers import HAN, Evidence, HANConfig

__all__ = ["HAN", "Evidence", "HANConfig", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported when first used: the command's help and its errors should not wait for torch.
    if name in ("HAN", "Evidence", "HANConfig"):
        import han_retrieval.matchers

        return getattr(han_retrieval.matchers, name)
    raise AttributeError(f"module 'han_retrieval' has no attribute {name!r}")
