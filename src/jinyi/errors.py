"""Errors that say what was found, what was expected and what to do.

Every error a user can cause is a `JinyiError`; the command line prints it without a traceback and ends with
exit code 2. Anything else that escapes is a defect of jinyi (exit code 1).
"""

from __future__ import annotations


class JinyiError(Exception):
    """Base of all errors caused by input, files or set-up.

    Args:
        found: what was met, with the offending value (shortened) and its type.
        expected: what would have been accepted.
        fix: what the user can do about it.
        where: place of the fault: a row, a file and line, an option.
    """

    def __init__(self, *, found: str, expected: str, fix: str, where: str = "") -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        self.where = where
        super().__init__(found, expected, fix, where)

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return f"{place}found {self.found}; expected {self.expected}. {self.fix}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, and errors cross process borders.
        return (_rebuild, (type(self), self.found, self.expected, self.fix, self.where))


def _rebuild(kind: type[JinyiError], found: str, expected: str, fix: str, where: str) -> JinyiError:
    return kind(found=found, expected=expected, fix=fix, where=where)


class InputError(JinyiError, ValueError):
    """A text, pair, argument or input file cannot be used.

    Attributes:
        rows: the rows at fault among those given, where `where` names them as rows.
    """

    rows: tuple[int, ...] = ()


class FolderError(JinyiError, ValueError):
    """A model folder is incomplete, damaged or contradicts itself."""

    def moved(self, old: object, new: object) -> FolderError:
        """Return the same error at another place, for files that lay elsewhere for a while.

        Args:
            old: the path that `where` may hold.
            new: the path that the user knows.
        """
        place = self.where.replace(str(old), str(new))
        return FolderError(found=self.found, expected=self.expected, fix=self.fix, where=place)


class ModelNotFoundError(JinyiError, LookupError):
    """No model of that name is on this disk."""


class MissingExtraError(JinyiError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


class NotFittedError(JinyiError, ValueError, AttributeError):
    """`fit` has to run first (bases as in scikit-learn's error of the same name)."""


class TruncationWarning(UserWarning):
    """Texts were longer than the model reads; the message counts what was cut."""


def shorten(value: object, limit: int = 40) -> str:
    """Return `repr(value)` cut to `limit` characters, for use inside messages."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
