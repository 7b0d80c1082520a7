"""Who runs a command: an administrator of this machine, by the name that it knows him by."""

import getpass

from pacs.access import LOCAL, Principal


def whoever_runs_this() -> Principal:
    """Return who runs the command; of a project he is a member if it has one of his name."""
    try:
        return Principal(getpass.getuser(), LOCAL.permissions, LOCAL.roles)
    except (KeyError, OSError):  # a container's user without a name
        return LOCAL
