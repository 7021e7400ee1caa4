"""The errors of run directories, in one place."""


class RunDirError(Exception):
    """A run directory, or what was given to be stored in one, is not as it must be.

    The message says which file or field, what is allowed, and what to do.
    """


class RunExistsError(RunDirError, FileExistsError):
    """The directory for a new run exists already. Nothing is ever overwritten."""


class DamagedFileError(RunDirError):
    """A file of a run directory is missing, truncated, or not what was written."""
