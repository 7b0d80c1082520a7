"""dicomweb-client from PyPI, as its users call it: every method that asks the server for something."""

import inspect
import io
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import uid
from requests import HTTPError

from dicomweb.app import create_app
from tests.builders import (
    as_part10,
    build_ct,
    build_encapsulated,
    build_multiframe,
    build_pdf,
    build_series,
    build_sr,
    build_unicode,
)
from tests.conformance.dicomweb.service import serving


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


def stored(client, *datasets, syntax=uid.ExplicitVRLittleEndian):
    client.store_instances(datasets=[pydicom.dcmread(io.BytesIO(as_part10(one, syntax))) for one in datasets])
    return [(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID) for one in datasets]


def test_a_study_is_stored_by_its_uid_and_iterated(client):
    first, other = build_series(2)
    file = pydicom.dcmread(io.BytesIO(as_part10(first)))
    client.store_instances(datasets=[file], study_instance_uid=first.StudyInstanceUID)
    with pytest.raises(HTTPError) as raised:
        client.store_instances(datasets=[pydicom.dcmread(io.BytesIO(as_part10(other)))], study_instance_uid="1.2.3")
    assert raised.value.response.status_code == 409
    assert [one.PixelData for one in client.iter_study(first.StudyInstanceUID)] == [first.PixelData]


def test_instances_in_a_syntax_that_was_asked_for(client):
    (uids,) = stored(client, build_ct())
    lossless = client.retrieve_instance(*uids, media_types=(("application/dicom", str(uid.JPEGLSLossless)),))
    assert lossless.file_meta.TransferSyntaxUID == uid.JPEGLSLossless
    (again,) = client.retrieve_series(*uids[:2], media_types=(("application/dicom", str(uid.JPEG2000Lossless)),))
    assert again.file_meta.TransferSyntaxUID == uid.JPEG2000Lossless


def test_frames_are_iterated_in_their_order_and_transcoded(client):
    cine = build_multiframe(5)
    (uids,) = stored(client, cine)
    size = len(cine.PixelData) // 5
    frames = list(client.iter_instance_frames(*uids, frame_numbers=[5, 1]))
    assert frames == [cine.PixelData[4 * size :], cine.PixelData[:size]]
    (frame,) = client.retrieve_instance_frames(*uids, [2], media_types=(("image/jls", str(uid.JPEGLSLossless)),))
    assert frame.startswith(b"\xff\xd8\xff")


def test_bulk_data_is_iterated(client):
    dataset = build_ct()
    (uids,) = stored(client, dataset)
    address = client.retrieve_instance_metadata(*uids)["7FE00010"]["BulkDataURI"]
    assert list(client.iter_bulkdata(address)) == [dataset.PixelData]
    octets = (("application/octet-stream", str(uid.ExplicitVRLittleEndian)),)
    assert client.retrieve_bulkdata(address, media_types=octets) == [dataset.PixelData]


def test_a_byte_range_is_of_the_multipart_answer_which_this_client_cannot_read(client):
    """RFC 9110 14: a range is of the representation, boundaries and all; the client asks for it of nothing else."""
    dataset = build_ct()
    (uids,) = stored(client, dataset)
    address = client.retrieve_instance_metadata(*uids)["7FE00010"]["BulkDataURI"]
    with pytest.raises(ValueError, match="subsection not found"):
        client.retrieve_bulkdata(address, byte_range=(0, 7))
    assert client.retrieve_bulkdata(address, byte_range=(0, 100_000)) == [dataset.PixelData]


def picture(data):
    return Image.open(io.BytesIO(data))


def test_rendered_series_instances_and_frames(client):
    slices = build_series(2)
    cine = build_multiframe(3)
    uids, _ = stored(client, *slices)
    (cine_uids,) = stored(client, cine)
    assert picture(client.retrieve_instance_rendered(*uids)).format == "JPEG"
    params = {"viewport": "4,4", "window": "40,400,linear"}
    image = picture(client.retrieve_instance_rendered(*uids, media_types=("image/png",), params=params))
    assert (image.format, image.size) == ("PNG", (4, 4))
    frame = client.retrieve_instance_frames_rendered(
        *cine_uids, [2], media_types=("image/jpeg",), params={"quality": 50}
    )
    assert picture(frame).format == "JPEG"
    moving = picture(client.retrieve_instance_frames_rendered(*cine_uids, [1, 3], media_types=("image/gif",)))
    assert (moving.format, moving.n_frames) == ("GIF", 2)
    assert picture(client.retrieve_instance_frames_rendered(*cine_uids, [1])).format == "JPEG"
    # The client takes a series' answer as one picture; ours has a part for each, as PS3.18 10.4.4 has it.
    assert client.retrieve_series_rendered(*uids[:2], media_types=("image/png",)).count(b"\x89PNG") == 2


def test_what_is_not_there_or_not_given_is_an_http_error(client):
    (uids,) = stored(client, build_sr())
    for ask, status in (
        (lambda: client.retrieve_study("1.2.3"), 404),
        (lambda: client.retrieve_instance_metadata(uids[0], uids[1], "1.2.3"), 404),
        (lambda: client.retrieve_instance_rendered(*uids, media_types=("image/png",)), 406),
        (lambda: client.retrieve_instance_frames(*uids, frame_numbers=[1]), 404),
        (lambda: client.search_for_studies(search_filters={"StudyDate": "yesterday"}), 400),
        (lambda: client.delete_study(uids[0]), 403),
    ):
        with pytest.raises(HTTPError) as raised:
            ask()
        assert raised.value.response.status_code == status


def test_deletes_where_it_may(archive):
    slices, other = build_series(3), build_ct()
    with serving(create_app(archive, is_ready=dict, may_delete=True)) as address:
        client = DICOMwebClient(url=f"{address}/dicom-web")
        uids, *_ = stored(client, *slices)
        (other_uids,) = stored(client, other)
        client.delete_instance(*uids)
        assert len(client.search_for_instances(*uids[:2])) == 2
        client.delete_series(*uids[:2])
        client.delete_study(other_uids[0])
        assert client.search_for_studies() == []


def test_documents_come_as_what_they_are(client):
    document = b"%PDF-1.4\n" + bytes(100_000) + b"%%EOF"
    (uids,) = stored(client, build_pdf(document))
    address = client.retrieve_instance_metadata(*uids)["00420011"].get("BulkDataURI")
    assert client.retrieve_bulkdata(address)[0].rstrip(b"\0").startswith(b"%PDF")


def test_every_method_is_called_here():
    """Told by the text: a method that a newer client has makes this fail, and is to be added."""
    text = Path(__file__).read_text(encoding="utf-8")
    asking = ("search_", "retrieve_", "iter_", "store_", "delete_")
    methods = [name for name, _ in inspect.getmembers(DICOMwebClient, callable) if name.startswith(asking)]
    assert len(methods) >= 22
    assert [name for name in methods if f"client.{name}(" not in text] == []
