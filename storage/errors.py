"""The only exceptions that leave this package."""


class StorageError(Exception):
    """The object store did not do what was asked."""


class BlobNotFound(StorageError):
    """There is no blob under this key."""


class BlobConflict(StorageError):
    """Another blob of a different size is already stored under this key."""


class StorageUnavailable(StorageError):
    """The object store did not answer; try again later."""


class StorageFull(StorageUnavailable):
    """The object store has no room left; make room and try again."""
