"""Structured reports as something to be read (PS3.3 C.17.3), and as a page that nothing in them can take over."""

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import pydicom
import pytest
from pydicom.sequence import Sequence

from pacs.imaging import report as reports
from pacs.imaging.report import Reference, format_date, format_date_time, format_names, format_time, read_report
from pacs.imaging.report_page import CONTENT_SECURITY_POLICY, write_html, write_text
from tests.builders import as_part10, build_code, build_dataset, build_sr, new_uid
from tests.conftest import CORPUS
from tests.imaging import Memory, open_instance

HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&\u202e\0\x1b"
NAMES = (
    "sr/sr-example__sr.dcm",
    "sr/sr_document.dcm",
    "sr/sr_document_with_multiple_groups.dcm",
    "ko-pr/key_object.dcm",
)
REPORTS = [Path(__file__).parents[3] / "sample_data/ct-head-sr/report.dcm", *(CORPUS / "sr" / name for name in NAMES)]
ALLOWED = {"html", "head", "meta", "title", "style", "body", "header", "main", "section", "div", "span", "bdi", "p"}
ALLOWED |= {"h1", "h2", "h3", "h4", "h5", "h6", "dl", "dt", "dd", "ul", "li", "a"}


class Page(HTMLParser):
    """What a browser sees: which elements with which attributes, and the text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def item(value_type, name="Finding", children=(), relationship="CONTAINS", **keywords):
    dataset = build_dataset()
    dataset.clear()
    dataset.RelationshipType, dataset.ValueType = relationship, value_type
    if name:
        dataset.ConceptNameCodeSequence = Sequence([build_code("1", "99TEST", name)])
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    if children:
        dataset.ContentSequence = Sequence(children)
    return dataset


def part(**keywords):
    dataset = build_dataset()
    dataset.clear()
    for keyword, value in keywords.items():
        setattr(dataset, keyword, value)
    return dataset


def number(value, code="mm", meaning="millimeter", scheme="UCUM"):
    measured = part(NumericValue=value, MeasurementUnitsCodeSequence=Sequence([build_code(code, scheme, meaning)]))
    return item("NUM", "Diameter", MeasuredValueSequence=Sequence([measured]))


def language(tag):
    return item(
        "CODE",
        "",
        relationship="HAS CONCEPT MOD",
        ConceptNameCodeSequence=Sequence([build_code("121049", "DCM", "Language")]),
        ConceptCodeSequence=Sequence([build_code(tag, "RFC5646", tag)]),
    )


def report(*items, **keywords):
    dataset = build_sr(SpecificCharacterSet="ISO_IR 192", **keywords)
    dataset.ContentSequence = Sequence(items)
    return read_report(open_instance(Memory(as_part10(dataset))).header.attributes)


def page(read, link=lambda _: ""):
    return Page(write_html(read, link))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (item("TEXT", TextValue="Nothing of note."), "Nothing of note."),
        (item("CODE", ConceptCodeSequence=Sequence([build_code("39607008", "SCT", "Lung")])), "Lung (39607008, SCT)"),
        (item("CODE", ConceptCodeSequence=Sequence([build_code("39607008", "SCT", "")])), "39607008 (39607008, SCT)"),
        (number("12.5"), "12.5 mm"),
        (number("3", "1", "no units"), "3"),
        (number("40", "[hnsf'U]", "Hounsfield unit"), "40 Hounsfield unit"),
        (number("7", "{beats}/min", "beats per minute"), "7 beats per minute"),
        (item("DATE", Date="20240229"), "2024-02-29"),
        (item("TIME", Time="093015.25"), "09:30:15"),
        (item("DATETIME", DateTime="20240229093015+0100"), "2024-02-29 09:30:15 +0100"),
        (item("PNAME", PersonName="Doe^Jane^Q^Dr^PhD"), "Dr Jane Q Doe PhD"),
        (item("UIDREF", UID="1.2.3"), "1.2.3"),
        (item("SCOORD", GraphicType="CIRCLE", GraphicData=[1.5, 2, 3, 4]), "CIRCLE (2) (1.5, 2, 3, 4)"),
        (item("SCOORD3D", GraphicType="POINT", GraphicData=[1, 2, 3]), "POINT (1, 2, 3)"),
        (item("TCOORD", TemporalRangeType="POINT", ReferencedSamplePositions=[7, 9]), "POINT (7, 9)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_kind_of_value_is_said_in_words(content, said):
    read = report(content)
    heading = content.ConceptNameCodeSequence[0].CodeMeaning
    assert f"{heading} : {said}".replace(" :", ":") in page(read).text.replace(" :", ":")
    assert f"{heading}: {said}" in write_text(read)


def test_missing_number_says_why():
    why = Sequence([build_code("114006", "DCM", "Measurement failure")])
    read = report(item("NUM", "Diameter", NumericValueQualifierCodeSequence=why))
    assert "Diameter: Measurement failure" in write_text(read)


def test_headings_nest_as_the_content_does():
    inner = item("CONTAINER", "Lungs", [item("TEXT", "Finding", TextValue="Clear.")])
    shown = page(report(item("CONTAINER", "Findings", [inner])))
    assert [tag for tag, _ in shown.elements if re.fullmatch("h[1-6]", tag)] == ["h1", "h2", "h3"]
    assert not shown.open


def test_properties_of_a_value_stand_below_it():
    finding = item("TEXT", TextValue="Nodule", children=[number("12.5")])
    lines = write_text(report(finding)).splitlines()
    assert lines[-2:] == ["Finding: Nodule", "  Diameter: 12.5 mm"]
    assert ("ul", {}) in page(report(finding)).elements


def test_deepest_report_that_comes_in_is_shown():
    content = item("TEXT", TextValue="At the very bottom.")
    for _ in range(28):  # every level of content is one of the 64 levels of sequences that a header may have
        content = item("CONTAINER", "Level", [content])
    assert "At the very bottom." in page(report(content)).text


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_nothing_in_a_report_becomes_markup():
    code = Sequence([build_code(HOSTILE[:16], HOSTILE[:16], HOSTILE[:60])])
    content = [
        item("TEXT", HOSTILE[:60], TextValue=HOSTILE),
        item("CODE", HOSTILE[:60], ConceptCodeSequence=code),
        item("PNAME", HOSTILE[:60], PersonName=HOSTILE[:60]),
        item("UIDREF", UID="<b>"),
        item("IMAGE", ReferencedSOPSequence=Sequence([
            part(ReferencedSOPClassUID="<script>", ReferencedSOPInstanceUID='"><script>')])),
    ]  # fmt: skip
    read = report(*content, PatientName=HOSTILE[:60], PatientID=HOSTILE[:60], CompletionFlag="<SCRIPT>")
    shown = page(read, lambda _: '/x"><script>alert(3)</script>')
    assert {tag for tag, _ in shown.elements} <= ALLOWED
    assert not any(name.startswith("on") or name == "style" for _, attrs in shown.elements for name in attrs)
    assert "<script>alert(1)</script>" in shown.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", write_html(read, lambda _: ""))


def test_page_loads_nothing_and_says_so():
    text = write_html(report(item("TEXT", TextValue="x")), lambda _: "")
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "script-src" not in CONTENT_SECURITY_POLICY
    (policy,) = [attrs["content"] for tag, attrs in Page(text).elements if "http-equiv" in attrs]
    assert CONTENT_SECURITY_POLICY.startswith(policy)


@pytest.mark.parametrize(
    ("tag", "title", "expected"),
    [
        ("fr-FR", "Compte rendu", ("fr-FR", "ltr", "Non vérifié")),
        ("ar", "Report", ("ar", "rtl", "غير مُصادق عليه")),
        ("fra", "Compte rendu", ("fr", "ltr", "Non vérifié")),
        ("en", "Report", ("en", "ltr", "Not verified")),
        ("de", "Befund", ("de", "ltr", "Not verified")),
        ('" onload=', "Report", ("en", "ltr", "Not verified")),
        (None, "Report", ("en", "ltr", "Not verified")),
        (None, "(1) تقرير", ("en", "rtl", "Not verified")),
    ],
)
def test_page_is_in_the_report_s_language_and_runs_its_way(tag, title, expected):
    concept = Sequence([build_code("18748-4", "LN", title)])
    shown = page(report(*([language(tag)] if tag else []), ConceptNameCodeSequence=concept))
    attrs = dict(shown.elements)["html"]
    assert (attrs["lang"], attrs["dir"]) == expected[:2]
    assert expected[2] in shown.text


def test_every_text_runs_its_own_way():
    read = report(item("TEXT", TextValue="عقيدة 12 mm"), PatientName="Benali^Fatima=بنعلي^فاطمة")
    assert "<bdi>Fatima Benali</bdi>, <bdi>فاطمة بنعلي</bdi>, <bdi>BUILT-1</bdi>" in write_html(read, lambda _: "")
    assert '<bdi class="value">عقيدة 12 mm</bdi>' in write_html(read, lambda _: "")


def test_who_verified_a_report_is_named():
    observer = part(
        VerifyingObserverName="El Fassi^Ahmed^^Dr", VerifyingOrganization="Clinic", VerificationDateTime="20240301"
    )
    read = report(VerificationFlag="VERIFIED", VerifyingObserverSequence=Sequence([observer]))
    assert "Verified by: Dr Ahmed El Fassi, Clinic, 2024-03-01" in write_text(read)
    assert read.status == ("COMPLETE", "VERIFIED")


def test_images_are_links_where_the_evidence_places_them():
    study, series, image, elsewhere = (new_uid() for _ in range(4))
    reference = part(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=image)
    evidence = part(
        StudyInstanceUID=study,
        ReferencedSeriesSequence=Sequence(
            [part(SeriesInstanceUID=series, ReferencedSOPSequence=Sequence([reference]))]
        ),
    )
    shown_frames = part(
        ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=image, ReferencedFrameNumber=[2, 5]
    )
    unknown = part(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.4", ReferencedSOPInstanceUID=elsewhere)
    read = report(
        item("IMAGE", "Source", ReferencedSOPSequence=Sequence([shown_frames])),
        item("IMAGE", "Source", ReferencedSOPSequence=Sequence([unknown])),
        CurrentRequestedProcedureEvidenceSequence=Sequence([evidence]),
    )
    references = [one.references[0] for one in read.items]
    assert references[0] == Reference("CT Image", image, (2, 5), study, series)
    assert references[1] == Reference("MR Image", elsewhere)
    shown = page(read, lambda one: one.study_instance_uid and f"/{one.sop_instance_uid}?a=1&b=2")
    assert [attrs["href"] for tag, attrs in shown.elements if tag == "a"] == [f"/{image}?a=1&b=2"]
    assert "CT Image, frames 2, 5" in shown.text


def test_item_that_refers_to_another_leads_there():
    target = item("TEXT", TextValue="first")
    by_reference = part(RelationshipType="INFERRED FROM", ReferencedContentItemIdentifier=[1, 1])
    shown = page(report(target, item("TEXT", TextValue="second", children=[by_reference])))
    (address,) = (attrs["href"] for tag, attrs in shown.elements if tag == "a")
    assert address.removeprefix("#") in {attrs.get("id") for _, attrs in shown.elements}


def said_in(item):
    """Yield what every content item of a report says, as pydicom reads it."""
    for child in item.get("ContentSequence", []):
        for name in child.get("ConceptNameCodeSequence", []):
            yield name.CodeMeaning
        if child.get("TextValue"):
            yield " ".join(child.TextValue.split())
        for code in child.get("ConceptCodeSequence", []):
            yield code.CodeMeaning
        for measured in child.get("MeasuredValueSequence", []):
            yield f"{float(measured.NumericValue):.12g}"
        yield from said_in(child)


@pytest.mark.parametrize("path", [path for path in REPORTS if path.exists()], ids=lambda path: path.name)
def test_nothing_of_a_real_report_is_left_out(path):
    data = path.read_bytes()
    shown = page(read_report(open_instance(Memory(data)).header.attributes))
    said = list(said_in(pydicom.dcmread(path)))
    assert said
    assert [words for words in said if " ".join(words.split()) not in shown.text] == []
    assert not shown.open


def test_text_kept_apart_leaves_a_mark():
    assert "Finding: […]" in write_text(report(item("TEXT", TextValue="x" * 70_000)))


def test_report_that_is_cut_says_so(monkeypatch):
    monkeypatch.setattr(reports, "MAX_ITEMS", 5)
    read = report(*(item("TEXT", TextValue=str(number)) for number in range(9)))
    assert len(read.items) == 5
    assert "longer than what is shown" in page(read).text
    assert "longer than what is shown" in write_text(read)


def test_document_without_content_says_whose_it_is():
    read = read_report(open_instance(Memory(as_part10(build_dataset(Modality="SR")))).header.attributes)
    assert "Patient: BUILT TEST, BUILT-1" in html.unescape(write_text(read))


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (format_date, "20240229", "2024-02-29"),
        (format_date, "2024", "2024"),
        (format_date, "29.02.2024", "29.02.2024"),
        (format_time, "0930", "09:30"),
        (format_time, "soon", "soon"),
        (format_date_time, "202402", "2024-02"),
        (format_date_time, "20240229093015.123456-0500", "2024-02-29 09:30:15 -0500"),
        (format_date_time, "yesterday", "yesterday"),
    ],
)
def test_dates_are_read_alike_everywhere(form, text, expected):
    assert form(text) == expected


def test_name_in_two_scripts_is_given_in_both():
    assert format_names({"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}) == ("Tarou Yamada", "太郎 山田")
    assert format_names({"Alphabetic": "Doe", "Phonetic": "Doe"}) == ("Doe",)
    assert format_names(None) == ()


VALUES = [None, -1, 7, 1e300, float("nan"), "", "x", {}, {"0040A040": {"vr": "CS", "Value": ["TEXT"]}}, []]


@pytest.mark.parametrize("seed", range(10))
def test_nothing_in_a_report_breaks_its_reader(seed):
    """Whatever the values of a report are, it becomes a page with what can be read of it."""
    random = Random(seed)
    reference = part(ReferencedSOPClassUID="1.2.840.10008.5.1.4.1.1.2", ReferencedSOPInstanceUID=new_uid())
    evidence = part(ReferencedSeriesSequence=Sequence([part(ReferencedSOPSequence=Sequence([reference]))]))
    dataset = build_sr(
        CurrentRequestedProcedureEvidenceSequence=Sequence([evidence]),
        VerifyingObserverSequence=Sequence([part(VerifyingObserverName="A^B", VerificationDateTime="2024")]),
    )
    items = [number("1"), item("PNAME", PersonName="A"), item("SCOORD", GraphicData=[1, 2], GraphicType="POINT")]
    items += [language("fr"), item("IMAGE", ReferencedSOPSequence=Sequence([reference])), item("DATE", Date="20240101")]
    dataset.ContentSequence = Sequence([item("CONTAINER", "Findings", items), *items])
    whole = open_instance(Memory(as_part10(dataset))).header.attributes

    def damage(level):
        damaged = {}
        for tag, element in level.items():
            if random.random() < 0.1:
                damaged[tag] = {"vr": element["vr"], "Value": random.choices(VALUES, k=random.randrange(4))}
            elif element["vr"] == "SQ":
                damaged[tag] = {"vr": "SQ", "Value": [damage(item) for item in element["Value"]]}
            else:
                damaged[tag] = element
        return damaged

    for _ in range(50):
        read = read_report(damage(whole))
        assert not page(read).open
        write_text(read)
