"""One exception tree. A docstring is the sentence the caller reads; no message ever carries a patient's value."""


class PacsError(Exception):
    """The archive could not do this."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip()


class NotFound(PacsError):
    """There is nothing here."""


class StudyNotFound(NotFound):
    """There is no such study."""


class SeriesNotFound(NotFound):
    """There is no such series in this study."""


class InstanceNotFound(NotFound):
    """There is no such instance in this series."""


class FrameNotFound(NotFound):
    """The instance has no frame of this number."""


class BulkDataNotFound(NotFound):
    """The instance has no bulk data at this path."""


class PatientNotFound(NotFound):
    """There is no such patient."""


class CorrectionNotFound(NotFound):
    """There is no such correction."""


class ConflictNotFound(NotFound):
    """There is no such conflict."""


class WorkitemNotFound(NotFound):
    """There is no such work item."""


class ProjectNotFound(NotFound):
    """There is no such project."""


class MemberNotFound(NotFound):
    """The project has no such member."""


class CohortNotFound(NotFound):
    """The project has no such cohort."""


class ReleaseNotFound(NotFound):
    """The project has no such release."""


class QuarantinedNotFound(NotFound):
    """Nothing of this number waits for a decision."""


class PseudonymNotFound(NotFound):
    """The project has no such pseudonym."""


class ReidentificationNotFound(NotFound):
    """The project has no such request to tell who somebody is."""


class ExclusionNotFound(NotFound):
    """The project has no such exclusion."""


class ProjectExists(PacsError):
    """There is a project of this name already."""


class InvalidProject(PacsError):
    """The project is not described as it has to be."""


class NotNow(PacsError):
    """As things are with this project, that cannot be done."""


class KeyDestroyed(NotNow):
    """The key of this project was destroyed; nothing can be pseudonymised for it any more."""


class NotPermitted(PacsError):
    """You are not permitted to do this here; ask the administrator of the archive."""


class InvalidValue(PacsError):
    """A value is none of its attribute."""


class CannotCorrect(PacsError):
    """The correction cannot be made as things are."""


class ScheduledStepNotFound(NotFound):
    """There is no such scheduled step."""


class ScheduledStepExists(PacsError):
    """There is a scheduled step with these identifiers already."""


class InvalidEntry(PacsError):
    """The worklist entry is not complete."""


class InvalidQuery(PacsError):
    """The query cannot be understood."""


class NotAcceptable(PacsError):
    """The archive can give this, but in none of the forms asked for."""


class UnsupportedTransferSyntax(NotAcceptable):
    """The pixel data cannot be decoded by this archive."""


class CorruptPixelData(PacsError):
    """The pixel data do not decode; the stored object can still be fetched as it was received."""


class InvalidHeader(PacsError):
    """The bytes cannot be understood as a DICOM data set."""


class TruncatedDataSet(InvalidHeader):
    """The data set is truncated: it ends before it is complete."""


class HeaderTooLarge(InvalidHeader):
    """The data set nests too deep or holds more elements than this archive parses."""


class Unavailable(PacsError):
    """The archive cannot answer now; try again later."""


class KeyUnavailable(Unavailable):
    """The master key that opens the keys of projects is missing or is another one; ask the administrator."""


class OutOfResources(Unavailable):
    """The archive has no room left; make room and try again."""


class NotInstalled(Unavailable):
    """Packages that are needed here are not installed; the administrator adds them: pip install 'pacs[research]'."""


class InvalidSetting(PacsError):
    """A setting is wrong."""


class SchemaMismatch(PacsError):
    """The database was written by another version of the archive."""
