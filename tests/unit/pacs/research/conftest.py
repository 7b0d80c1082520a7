"""An archive that stands for a release: what an export reads of one, it reads of any."""

import pytest

from pacs.ingest.incoming import Incoming
from pacs.model import Door, Origin
from tests.builders import as_part10


@pytest.fixture
def store(archive):
    """Store data sets, in a transfer syntax."""

    def store(*datasets, syntax="1.2.840.10008.1.2.1"):
        for dataset in datasets:
            with archive.ingest.open_spool() as spool:
                spool.write(as_part10(dataset, syntax))
                archive.ingest.store(Incoming(spool, Origin(Door.IMPORT)))

    return store
