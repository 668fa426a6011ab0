"""The user's mistakes, told in one line that names the value and the remedy; the command line ends 2 on them."""


class UserError(ValueError):
    """Bad input or configuration. Nothing has been written when it is raised."""
