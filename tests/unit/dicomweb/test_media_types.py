"""Content negotiation, without HTTP (PS3.18 8.7)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomweb import media_types
from dicomweb.media_types import Form, MediaRange, parse_accept
from pacs.errors import NotAcceptable

JPEG_LS = "1.2.840.10008.1.2.4.80"
NOTHING_ACCEPTABLE = ["text/html", "image/png, text/*", 'multipart/related; type="application/dicom+xml"', "x", ";;;,,"]


def instances(*accept, is_single=True):
    return media_types.choose_instances(parse_accept(accept), is_single=is_single)


def frames(*accept, is_single=True):
    return media_types.choose_frames(parse_accept(accept), is_single=is_single)


def bulk(*accept, stored_type=""):
    return media_types.choose_bulk(parse_accept(accept), stored_type)


def test_ranges_come_by_weight_and_then_in_their_order():
    ranges = parse_accept(["a/a;q=0.5, b/b", "c/c ; q=0.9 ; x=1, d/d;q=0"])
    assert [one.media_type for one in ranges] == ["b/b", "c/c", "a/a"]
    assert ranges[1].parameters == {"x": "1"}


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="application/dicom"; transfer-syntax=*',
        "multipart/related; type=application/dicom; transfer-syntax=*",
        "multipart/related;type=application/dicom;transfer-syntax=*;boundary=x",
        'Multipart/Related ; TYPE="Application/DICOM" ; Transfer-Syntax="*"',
        'multipart/related; type="*/*"; transfer-syntax=*',
        "multipart/related; transfer-syntax=*",
        "*/*; transfer-syntax=*",
    ],
)
def test_spellings_of_multipart_dicom_in_any_syntax(accept):
    assert instances(accept) == (Form("application/dicom", is_multipart=True, transfer_syntax_uids=("*",)),)


def test_commas_and_semicolons_inside_quotes_separate_nothing():
    (one,) = parse_accept(['multipart/related; start="a,b;c\\"d"; type="application/dicom"'])
    assert one.parameters == {"start": 'a,b;c"d', "type": "application/dicom"}


@pytest.mark.parametrize("accept", [[], [""], ["*/*"]])
def test_who_accepts_everything_gets_the_default(accept):
    assert instances(*accept) == (Form("application/dicom", is_multipart=True),)
    assert frames(*accept) == (Form("", is_multipart=True),)
    assert media_types.choose_model(parse_accept(accept)) == "application/dicom+json"


def test_single_part_dicom_is_for_one_instance_only():
    assert instances("application/dicom") == (Form("application/dicom", is_multipart=False),)
    with pytest.raises(NotAcceptable):
        instances("application/dicom", is_single=False)


@pytest.mark.parametrize("accept", NOTHING_ACCEPTABLE)
@pytest.mark.parametrize("choose", [instances, frames, bulk])
def test_no_form_that_fits_is_not_acceptable(choose, accept):
    with pytest.raises(NotAcceptable):
        choose(accept)


@pytest.mark.parametrize("accept", ["text/html", "application/xml", 'multipart/related; type="application/dicom"'])
def test_metadata_are_json_or_xml(accept):
    with pytest.raises(NotAcceptable):
        media_types.choose_model(parse_accept([accept]))


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, application/dicom+json", "application/dicom+json"),
        ("application/dicom+xml, */*;q=0.1", "application/dicom+xml"),
        ("application/dicom+xml;q=0.2, application/json;q=0.3", "application/json"),
        ("application/dicom+xml;q=0, */*", "application/dicom+json"),
        ('multipart/related; type="application/dicom+xml"', "application/dicom+xml"),
        ("multipart/related; TYPE=application/dicom+xml; boundary=x", "application/dicom+xml"),
        ("multipart/related", "application/dicom+xml"),
        ('multipart/related; type="*/*"', "application/dicom+json"),
        ('multipart/related; type="application/dicom+json"', "application/dicom+json"),
        ("application/*", "application/dicom+json"),
        ("application/dicom+json; charset=utf-8", "application/dicom+json"),
    ],
)
def test_metadata_media_type(accept, chosen):
    assert media_types.choose_model(parse_accept([accept])) == chosen


def test_a_pixel_media_type_without_a_syntax_means_its_default_syntax():
    assert frames('multipart/related; type="image/jls"') == (Form("image/jls", True, (JPEG_LS,)),)


def test_an_image_wildcard_with_any_syntax_means_every_registered_one():
    (form,) = frames("multipart/related; type=image/*; transfer-syntax=*")
    assert form.media_type == ""
    images = [syntaxes for media_type, syntaxes in media_types.PIXEL_SYNTAXES.items() if media_type[:5] == "image"]
    assert set(form.transfer_syntax_uids) == {syntax for syntaxes in images for syntax in syntaxes}


def test_a_syntax_that_a_pixel_media_type_cannot_carry_is_passed_over():
    with pytest.raises(NotAcceptable):
        frames(f"multipart/related; type=image/jp2; transfer-syntax={JPEG_LS}")


def test_frames_as_octets_in_any_syntax_are_taken_as_stored():
    (form,) = frames("multipart/related; type=application/octet-stream; transfer-syntax=*")
    assert form.media_type == "application/octet-stream"
    assert form.takes_any_syntax


def test_single_part_pixels_are_for_one_frame_only():
    assert frames("image/jphc")[0].is_multipart is False
    with pytest.raises(NotAcceptable):
        frames("image/jphc", is_single=False)


def test_bulk_data_goes_out_in_its_own_media_type_if_that_is_asked_for():
    assert bulk("application/pdf", stored_type="application/pdf") == (Form("application/pdf", is_multipart=False),)
    assert bulk("*/*", stored_type="application/pdf") == (Form("application/octet-stream", is_multipart=False),)
    with pytest.raises(NotAcceptable):
        bulk("application/pdf")


def test_accept_parameter_survives_a_plus_sign_that_was_not_escaped():
    assert media_types.parse_accept_parameter(["application/dicom json"]) == (MediaRange("application/dicom+json"),)


@given(st.lists(st.text(alphabet='a/*;,="\\ q0.1-\t', max_size=60), max_size=3))
def test_any_accept_header_gives_forms_or_not_acceptable(accept):
    for choose in (instances, frames, bulk):
        with suppress(NotAcceptable):
            assert choose(*accept)
