"""dicomweb-client from PyPI, as its users call it."""

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom import uid

from tests.builders import as_part10, build_encapsulated, build_multiframe, build_series, build_unicode


@pytest.fixture
def client(service):
    return DICOMwebClient(url=service)


@pytest.fixture
def series(client):
    """Three slices stored by the client."""
    slices = build_series(3)
    files = [pydicom.dcmread(pydicom.filebase.DicomBytesIO(as_part10(dataset))) for dataset in slices]
    answer = client.store_instances(datasets=files)
    assert len(answer.ReferencedSOPSequence) == 3
    assert "FailedSOPSequence" not in answer
    return slices


def test_searches(client, series):
    first = series[0]
    (study,) = client.search_for_studies(search_filters={"PatientID": "BUILT-1"})
    assert study["0020000D"]["Value"] == [first.StudyInstanceUID]
    (found,) = client.search_for_series(first.StudyInstanceUID, fields=["SeriesDescription"])
    assert found["0020000E"]["Value"] == [first.SeriesInstanceUID]
    assert len(client.search_for_instances(first.StudyInstanceUID, first.SeriesInstanceUID, limit=2)) == 2
    assert len(client.search_for_instances(first.StudyInstanceUID, get_remaining=True, limit=1)) == 3
    assert client.search_for_studies(search_filters={"PatientID": "nobody"}) == []


def test_retrieves(client, series):
    first = series[0]
    uids = (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    assert len(client.retrieve_study(uids[0])) == 3
    assert [one.SOPInstanceUID for one in client.retrieve_series(*uids[:2])] == [one.SOPInstanceUID for one in series]
    assert len(list(client.iter_series(*uids[:2]))) == 3
    assert client.retrieve_instance(*uids).PixelData == first.PixelData
    any_syntax = (("application/dicom", "*"),)
    assert client.retrieve_instance(*uids, media_types=any_syntax).PixelData == first.PixelData


def test_metadata_and_bulk_data(client, series):
    first = series[0]
    uids = (first.StudyInstanceUID, first.SeriesInstanceUID, first.SOPInstanceUID)
    assert len(client.retrieve_study_metadata(uids[0])) == 3
    assert len(client.retrieve_series_metadata(*uids[:2])) == 3
    metadata = client.retrieve_instance_metadata(*uids)

    def fetch(address):
        return bytes(client.retrieve_bulkdata(address)[0])

    read = pydicom.Dataset.from_json(metadata, bulk_data_uri_handler=fetch)
    assert read.PixelData == first.PixelData
    assert read.PatientName == first.PatientName


def test_native_and_compressed_frames(client):
    native, compressed = build_multiframe(3), build_encapsulated()
    for file in (as_part10(native), as_part10(compressed, uid.JPEGBaseline8Bit)):
        client.store_instances(datasets=[pydicom.dcmread(pydicom.filebase.DicomBytesIO(file))])
    size = len(native.PixelData) // 3
    uids = (native.StudyInstanceUID, native.SeriesInstanceUID, native.SOPInstanceUID)
    assert client.retrieve_instance_frames(*uids, frame_numbers=[2]) == [native.PixelData[size : 2 * size]]
    uids = (compressed.StudyInstanceUID, compressed.SeriesInstanceUID, compressed.SOPInstanceUID)
    frames = client.retrieve_instance_frames(
        *uids, frame_numbers=[1, 2], media_types=(("image/jpeg", str(uid.JPEGBaseline8Bit)),)
    )
    assert [frame.rstrip(b"\0") for frame in frames] == [b"\xff\xd8one\xff\xd9", b"\xff\xd8second\xff\xd9"]


def test_names_in_arabic(client):
    dataset = build_unicode()
    client.store_instances(datasets=[pydicom.dcmread(pydicom.filebase.DicomBytesIO(as_part10(dataset)))])
    (study,) = client.search_for_studies(search_filters={"PatientName": "قباني*"})
    assert study["0020000D"]["Value"] == [dataset.StudyInstanceUID]
