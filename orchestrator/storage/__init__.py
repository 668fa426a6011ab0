"""Where a run's folder may lie: on a disk, or in an object store.

`protocol` says what such a folder must be able to do; `local` does it on a disk, `objects` under a URI, where `lease`
keeps a second run away.
"""

from orchestrator.storage.local import LocalFolder
from orchestrator.storage.location import Location
from orchestrator.storage.objects import ObjectStore
from orchestrator.storage.protocol import Storage

__all__ = ["Storage", "open_storage"]


def open_storage(location: Location) -> Storage:
    """The folder at a location; nothing is made there.

    Raises:
        UserError: a URI of a store that cannot hold a run, or whose package is not installed.
    """
    return ObjectStore(location) if isinstance(location, str) else LocalFolder(location)
