"""The one exception that a person is meant to read."""

from __future__ import annotations


class HANError(Exception):
    """Something that the user can mend: one line that says what is wrong, where, and how to mend it.

    The command line prints the message without a traceback and exits with code 2. Everything else that is
    raised is a defect of the program and keeps its traceback.
    """
