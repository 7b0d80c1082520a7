"""What data sets are told apart by: the digest of the file that C-STORE makes of each (decision 29).

That file's digest is taken while it arrives, so that most objects are hashed once. A data set that came behind another
file meta is hashed a second time, behind this one.
"""

from pacs.ingest.incoming import encode_file_meta
from pacs.model import Header
from pacs.tags import text_of
from storage.spool import Spool


def digest_data_set(spool: Spool, header: Header) -> str:
    """Return the SHA-256, in hex, of the spooled data set behind the file meta that this archive writes.

    Equal for the same bytes in the same transfer syntax, by whatever door and behind whatever file meta they came.
    """
    meta = encode_file_meta(
        text_of(header.attributes, "SOPClassUID"),
        text_of(header.attributes, "SOPInstanceUID"),
        header.transfer_syntax_uid,
    )
    if header.dataset_offset == len(meta) and spool.read_range(0, len(meta)) == meta:
        return spool.digest()
    return spool.digest(header.dataset_offset, prefix=meta)


def digest_as_before(spool: Spool, header: Header) -> str:
    """Return the SHA-256, in hex, of the data set alone: what was kept of instances stored before decision 29."""
    return spool.digest(header.dataset_offset)
