"""gzip of JSON, entity tags and conditional requests (RFC 9110; PS3.18 8.4), with clients nobody here wrote."""

import gzip
import subprocess

import brotli
import pytest

from pacs.ingest.incoming import Incoming
from pacs.model import Door, DuplicatePolicy, Origin
from pacs.retrieve import Renderer
from tests.builders import as_part10, build_ct, build_encapsulated, build_series, build_sr
from tests.conformance.dicomweb.service import parse_parts
from tests.conformance.dicomweb.test_wado import ANY_SYNTAX, path_of
from tests.key_objects import QUALITY, build_key_objects

IDENTITY = {"Accept-Encoding": "identity"}


def curl(*arguments):
    return subprocess.run(["curl", "--silent", "--fail", *arguments], capture_output=True, check=True).stdout


def raw(http, path, **headers):
    """Return an answer and its body as it came over the wire."""
    with http.stream("GET", path, headers=headers) as response:
        return response, b"".join(response.iter_raw())


@pytest.fixture
def series(store):
    datasets = build_series(3)
    store(*datasets)
    return datasets


def all_paths(dataset):
    instance = path_of(dataset)
    study, series = f"/studies/{dataset.StudyInstanceUID}", instance.partition("/instances")[0]
    return [f"{study}/metadata", f"{series}/metadata", f"{instance}/metadata", instance, f"{instance}/frames/1"]


@pytest.mark.parametrize(
    ("accepted", "coding", "decompress"),
    [("br, gzip", "br", brotli.decompress), ("gzip, deflate", "gzip", gzip.decompress)],
)
@pytest.mark.parametrize("path", ["/studies", "/instances?includefield=all", "{study}/metadata", "{instance}/metadata"])
def test_json_is_compressed_as_the_client_takes_it_and_says_what_it_varies_with(
    http, series, path, accepted, coding, decompress
):
    instance = path_of(series[0])
    path = path.format(study=instance.partition("/series")[0], instance=instance)
    plain, plain_body = raw(http, path, **{"Accept-Encoding": "identity"})
    packed, packed_body = raw(http, path, **{"Accept-Encoding": accepted})
    assert "content-encoding" not in plain.headers
    assert packed.headers["content-encoding"] == coding
    assert decompress(packed_body) == plain_body
    assert len(packed_body) < len(plain_body)
    for response in (plain, packed):
        assert "accept-encoding" in response.headers["vary"].lower()


def test_metadata_varies_with_accept_and_its_encoding(http, series):
    for encoding in ("identity", "gzip", "br"):
        response = http.get(all_paths(series[0])[0], headers={"Accept-Encoding": encoding})
        assert response.headers["vary"] == "Accept, Accept-Encoding"
        tag = response.headers["etag"]
        known = http.get(all_paths(series[0])[0], headers={"Accept-Encoding": encoding, "If-None-Match": tag})
        assert (known.status_code, known.headers["vary"]) == (304, "Accept, Accept-Encoding")


def test_the_worklist_is_compressed(root):
    response = root.get("/worklist", headers={"Accept-Encoding": "gzip"})
    assert (response.json(), response.headers["content-encoding"]) == ([], "gzip")


@pytest.mark.parametrize("encoding", ["gzip;q=0", "zstd", "gzip;q=0.1, identity", "identity", "*;q=0", ""])
def test_json_goes_as_it_is_where_no_coding_is_wanted(http, series, encoding):
    response, body = raw(http, all_paths(series[0])[0], **{"Accept-Encoding": encoding})
    assert "content-encoding" not in response.headers
    assert body.startswith(b"[{")


def test_pixels_are_never_compressed(http, series):
    for path in (path_of(series[0]), f"{path_of(series[0])}/frames/1", f"{path_of(series[0])}/bulkdata/7FE00010"):
        response, _ = raw(http, path, **{"Accept-Encoding": "gzip"})
        assert "content-encoding" not in response.headers


def test_every_representation_has_a_tag_of_its_own_and_is_not_sent_to_who_has_it(http, series):
    tags = set()
    for path in all_paths(series[0]):
        for headers in ({"Accept-Encoding": "gzip"}, {**IDENTITY}):
            response = http.get(path, headers=headers)
            tags.add((path, response.headers["etag"]))
            known = http.get(path, headers={**headers, "If-None-Match": f'"other", {response.headers["etag"]}'})
            assert (known.status_code, known.content) == (304, b"")
            assert known.headers["etag"] == response.headers["etag"]
            assert known.headers["cache-control"] == response.headers["cache-control"]
            assert http.get(path, headers={**headers, "If-None-Match": '"other"'}).status_code == 200
    assert len({tag for _, tag in tags}) == 3 * 2 + 2  # metadata in two encodings, instance and frame in one


def test_a_tag_is_another_one_for_another_accept_and_another_address(http, series):
    path = path_of(series[0])
    asked = [{}, ANY_SYNTAX, {"Accept": "application/dicom"}, {"Host": "other.example"}]
    assert len({http.get(path, headers=headers).headers["etag"] for headers in asked}) == 4


def test_metadata_is_asked_for_again_each_time_and_frames_after_a_while(http, series):
    *metadata, instance, frame = (http.get(path).headers["cache-control"] for path in all_paths(series[0]))
    assert {*metadata, instance} == {"private, no-cache"}
    assert frame.startswith("private, max-age=")
    assert frame.endswith(", must-revalidate")


def test_last_modified_is_when_a_single_instance_was_stored_and_is_left_out_of_lists(http, series):
    study, of_series, instance_metadata, instance, frame = (
        "last-modified" in http.get(path).headers for path in all_paths(series[0])
    )
    assert [study, of_series, instance_metadata, instance, frame] == [False, False, True, True, True]


def test_who_has_the_date_that_was_given_is_not_sent_it_again(http, series):
    for path in all_paths(series[0]):
        date = http.get(path).headers.get("last-modified")
        if date is not None:
            known = http.get(path, headers={"If-Modified-Since": date})
            assert (known.status_code, known.headers["last-modified"]) == (304, date)
            assert http.get(path, headers={"If-Modified-Since": date, "If-None-Match": '"other"'}).status_code == 200
        assert http.get(path, headers={"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"}).status_code == 200


def tags_of(http, dataset):
    return [http.get(path).headers["etag"] for path in all_paths(dataset)]


def test_a_late_instance_changes_the_tags_of_its_study_and_series_alone(http, store, series):
    before = tags_of(http, series[0])
    late = build_ct(
        StudyInstanceUID=series[0].StudyInstanceUID,
        SeriesInstanceUID=series[0].SeriesInstanceUID,
        PatientID=series[0].PatientID,
    )
    store(late)
    after = tags_of(http, series[0])
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True, True, True]


def test_a_correction_and_its_undoing_change_every_tag(http, root, series):
    study = series[0].StudyInstanceUID
    before = tags_of(http, series[0])
    body = {"kind": "correct-study", "study_instance_uid": study, "values": {"AccessionNumber": "NEW-ONE"}}
    made = root.post("/corrections", json={"reason": "Typed wrong", **body})
    assert made.status_code == 201, made.text
    corrected = tags_of(http, series[0])
    assert not set(before) & set(corrected)
    assert b"NEW-ONE" in http.get(f"/studies/{study}/metadata", headers={"If-None-Match": before[0]}).content
    assert root.post(f"/corrections/{made.json()['id']}/undo", json={}).status_code == 200
    assert not set(tags_of(http, series[0])) & set(corrected)
    assert b"NEW-ONE" not in http.get(f"/studies/{study}/metadata", headers={"If-None-Match": corrected[0]}).content


def test_a_replacement_changes_the_tags(http, archive, series):
    before = tags_of(http, series[0])
    series[0].InstanceNumber = 77
    with archive.ingest.open_spool() as spool:
        spool.write(as_part10(series[0]))
        origin = Origin(Door.DIMSE, duplicate_policy=DuplicatePolicy.REPLACE)
        archive.ingest.store(Incoming(spool, origin))
    assert not set(before) & set(tags_of(http, series[0]))


def test_a_rejection_changes_the_tags_of_study_and_series(http, archive, series):
    *_, instance, frame = tags_of(http, series[0])
    before = tags_of(http, series[1])
    with archive.ingest.open_spool() as spool:
        spool.write(as_part10(build_key_objects(QUALITY, [series[0]])))
        archive.ingest.store(Incoming(spool, Origin(Door.DIMSE, may_reject=True)))
    after = tags_of(http, series[1])
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, False, True, True, True]
    for path, tag in zip(all_paths(series[0])[3:], (instance, frame), strict=True):
        assert http.get(path, headers={"If-None-Match": tag}).status_code == 404


def picture_paths(dataset):
    instance = path_of(dataset)
    study, series = instance.partition("/series")[0], instance.partition("/instances")[0]
    kinds = [f"{place}/{kind}" for place in (study, series, instance) for kind in ("rendered", "thumbnail")]
    return [*kinds, f"{instance}/frames/1/rendered", f"{instance}/frames/1/thumbnail"]


def test_pictures_have_tags_too_by_their_look_and_are_not_made_again_for_who_has_them(http, series, monkeypatch, parts):
    looks = ("", "?viewport=4,4", "?window=40,400,linear", "?annotation=patient")
    answers = {path + look: http.get(path + look) for path in picture_paths(series[0]) for look in looks}
    assert all(answer.headers["etag"].startswith("W/") for answer in answers.values())
    assert len({answer.headers["etag"] for answer in answers.values()}) == len(answers)

    def refuse(*_):
        raise AssertionError("the store was read")

    monkeypatch.setattr(parts.store, "open", refuse)
    monkeypatch.setattr(parts.store, "read_range", refuse)
    for path, answer in answers.items():
        known = http.get(path, headers={"If-None-Match": answer.headers["etag"]})
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["etag"] == answer.headers["etag"]


def test_a_picture_with_a_name_in_it_is_asked_for_again_each_time(http, store, series):
    report = build_sr()
    store(report)
    path = f"{path_of(series[0])}/rendered"
    assert "max-age" in http.get(path).headers["cache-control"]
    assert http.get(f"{path}?annotation=patient").headers["cache-control"] == "private, no-cache"
    assert http.get(f"{path_of(report)}/rendered").headers["cache-control"] == "private, no-cache"


def test_a_correction_changes_the_tags_of_pictures(http, root, series):
    paths = picture_paths(series[0])
    before = [http.get(path).headers["etag"] for path in paths]
    body = {"kind": "correct-study", "study_instance_uid": series[0].StudyInstanceUID, "values": {"StudyID": "7"}}
    assert root.post("/corrections", json={"reason": "Typed wrong", **body}).status_code == 201
    assert not set(before) & {http.get(path).headers["etag"] for path in paths}


def test_a_picture_that_is_kept_shows_the_name_that_holds(http, root, series):
    path = f"{path_of(series[0])}/rendered?annotation=patient&viewport=400,400"
    before = http.get(path).content
    assert http.get(path).content == before
    made = correct_name(root, series[0])
    corrected = http.get(path).content
    assert corrected != before
    assert http.get(path).content == corrected
    assert root.post(f"/corrections/{made['id']}/undo", json={}).status_code == 200
    assert http.get(path).content == before


def test_a_picture_that_was_made_while_its_instance_changed_is_not_kept(http, root, series, monkeypatch):
    path = f"{path_of(series[0])}/rendered?annotation=patient&viewport=400,400"
    before = http.get(f"{path}&made=before").content
    made = []
    render = Renderer.render_instance

    def correct_and_render(*arguments, **named):
        if not made:
            made.append(correct_name(root, series[0]))
        return render(*arguments, **named)

    monkeypatch.setattr(Renderer, "render_instance", correct_and_render)
    assert http.get(path).content != before
    assert root.post(f"/corrections/{made[0]['id']}/undo", json={}).status_code == 200
    assert http.get(path).content == before


def correct_name(root, dataset):
    body = {"kind": "correct-study", "study_instance_uid": dataset.StudyInstanceUID, "values": {"PatientName": "NEW"}}
    answer = root.post("/corrections", json={"reason": "Typed wrong", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_head_gives_what_get_gives_and_a_condition_holds_for_it_too(http, store, series):
    encapsulated = build_encapsulated()
    store(as_part10(encapsulated, "1.2.840.10008.1.2.4.50"))
    for path in (*all_paths(series[0]), *all_paths(encapsulated)):
        got, head = http.get(path), http.head(path)
        expected = {**got.headers, "date": head.headers["date"]}
        expected.pop("transfer-encoding", None)  # of the body, which there is none of
        assert dict(head.headers) == expected
        assert http.head(path, headers={"If-None-Match": got.headers["etag"]}).status_code == 304


def test_nobody_reads_an_object_to_say_that_it_is_known_or_how_long_it_is(http, parts, series, monkeypatch):
    paths = all_paths(series[0])
    tags = tags_of(http, series[0])

    def refuse(*_):
        raise AssertionError("the store was read")

    monkeypatch.setattr(parts.store, "open", refuse)
    monkeypatch.setattr(parts.store, "read_range", refuse)
    for path, tag in zip(paths, tags, strict=True):
        assert http.get(path, headers={"If-None-Match": tag}).status_code == 304
        assert http.head(path).status_code == 200


def test_curl_keeps_a_tag_and_is_not_sent_the_same_twice(service, series, tmp_path):
    address, etag = service + all_paths(series[0])[0], tmp_path / "etag"
    arguments = ("--compressed", "--etag-save", etag, "--etag-compare", etag, address)
    etag.touch()
    assert curl(*arguments).startswith(b"[{")
    assert curl(*arguments) == b""


def test_a_repeatable_multipart_answer_has_a_strong_tag_and_a_made_one_a_weak_one(http, store):
    dataset = build_encapsulated()
    store(as_part10(dataset, "1.2.840.10008.1.2.4.50"), as_part10(plain := build_ct(), "1.2.840.10008.1.2"))
    for path in (path_of(dataset), path_of(plain)):
        response = http.get(path, headers=ANY_SYNTAX)
        assert response.headers["etag"].startswith('"')
        assert parse_parts(response) == parse_parts(http.get(path, headers=ANY_SYNTAX))
    assert http.get(path_of(plain)).headers["etag"].startswith('W/"')
    tag = http.get(path_of(plain)).headers["etag"]
    known = http.get(path_of(plain), headers={"If-None-Match": tag})
    assert (known.status_code, known.headers["etag"]) == (304, tag)
