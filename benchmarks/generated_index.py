"""An index filled with studies that nobody took: every row that a real archive of that size has, and no pixels.

Rows of patients, studies, series, names, sounds, requests and the change log are made by what ingest makes them with,
and loaded in bulk, which is the one way past the Ingestor and is for benchmarks only. Headers are left out, but for the
series that are asked for. Names are invented from common ones; the same seed makes the same archive.
"""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Table

from pacs.database.tables import (
    change,
    instance,
    instance_header,
    patient,
    person_name,
    person_name_sound,
    request_attribute,
    series,
    study,
)
from pacs.index import rows
from pacs.index.metadata import dump_text, encode_attributes
from pacs.model import CLINICAL_PARTITION, Attributes, ChangeKind, Door
from pacs.tags import tag_of, vr_of
from storage.keys import blob_key

UID_ROOT = "1.2.826.0.1.3680043.8.498."
"""Of every UID here; those sent later have it too, so that they fall among the others in the indexes."""

FIRST_DAY, LAST_DAY = date(2016, 1, 4), date(2025, 12, 31)
INSTANCES_PER_STUDY = 96
"""About, for the kinds of study below."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"

Add = Callable[[Table, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of examination: per cent of all studies, its series as (modality, class, how many, instances in each)."""

    share: int
    series: tuple[tuple[str, str, tuple[int, int], tuple[int, int]], ...]
    descriptions: tuple[str, ...]


_CLASS = "1.2.840.10008.5.1.4.1.1."
KINDS = (
    Kind(30, (("CR", f"{_CLASS}1", (1, 1), (1, 3)),), ("THORAX FACE", "BASSIN", "GENOU FACE ET PROFIL")),
    Kind(28, (("DX", f"{_CLASS}1.1", (1, 1), (1, 3)),), ("THORAX DEBOUT", "RACHIS LOMBAIRE", "EPAULE")),
    Kind(17, (("US", f"{_CLASS}6.1", (1, 1), (8, 40)),), ("ECHOGRAPHIE ABDOMINALE", "ECHOGRAPHIE PELVIENNE")),
    Kind(7, (("CT", f"{_CLASS}2", (3, 5), (150, 350)),), ("SCANNER CEREBRAL", "TDM THORACO-ABDOMINO-PELVIENNE")),
    Kind(6, (("MR", f"{_CLASS}4", (5, 8), (20, 60)),), ("IRM CEREBRALE", "IRM DU GENOU")),
    Kind(6, (("MG", f"{_CLASS}1.2", (1, 1), (4, 4)),), ("MAMMOGRAPHIE BILATERALE",)),
    Kind(3, (("OT", f"{_CLASS}7", (1, 1), (1, 1)),), ("COMPTE RENDU NUMERISE",)),
    Kind(2, (("XA", f"{_CLASS}12.1", (2, 6), (1, 2)),), ("CORONAROGRAPHIE",)),
    Kind(
        1,
        (("CT", f"{_CLASS}2", (1, 1), (250, 250)), ("PT", f"{_CLASS}128", (1, 1), (250, 250))),
        ("TEP-SCANNER AU FDG",),
    ),
)

_STEMS, _GIVEN, _ARABIC_FAMILY, _ARABIC_GIVEN = (
    text.split()
    for text in (
        """
        Alaoui Amrani Bennani Benali Berrada Bouzidi Chraibi Cherkaoui Daoudi Fassi Filali Ghazali Haddad Hamdaoui
        Hassani Idrissi Jabri Kabbaj Kadiri Khalil Lahlou Mansouri Mernissi Naciri Ouazzani Rachidi Saidi Sebti
        Tahiri Tazi Yacoubi Zaoui Ziani Slimani Brahimi Belkacem Toumi Trabelsi Gharbi Martin Bernard Dubois
        Lefebvre Moreau Laurent Girard Bonnet Dupont Lambert Fontaine Rousseau Vincent Muller Faure Mercier
        Blanc Guerin Boyer Chevalier Perrin
        """,
        """
        Mohamed Ahmed Fatima Khadija Youssef Amina Hassan Hussein Karim Leila Nadia Omar Rachid Samira Said Zineb Hicham
        Imane Ilyas Salma Mehdi Meryem Nabil Naima Mustapha Malika Driss Houda Adil Sanaa Jean Marie Pierre Sophie
        Michel Claire Philippe Nathalie Alain Isabelle Jacques Catherine Luc Hélène André Françoise Rémi Céline Noël Zoé
        """,
        "العلوي الأمراني بناني بنعلي برادة البوزيدي الداودي الفاسي الفيلالي الحداد الإدريسي القادري المنصوري الناصري",
        "محمد أحمد فاطمة خديجة يوسف أمينة حسن حسين كريم ليلى نادية عمر رشيد سميرة سعيد زينب مريم مصطفى",
    )
)
_PREFIXES = ("", "", "", "", "El ", "El ", "Ben ", "Ait ", "Bou")


def generate(instances: int, add: Add, *, series_with_headers: int = 1, seed: int = 5) -> None:
    """Hand every row of an archive of ``instances`` instances to ``add``, a level above always before what it holds.

    The first ``series_with_headers`` series of CT have their headers too.
    """
    archive = _Archive(instances, add, random.Random(seed), series_with_headers)
    while archive.left:
        archive.add_study()


class _Archive:
    """Studies in the order of their days, with all that hangs on them."""

    def __init__(self, instances: int, add: Add, chance: random.Random, series_with_headers: int) -> None:
        self.left = instances
        self._instances = instances
        self._add = add
        self._chance = chance
        self._headers_left = series_with_headers
        self._patients: list[Attributes] = []
        self._ids: dict[Table, int] = defaultdict(int)
        self._kinds = [kind for kind in KINDS for _ in range(kind.share)]

    def add_study(self) -> None:
        chance = self._chance
        kind, (patient_row_id, of_patient) = chance.choice(self._kinds), self._find_patient()
        day, stored_at = self._day()
        number, uid = self._next_id(study), self._uid()
        clock = f"{chance.randint(7, 19):02}{chance.randint(0, 59):02}{chance.randint(0, 59):02}"
        attributes = of_patient | _attributes(
            StudyDate=f"{day:%Y%m%d}",
            StudyTime=clock,
            AccessionNumber=f"A{day:%y}{number:08}",
            StudyID=f"{number}",
            StudyDescription=chance.choice(kind.descriptions),
            ReferringPhysicianName={"Alphabetic": f"{chance.choice(_STEMS)}^{chance.choice(_GIVEN)}"},
            SpecificCharacterSet="ISO_IR 192",
        )
        values = rows.study_values(dict(sorted(attributes.items())), "")
        times = {"created_at": stored_at, "updated_at": stored_at}
        place = {"id": number, "partition_id": CLINICAL_PARTITION, "patient_row_id": patient_row_id}
        self._add(study, place | {"study_instance_uid": uid} | values | times)
        names = rows.name_rows(attributes)
        for table, found in ((person_name, names), (person_name_sound, rows.sound_rows(names))):
            for row in found:
                self._add(table, {"study_row_id": number} | row)
        series_number = 0
        for modality, sop_class_uid, how_many, length in kind.series:
            for _ in range(chance.randint(*how_many)):
                series_number += 1
                count = min(self.left, chance.randint(*length))
                if count:
                    of_series = self._series_attributes(modality, series_number, attributes)
                    self._add_series((number, uid), of_series, sop_class_uid, count, stored_at)

    def _series_attributes(self, modality: str, series_number: int, of_study: Attributes) -> Attributes:
        request = _attributes(
            RequestedProcedureID=f"RP{self._ids[series]}", ScheduledProcedureStepID=f"SPS{self._ids[series]}"
        )
        requested = {"RequestAttributesSequence": request} if self._chance.random() < 0.6 else {}
        return _attributes(
            Modality=modality,
            SeriesNumber=series_number,
            SeriesDescription=f"{modality} {self._chance.choice(('AXIAL', 'FACE', 'PROFIL', 'CORONAL', 'T2'))}",
            SeriesDate=of_study[tag_of("StudyDate")]["Value"][0],
            SeriesTime=of_study[tag_of("StudyTime")]["Value"][0],
            BodyPartExamined=self._chance.choice(("CHEST", "HEAD", "KNEE", "ABDOMEN", "BREAST")),
            InstitutionName="CENTRE D'IMAGERIE",
            StationName=f"{modality}{self._chance.randint(1, 4)}",
            Manufacturer="GENERATED",
            **requested,
        )

    def _add_series(
        self, of_study: tuple[int, str], attributes: Attributes, sop_class_uid: str, count: int, stored_at: int
    ) -> None:
        (study_row_id, study_uid), number, uid = of_study, self._next_id(series), self._uid()
        self.left -= count
        kept = {"instance_count": count, "sop_class_uids": sop_class_uid}
        times = {"created_at": stored_at, "updated_at": stored_at}
        place = {"id": number, "partition_id": CLINICAL_PARTITION, "study_row_id": study_row_id}
        values = rows.series_values(dict(sorted(attributes.items())))
        self._add(series, place | {"series_instance_uid": uid} | values | kept | times)
        for row in rows.request_rows(attributes):
            self._add(request_attribute, {"id": self._next_id(request_attribute), "series_row_id": number} | row)
        has_headers = self._headers_left > 0 and attributes[tag_of("Modality")]["Value"] == ["CT"]
        self._headers_left -= has_headers
        for instance_number in range(1, count + 1):
            self._add_instance((number, study_uid, uid), sop_class_uid, instance_number, stored_at)
            if has_headers:
                self._add_header(attributes, sop_class_uid, instance_number)

    def _add_instance(
        self, of_series: tuple[int, str, str], sop_class_uid: str, instance_number: int, stored_at: int
    ) -> None:
        (series_row_id, study_uid, series_uid), row_id, uid = of_series, self._next_id(instance), self._uid()
        digest = self._chance.randbytes(32)
        row = {
            "id": row_id,
            "partition_id": CLINICAL_PARTITION,
            "series_row_id": series_row_id,
            "sop_instance_uid": uid,
            "sop_class_uid": sop_class_uid,
            "instance_number": instance_number,
            "transfer_syntax_uid": _EXPLICIT_LITTLE,
            "blob_key": blob_key(digest.hex()),
            "blob_offset": 0,
            "blob_length": 526_000,
            "dataset_digest": digest,
            "stored_at": stored_at,
        }
        self._add(instance, row)
        uids = {"study_instance_uid": study_uid, "series_instance_uid": series_uid, "sop_instance_uid": uid}
        log = {"sequence": row_id, "transaction_id": 0, "partition_id": CLINICAL_PARTITION, "at": stored_at}
        self._add(change, log | {"kind": ChangeKind.INSTANCE_STORED.value, "facts": _FACTS} | uids)

    def _add_header(self, of_series: Attributes, sop_class_uid: str, instance_number: int) -> None:
        summary = _attributes(
            SOPClassUID=sop_class_uid, InstanceNumber=instance_number, Rows=512, Columns=512, BitsAllocated=16
        )
        position = [-120.5, -120.5, instance_number * 1.25]
        rest = _attributes(ImagePositionPatient=position, PixelSpacing=[0.47, 0.47], KVP=120, SliceThickness=1.25)
        header = {
            "instance_row_id": self._ids[instance],
            "summary": dump_text(summary),
            "attributes": encode_attributes(of_series | summary | rest),
            "bulk": '{"offset":0,"deflated":false,"pixels":null,"bulk":[]}',
            "layout": b"",
            "overlay": "",
            "origin": "",
        }
        self._add(instance_header, header)

    def _find_patient(self) -> tuple[int, Attributes]:
        """Return somebody who was here before, or more often than not somebody new."""
        known = len(self._patients)
        if known and self._chance.random() < 0.45:
            at = self._chance.randrange(known)
            return at + 1, self._patients[at]
        patient_id = f"{100_000 + known}"
        attributes = _attributes(
            PatientName=self._name(),
            PatientID=patient_id,
            PatientBirthDate=f"{date(1930, 1, 1) + timedelta(days=self._chance.randrange(30_000)):%Y%m%d}",
            PatientSex=self._chance.choice("MF"),
        )
        self._patients.append(attributes)
        own = {"id": known + 1, "partition_id": CLINICAL_PARTITION, "created_at": self._day()[1], "overlay": ""}
        identity = {"identity": rows.identity_of("", patient_id, "")}
        self._add(patient, own | rows.patient_values(attributes, "") | identity)
        return known + 1, attributes

    def _name(self) -> dict[str, str]:
        chance = self._chance
        arabic = f"{chance.choice(_ARABIC_FAMILY)}^{chance.choice(_ARABIC_GIVEN)}"
        if chance.random() < 0.08:
            return {"Alphabetic": arabic}
        given = " ".join(chance.sample(_GIVEN, 2 if chance.random() < 0.3 else 1))
        family = " ".join(chance.sample(_STEMS, 2 if chance.random() < 0.4 else 1))
        latin = {"Alphabetic": f"{chance.choice(_PREFIXES)}{family}^{given}"}
        return latin | ({"Ideographic": arabic} if chance.random() < 0.1 else {})

    def _day(self) -> tuple[date, int]:
        """Return the day that the archive has come to, and noon of it in microseconds since 1970."""
        done = (self._instances - self.left) / self._instances
        day = FIRST_DAY + timedelta(days=int(done * (LAST_DAY - FIRST_DAY).days))
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
        return day, (noon - _EPOCH) // _MICROSECOND

    def _next_id(self, table: Table) -> int:
        self._ids[table] += 1
        return self._ids[table]

    def _uid(self) -> str:
        return f"{UID_ROOT}{self._chance.getrandbits(120)}"


_FACTS = dump_text(
    {
        "door": Door.DIMSE,
        "address": "192.0.2.7",
        "calling_ae_title": "MODALITY",
        "called_ae_title": "PACS",
        "issuer_of_patient_id": "",
    }
)


def _attributes(**values: Any) -> Attributes:
    """Return a data set in DICOM JSON from keywords with one value each."""
    return {
        tag_of(keyword): {"vr": vr_of(keyword), "Value": value if isinstance(value, list) else [value]}
        for keyword, value in values.items()
    }
