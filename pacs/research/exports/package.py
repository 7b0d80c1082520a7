"""A release, or a part of it, as the files of a ZIP: one instance or one volume at a time, then what says what is what.

Instances have numbers for names, as a medium wants it (PS3.10 8.2), so that a DICOMDIR can list them; ``files.csv``
says whose they are for whoever has no DICOM browser. Volumes lie in folders by pseudonym, study and series. All of it
is what the release says: pseudonyms and UIDs of the project.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pacs.access import Principal
from pacs.errors import NotAcceptable, NotFound
from pacs.imaging.archive_zip import File, name_of
from pacs.imaging.dicomdir import Directory
from pacs.model import Attributes, InstanceRecord
from pacs.reading import Reading
from pacs.research.exports.download import Download, of_bytes, of_file
from pacs.research.exports.nifti import Converter
from pacs.research.exports.reading import iter_headers
from pacs.retrieve import ANY, DICOM, Representation
from pacs.tags import tag_of, text_of
from storage.spool import Spool

MAX_IN_DIRECTORY = 20_000
"""Instances that a DICOMDIR lists: its records are kept in memory until it is written, a kilobyte each."""

FILE_LIST, SERIES_LIST = "files.csv", "series.csv"

CSV = "text/csv"
GZIP = "application/gzip"

Place = tuple[str, str]
"""A study and one of its series, by their UIDs."""

_FILE_COLUMNS = ("file", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality", "bytes")
_SERIES_COLUMNS = ("folder", "PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "volumes", "problem")


def iter_instances(reading: Reading, principal: Principal, places: Iterable[Place], spool: Spool) -> Iterator[File]:
    """Yield the instances of these series as they are stored, all of a study one after the other, and their lists.

    What ``files.csv`` will say is collected in ``spool``.
    """
    _write_line(spool, _FILE_COLUMNS)
    directory: Directory | None = Directory()
    index = 0
    for study, series in places:
        records = reading.retrieve.find_instances(principal, study, series)
        ahead = reading.retrieve.ahead_of(records)
        for record, header in iter_headers(reading, principal, records):
            name = name_of(index)
            patient, modality = text_of(header, "PatientID"), text_of(header, "Modality")
            with ahead.open_instance(principal, record, ANY) as content:
                if directory is not None:
                    directory.add(name, header, content.transfer_syntax_uid)
                uids = (study, series, record.sop_instance_uid)
                _write_line(spool, (name, patient, *uids, modality, content.length_bytes))
                yield File(name, content, content.transfer_syntax_uid)
            index += 1
            if index > MAX_IN_DIRECTORY:
                directory = None
    yield _list_of(FILE_LIST, spool)
    if directory is not None:
        yield File("DICOMDIR", of_bytes("DICOMDIR", DICOM, directory.encode()))


def iter_volumes(
    reading: Reading, principal: Principal, places: Iterable[Place], spool: Spool, converter: Converter
) -> Iterator[File]:
    """Yield the NIfTI files of each of these series that is a volume, made when its turn comes, and their list.

    What ``series.csv`` will say is collected in ``spool``, of series that are no volume why.
    """
    _write_line(spool, _SERIES_COLUMNS)
    for study, series in places:
        records = reading.retrieve.find_instances(principal, study, series)
        _, first = next(iter_headers(reading, principal, records[:1]))
        patient, modality = text_of(first, "PatientID"), text_of(first, "Modality")
        folder = f"{_as_name(patient)}/{study}/{series}"
        volumes, problem = 0, ""
        try:
            with _converted(reading, principal, records, first, converter) as made:
                for path in made:
                    volumes += path.name.endswith(".nii.gz")
                    with of_file(path.name, GZIP, path) as content:
                        yield File(f"{folder}/{path.name}", content, is_compressed=path.suffix == ".gz")
        except (NotAcceptable, NotFound) as error:
            problem = str(error)
        _write_line(spool, (folder, patient, study, series, modality, volumes, problem))
    yield _list_of(SERIES_LIST, spool)


@contextmanager
def _converted(
    reading: Reading, principal: Principal, records: Sequence[InstanceRecord], first: Attributes, converter: Converter
) -> Iterator[tuple[Path, ...]]:
    if tag_of("Rows") not in first:
        raise NotAcceptable("The series holds no images.")
    ahead = reading.retrieve.ahead_of(records)
    instances: Iterator[Representation] = (ahead.open_instance(principal, record) for record in records)
    with converter.convert(instances) as made:
        yield made


def _list_of(name: str, spool: Spool) -> File:
    return File(name, Download(name, CSV, spool.size_bytes, spool.iter_chunks))


def _write_line(spool: Spool, values: Iterable[object]) -> None:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(map(_as_text, values))
    spool.write(line.getvalue().encode())


def _as_text(value: object) -> str:
    """Return a value that no spreadsheet takes for a formula: some of them come from a header."""
    text = str(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _as_name(text: str) -> str:
    return "".join(one if one.isascii() and one.isalnum() else "_" for one in text) or "_"
