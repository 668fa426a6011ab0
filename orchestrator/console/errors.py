"""What ends a command in one line: the user's mistakes (exit code 2), actors and stores that keep failing (1)."""


class UserError(ValueError):
    """Bad input or configuration. Nothing has been written when it is raised."""


class FleetError(RuntimeError):
    """An actor could not be kept alive. What was committed stays committed."""


class StorageError(RuntimeError):
    """An object store refuses or does not answer. What was committed stays committed."""


class Superseded(StorageError):
    """Another process writes the same results; this one must not write any more."""
