"""The version, apart from everything that would have to be imported with it."""

__version__ = "0.1.0"
