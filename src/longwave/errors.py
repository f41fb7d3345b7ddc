"""The errors that longwave raises for its users' mistakes: one line each, with the cause and the remedy."""


class LongwaveError(Exception):
    """Base of every error that longwave raises on purpose."""


class ShapeError(LongwaveError, ValueError):
    """A tensor has the wrong shape, dtype or device for the place it was given to."""


class UnsupportedError(LongwaveError, ValueError):
    """The mathematics, or this machine, does not have what was asked for."""


class ConfigError(LongwaveError, ValueError):
    """An option is unknown, out of its range, or contradicts another one."""


class DataError(LongwaveError, ValueError):
    """A data set is missing, damaged, or not in the format that was expected."""


class CheckpointError(LongwaveError, ValueError):
    """A model folder is incomplete, damaged, or does not fit the model."""


class RunError(LongwaveError, ValueError):
    """A run folder cannot be used as asked."""


class MissingExtraError(LongwaveError, ImportError, ValueError):
    """An optional dependency is not installed; the message names the extra that brings it."""
