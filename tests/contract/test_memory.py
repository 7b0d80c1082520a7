"""The contract suite on MemoryStore."""

import pytest

from storage.memory import MemoryStore
from tests.contract.blob_store import BlobStoreContract


class TestMemoryStore(BlobStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryStore()
