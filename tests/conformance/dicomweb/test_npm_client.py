"""dicomweb-client from npm, which OHIF is built on: every method it has, under Node, against a real server."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pydicom
import pytest
from PIL import Image

from tests.builders import as_part10, build_ct, build_encapsulated, build_multiframe, build_pdf, build_series, build_sr
from tests.conformance.dicomweb.conftest import store_at

VERSION = "0.11.3"
SHA512 = "7t1Rc/01fyFnKlQeNPW9Pvxvmsx8R/BgB2n7BxTuWirRFwlTC5upEeLeS3vO72P+n6/SQZ3+5ij0bgaWDHQG/A=="
BUILD = "package/build/dicomweb-client.js"
BRIDGE = Path(__file__).with_name("npm_client.cjs")

JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LS = "1.2.840.10008.1.2.4.80"
EXPLICIT = "1.2.840.10008.1.2.1"

SLICES = build_series(3)
CINE = build_multiframe(3)
LOSSY = build_encapsulated()
REPORT = build_sr()
PDF = build_pdf()


def unavailable(what):
    """Skip with one line on a user's machine; in CI a part that is missing is a failure."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """The pinned package's own build, downloaded once for all clones by the npm that is there."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        unavailable("needs Node.js with npm (apt-get install nodejs npm)")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pacs-ci" / "npm"
    tarball = cache / f"dicomweb-client-{VERSION}.tgz"
    if not is_pinned(tarball):
        folder = tmp_path_factory.mktemp("npm")
        command = ["npm", "pack", f"dicomweb-client@{VERSION}", "--ignore-scripts", "--silent"]
        if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode:
            unavailable("dicomweb-client could not be fetched from the registry of npm; is there a network?")
        cache.mkdir(parents=True, exist_ok=True)
        shutil.move(next(folder.glob("*.tgz")), folder / "whole")
        assert is_pinned(folder / "whole"), "what came is not what was pinned"
        shutil.copyfile(folder / "whole", cache / folder.name)
        (cache / folder.name).rename(tarball)
    build = tmp_path_factory.mktemp("dicomweb-client") / "dicomweb-client.js"
    with tarfile.open(tarball) as opened:
        build.write_bytes(opened.extractfile(BUILD).read())
    return build


def is_pinned(tarball):
    if not tarball.is_file():
        return False
    return base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode() == SHA512


@pytest.fixture(scope="module")
def node(package):
    with subprocess.Popen(
        ["node", BRIDGE, package], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.stdin.close()


@pytest.fixture(scope="module")
def http(shared_http):
    store_at(shared_http, *SLICES, CINE, as_part10(LOSSY, JPEG_BASELINE), REPORT, PDF)
    return shared_http


@pytest.fixture
def ask(node, http):
    """Call a method and return what it resolves to, or what it is rejected with."""

    def ask(method, client=None, **options):
        configuration = {"url": str(http.base_url).rstrip("/"), **(client or {})}
        node.stdin.write(json.dumps({"client": configuration, "method": method, "options": options}) + "\n")
        node.stdin.flush()
        return json.loads(node.stdout.readline())

    return ask


@pytest.fixture
def call(ask):
    """Call a method and return what it resolves to, bytes as bytes."""

    def call(method, client=None, **options):
        answer = ask(method, client, **options)
        assert "error" not in answer, answer
        return unpack(answer.get("value"))

    return call


def pack(data):
    return {"base64": base64.b64encode(data).decode()}


def unpack(value):
    if isinstance(value, list):
        return [unpack(one) for one in value]
    return base64.b64decode(value["base64"]) if isinstance(value, dict) and list(value) == ["base64"] else value


def uids_of(dataset, depth=3):
    uids = {
        "studyInstanceUID": dataset.StudyInstanceUID,
        "seriesInstanceUID": dataset.SeriesInstanceUID,
        "sopInstanceUID": dataset.SOPInstanceUID,
    }
    return dict(list(uids.items())[:depth])


def test_searches(call):
    first = SLICES[0]
    (study,) = call("searchForStudies", queryParams={"StudyInstanceUID": first.StudyInstanceUID})
    assert study["0020000D"]["Value"] == [first.StudyInstanceUID]
    (series,) = call("searchForSeries", **uids_of(first, 1), queryParams={"Modality": "CT"})
    assert series["0020000E"]["Value"] == [first.SeriesInstanceUID]
    assert len(call("searchForInstances", **uids_of(first, 2))) == 3
    assert len(call("searchForInstances", queryParams={"limit": 2})) == 2
    assert call("searchForStudies", queryParams={"PatientID": "nobody"}) == []


def test_metadata_at_every_level(call):
    first = SLICES[0]
    assert len(call("retrieveStudyMetadata", **uids_of(first, 1))) == 3
    assert len(call("retrieveSeriesMetadata", **uids_of(first, 2))) == 3
    (metadata,) = call("retrieveInstanceMetadata", **uids_of(first))
    assert metadata["00080018"]["Value"] == [first.SOPInstanceUID]


def test_instances_at_every_level(call):
    first = SLICES[0]
    files = [as_part10(one) for one in SLICES]
    assert call("retrieveStudy", **uids_of(first, 1)) == files
    assert call("retrieveSeries", **uids_of(first, 2)) == files
    assert call("retrieveInstance", **uids_of(first)) == files[0]


def test_frames_native_compressed_and_whatever_is_stored(call):
    size = len(CINE.PixelData) // 3
    frames = [CINE.PixelData[start : start + size] for start in (0, size, 2 * size)]
    assert call("retrieveInstanceFrames", **uids_of(CINE), frameNumbers=[3, 1]) == [frames[2], frames[0]]
    (jpeg_ls,) = call(
        "retrieveInstanceFrames",
        **uids_of(CINE),
        frameNumbers=[2],
        mediaTypes=[{"mediaType": "image/jls", "transferSyntaxUID": JPEG_LS}],
    )
    assert jpeg_ls.startswith(b"\xff\xd8\xff")
    lossy = call(
        "retrieveInstanceFrames",
        **uids_of(LOSSY),
        frameNumbers=[1, 2],
        mediaTypes=[{"mediaType": "image/jpeg", "transferSyntaxUID": JPEG_BASELINE}],
    )
    assert [frame.rstrip(b"\0") for frame in lossy] == [b"\xff\xd8one\xff\xd9", b"\xff\xd8second\xff\xd9"]
    any_form = [
        {"mediaType": "application/octet-stream", "transferSyntaxUID": EXPLICIT},
        {"mediaType": "image/jpeg", "transferSyntaxUID": JPEG_BASELINE},
    ]
    assert call("retrieveInstanceFrames", **uids_of(CINE), frameNumbers=[1], mediaTypes=any_form) == [frames[0]]
    (stored,) = call("retrieveInstanceFrames", **uids_of(LOSSY), frameNumbers=[1], mediaTypes=any_form)
    assert stored.startswith(b"\xff\xd8one")


def picture_of(answer):
    (data,) = answer if isinstance(answer, list) else [answer]
    return Image.open(io.BytesIO(data))


def test_rendered_instances_and_frames(call):
    first = SLICES[0]
    assert picture_of(call("retrieveInstanceRendered", **uids_of(first))).format == "JPEG"
    png = {"mediaTypes": [{"mediaType": "image/png"}], "queryParams": {"viewport": "4,4", "window": "40,400,linear"}}
    image = picture_of(call("retrieveInstanceRendered", **uids_of(first), **png))
    assert (image.format, image.size) == ("PNG", (4, 4))
    frame = call("retrieveInstanceFramesRendered", **uids_of(CINE), frameNumbers=[2], queryParams={"quality": 50})
    assert picture_of(frame).format == "JPEG"
    image = picture_of(call("retrieveInstanceFramesRendered", **uids_of(CINE), frameNumbers=[2], **png))
    assert image.format == "PNG"


def test_thumbnails(call):
    for method, options in (
        ("retrieveInstanceThumbnail", uids_of(SLICES[0])),
        ("retrieveInstanceFramesThumbnail", {**uids_of(CINE), "frameNumbers": [1]}),
    ):
        assert picture_of(call(method, **options)).format == "JPEG"
        asked = {"mediaTypes": [{"mediaType": "image/png"}], "queryParams": {"viewport": "5,5"}}
        image = picture_of(call(method, **options, **asked))
        assert (image.format, max(image.size)) == ("PNG", 5)


def test_bulk_data_as_parts_alone_and_a_range_of_it(call):
    (metadata,) = call("retrieveInstanceMetadata", **uids_of(SLICES[0]))
    address = metadata["7FE00010"]["BulkDataURI"]
    assert call("retrieveBulkData", BulkDataURI=address) == [SLICES[0].PixelData]
    single = {"singlepart": "bulkdata"}
    assert call("retrieveBulkData", single, BulkDataURI=address) == [SLICES[0].PixelData]
    part = call("retrieveBulkData", single, BulkDataURI=address, headers={"Range": "bytes=4-11"})
    assert part == [SLICES[0].PixelData[4:12]]


def test_a_wado_uri_address_gives_the_instance_as_it_was_stored(call, http):
    service = str(http.base_url).rstrip("/")
    address = call("buildInstanceWadoURIUrl", {"url": service, "wadoURIPrefix": ""}, **uids_of(LOSSY))
    # The package asks below the root of WADO-RS, which is why viewers are told another root for it.
    response = http.get(address.replace("/dicom-web?", "/dicom-web/wado?"))
    assert response.content == as_part10(LOSSY, JPEG_BASELINE)


def test_stores_what_can_be_searched_then(call):
    new = build_ct()
    answer = json.loads(call("storeInstances", datasets=[pack(as_part10(new))]))
    assert len(answer["00081199"]["Value"]) == 1
    other = build_ct(StudyInstanceUID=new.StudyInstanceUID, PatientID=new.PatientID)
    call("storeInstances", datasets=[pack(as_part10(other))], **uids_of(new, 1))
    assert len(call("searchForInstances", **uids_of(new, 1))) == 2
    assert pydicom.dcmread(io.BytesIO(call("retrieveInstance", **uids_of(other)))) == pydicom.dcmread(
        io.BytesIO(as_part10(other))
    )


def test_what_is_not_there_is_told_by_its_status(ask):
    assert ask("retrieveStudyMetadata", studyInstanceUID="1.2.3")["status"] == 404
    assert ask("retrieveInstanceRendered", **uids_of(REPORT), mediaTypes=[{"mediaType": "image/png"}])["status"] == 406


def test_what_the_client_itself_cannot_ask_for(ask):
    """These are limits of the package, kept here so that nobody looks for them in the server."""
    dicom = [{"mediaType": "application/dicom", "transferSyntaxUID": JPEG_LS}]
    for method, depth in (("retrieveInstance", 3), ("retrieveSeries", 2), ("retrieveStudy", 1)):
        assert "is not supported" in ask(method, **uids_of(SLICES[0], depth), mediaTypes=dicom)["error"]
    pdf = [{"mediaType": "application/pdf"}]
    assert "is not supported" in ask("retrieveInstanceRendered", **uids_of(PDF), mediaTypes=pdf)["error"]


def test_every_method_is_called_here(package):
    """Told by the text: a method that a newer package has makes this fail, and is to be added."""
    text = Path(__file__).read_text(encoding="utf-8")
    methods = set(re.findall(r'key: "([a-z]\w+)"', package.read_text(encoding="utf-8")))
    methods -= {"setDebug", "getDebug", "setVerbose", "getVerbose"}
    assert len(methods) >= 16
    assert {method for method in methods if f'"{method}"' not in text} == set()
