"""What ends a command in one line: the user's mistakes (exit code 2) and actors that keep dying (1)."""


class UserError(ValueError):
    """Bad input or configuration. Nothing has been written when it is raised."""


class FleetError(RuntimeError):
    """An actor could not be kept alive. What was committed stays committed."""
