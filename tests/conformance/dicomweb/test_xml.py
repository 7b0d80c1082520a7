"""The Native DICOM Model as metadata and matches (PS3.18 10.4, 10.6; Table 8.7.3-2), beside the same in JSON."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicomweb.dicom_xml import ModelParser
from dicomweb.media_types import choose_model, parse_accept
from pacs.errors import NotAcceptable
from tests.builders import as_part10, build_ct, build_mr, build_multiframe, build_series, build_sr, build_unicode
from tests.conformance.dicomweb.apart import iter_bulk_uris
from tests.conformance.dicomweb.service import parse_parts

XML = "application/dicom+xml"
ACCEPT = {"Accept": f'multipart/related; type="{XML}"'}
IDENTITY = {**ACCEPT, "Accept-Encoding": "identity"}


def path_of(dataset):
    return f"/studies/{dataset.StudyInstanceUID}/series/{dataset.SeriesInstanceUID}/instances/{dataset.SOPInstanceUID}"


def models(response):
    """Return the data sets of an answer."""
    assert response.status_code == 200, response.text
    found = []
    for headers, body in parse_parts(response):
        assert headers["Content-Type"] == XML
        parser = ModelParser()
        parser.feed(body)
        found.append(parser.finish())
    return found


def known(item):
    """Return JSON metadata as XML has them: no empty list, and no value at the end that is none."""
    plain = {}
    for tag, element in item.items():
        values = [known(value) if element["vr"] == "SQ" else value for value in element.get("Value", [])]
        values = [None if value == "" else value for value in values]
        rest = {key: value for key, value in element.items() if key != "Value"}
        plain[tag] = {**rest, "Value": values} if values and values != [None] else rest
    return plain


@pytest.mark.parametrize("build", [build_ct, build_mr, build_multiframe, build_sr, build_unicode])
def test_metadata_in_xml_say_what_they_say_in_json(http, store, build):
    dataset = build()
    store(dataset)
    path = f"{path_of(dataset)}/metadata"
    assert models(http.get(path, headers=ACCEPT)) == [known(one) for one in http.get(path).json()]


@pytest.mark.parametrize("level", ["study", "series", "instance"])
def test_a_part_is_one_instance_at_every_level(http, store, level):
    series = build_series(3)
    store(*series)
    path = path_of(series[0])
    path = {"study": path.partition("/series")[0], "series": path.partition("/instances")[0], "instance": path}[level]
    found = models(http.get(f"{path}/metadata", headers=ACCEPT))
    assert len(found) == (1 if level == "instance" else 3)


def test_bulk_data_addresses_are_absolute_and_work(http, store, service):
    dataset = build_multiframe(2)
    store(dataset)
    (found,) = models(http.get(f"{path_of(dataset)}/metadata", headers=ACCEPT))
    ((tag, uri),) = iter_bulk_uris(found)
    assert tag == "7FE00010"
    assert uri.startswith(f"{service}/studies/")
    assert http.get(uri).content == dataset.PixelData


def test_matches_in_xml_say_what_they_say_in_json(http, store):
    series = build_series(3, PatientName="Bénali^Amine")
    store(*series)
    for path in ("/studies", "/series", "/instances", "/instances?includefield=all"):
        assert models(http.get(path, headers=ACCEPT)) == [known(one) for one in http.get(path).json()]


def test_no_match_is_no_content_in_xml_too(http):
    response = http.get("/studies", headers=ACCEPT)
    assert (response.status_code, response.content) == (204, b"")


def test_what_cannot_be_asked_or_found_is_the_same_error_in_xml(http, store):
    dataset = build_ct()
    store(dataset)
    assert http.get("/studies?limit=-1", headers=ACCEPT).status_code == 400
    assert http.get("/studies/1.2/metadata", headers=ACCEPT).status_code == 404


@pytest.mark.parametrize(
    ("accept", "is_xml"),
    [
        (XML, True),
        (f'multipart/related; type="{XML}"', True),
        (f"multipart/related; type={XML}; boundary=x", True),
        (f"{XML};q=0.9, application/dicom+json;q=0.8", True),
        (f"{XML};q=0.8, application/dicom+json;q=0.9", False),
        (f"{XML};q=0, */*", False),
        ("*/*", False),
    ],
)
def test_the_weight_decides(http, store, accept, is_xml):
    dataset = build_ct()
    store(dataset)
    for path in ("/studies", f"{path_of(dataset)}/metadata"):
        content_type = http.get(path, headers={"Accept": accept}).headers["content-type"]
        assert content_type.startswith(f'multipart/related; type="{XML}"; boundary=') is is_xml


def test_the_accept_parameter_asks_for_xml_too(http, store):
    store(build_ct())
    assert models(http.get("/studies?accept=application/dicom%2Bxml"))
    assert models(http.get("/studies?accept=application/dicom+xml"))


def test_xml_has_a_strong_tag_of_its_own_for_each_encoding_and_is_not_sent_twice(http, store):
    dataset = build_ct()
    store(dataset)
    path = f"{path_of(dataset)}/metadata"
    tags = {http.get(path).headers["etag"]}
    for headers in (IDENTITY, {**ACCEPT, "Accept-Encoding": "gzip"}):
        response = http.get(path, headers=headers)
        tags.add(response.headers["etag"])
        assert not response.headers["etag"].startswith("W/")
        assert {"Accept", "Accept-Encoding"} <= {name.strip() for name in response.headers["vary"].split(",")}
        again = http.get(path, headers={**headers, "If-None-Match": response.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert http.get(path, headers=headers).content == response.content
    assert len(tags) == 3


def test_xml_is_compressed_for_who_takes_gzip(http, store):
    store(*build_series(5))
    for path in ("/instances", f"/studies/{http.get('/studies').json()[0]['0020000D']['Value'][0]}/metadata"):
        plain = http.get(path, headers=IDENTITY)
        assert "content-encoding" not in plain.headers
        compressed = http.get(path, headers={**ACCEPT, "Accept-Encoding": "gzip"})
        assert compressed.headers["content-encoding"] == "gzip"
        assert compressed.content == plain.content
        assert compressed.num_bytes_downloaded < len(plain.content) / 4


def test_head_gives_what_get_gives(http, store):
    dataset = build_ct()
    store(dataset)
    for path in ("/studies", f"{path_of(dataset)}/metadata"):
        head, got = http.head(path, headers=IDENTITY), http.get(path, headers=IDENTITY)
        assert head.content == b""
        for name in ("content-type", "etag", "vary", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name)


def test_who_sends_the_object_cannot_part_the_answer(http, store):
    """The boundary is a secret: the one of another answer does nothing in a value."""
    dataset = build_ct()
    store(dataset)
    response = http.get("/studies", headers=ACCEPT)
    boundary = response.headers["content-type"].rpartition("=")[2]
    other = build_ct(PatientComments=f"\r\n--{boundary}--\r\n")
    assert http.post("/studies", content=as_part10(other), headers={"Content-Type": "application/dicom"}).is_success
    (found,) = models(http.get(f"{path_of(other)}/metadata", headers=ACCEPT))
    assert found["00104000"]["Value"][0].strip() == f"--{boundary}--"


@settings(deadline=None)
@given(st.lists(st.text(alphabet='amx/*;,="+ q0.1djson', max_size=60), max_size=3))
def test_any_accept_header_chooses_a_form_or_none(accept):
    with suppress(NotAcceptable):
        assert choose_model(parse_accept(accept))
