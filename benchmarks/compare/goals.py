"""What is measured, and what must be reached: one line a row, in the order of the results."""

from dataclasses import dataclass

from benchmarks.compare.servers import ARCHIVE, MINIO, ORTHANC

STORE, SERVE, S3, FOOTPRINT = "store", "serve", "s3", "footprint"
GROUPS = (STORE, SERVE, S3, FOOTPRINT)


@dataclass(frozen=True)
class Work:
    """One kind of work, and how many times as fast as the ``baseline`` the ``subject`` must be, and shall be.

    Without a baseline the figure itself is compared, which is a cost then: it may be ``at_least`` and shall be ``goal``
    at most.
    """

    name: str
    group: str
    at_least: float | None = None
    goal: float | None = None
    unit: str = "a second"
    subject: str = ARCHIVE
    baseline: str = ORTHANC

    @property
    def is_cost(self) -> bool:
        """Whether less is better."""
        return not self.baseline

    def is_reached(self, value: float, bound: float) -> bool:
        """Return whether a ratio, or a cost, keeps a bound."""
        return value <= bound if self.is_cost else value >= bound


C_STORE_1 = Work("C-STORE, one association", STORE, 1.2, 2)
C_STORE_4 = Work("C-STORE, four associations", STORE, 1.5, 2.5)
STOW = Work("STOW-RS, 10 instances a request", STORE, 2, 3)

QIDO_1 = Work("QIDO /studies, 1 connection", SERVE, 4, 8)
QIDO_8 = Work("QIDO /studies, 8 connections", SERVE, 4, 8)
QIDO_PATIENT = Work("QIDO /studies of one patient, in turn", SERVE)
METADATA_100 = Work("series metadata, 100 instances, warm", SERVE, 50, 80)
METADATA_1000 = Work("series metadata, 1,000 instances, cold", SERVE, 5, 10)
METADATA_FRESH = Work("series metadata, 1,000 instances, just stored", SERVE)
FRAME_1 = Work("one frame, 1 connection", SERVE, 1.3, 2)
FRAME_8 = Work("one frame, 8 connections", SERVE, 1.3, 2)
FRAME_OF_500 = Work("one frame of a multi-frame of 500", SERVE)
RENDERED_FIRST = Work("rendered JPEG, asked the first time", SERVE, 1.5, 3)
RENDERED_WARM = Work("rendered JPEG, asked again", SERVE, 1.5, 3)
SERIES = Work("a series of 100 as multipart", SERVE, 1, 2)

S3_EMPTY = Work("MinIO: 1,000 instances, local cache empty", S3, 0.3, 0.6, "MB/s", MINIO, ARCHIVE)
S3_WARM = Work("MinIO: 1,000 instances, local cache warm", S3, 0.9, 1, "MB/s", MINIO, ARCHIVE)
S3_STORE = Work("MinIO: C-STORE, PUT acknowledged first", S3, 0.2, 0.5, "a second", MINIO, ARCHIVE)
S3_BEHIND = Work("MinIO: C-STORE, write-behind", S3, 0.8, 1, "a second", MINIO, ARCHIVE)

MEMORY_C_STORE = Work("peak of a process: 2 GB by C-STORE", FOOTPRINT, 300, 150, "MB", baseline="")
MEMORY_STOW = Work("peak of a process: 2 GB by STOW-RS", FOOTPRINT, 300, 150, "MB", baseline="")
MEMORY_WADO = Work("peak of a process: 2 GB by WADO-RS", FOOTPRINT, 300, 150, "MB", baseline="")
IDLE_MEMORY = Work("idle: all processes together, PSS", FOOTPRINT, 300, 200, "MB", baseline="")
IDLE_CPU = Work("idle: processor over 60 s", FOOTPRINT, 1, 0.2, "% of a core", baseline="")

ALL = tuple(value for value in dict(globals()).values() if isinstance(value, Work))
