"""Patients that nobody is, with every value that could tell who they were, for tests that look for any of these values.

The names are syllables in an order that no family has; the numbers are of no register.
"""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.builders import build_ct, build_mr, build_sr, new_uid

ROWS = COLUMNS = 64


@dataclass(frozen=True)
class Patient:
    """What is known of one patient."""

    family: str
    given: str
    arabic_family: str
    arabic_given: str
    patient_id: str
    national_id: str
    birth_date: str
    sex: str
    age: str
    phone: str
    street: str
    accession: str
    study_date: str
    physician: str
    thickness: str

    @property
    def name(self) -> str:
        """The name as a modality writes it, with its Arabic spelling as the second group."""
        return f"{self.family}^{self.given}={self.arabic_family}^{self.arabic_given}"

    @property
    def values(self) -> list[str]:
        """Everything that must not be found anywhere."""
        digits = self.phone.replace(" ", "")
        texts = [self.family, self.given, self.arabic_family, self.arabic_given, self.patient_id, self.national_id]
        return [
            *texts,
            self.birth_date,
            self.phone,
            digits,
            self.street,
            self.accession,
            self.study_date,
            self.physician,
        ]


INSTITUTION, DEPARTMENT, STATION = "Clinique Zorbavel", "Radiologie Quintmar", "SCANZORB7"
SERIAL = "SN-884413-ZB"
PLACES = [INSTITUTION, DEPARTMENT, STATION, SERIAL, "Zorbavel"]

STUDY_DATE = "20241105"
"""All were examined on one day: no day that a patient's dates are moved to is then by chance another one's."""

_FAMILIES = ("Bzouqnari", "Tlemfouadi", "Ouzghalmi", "Kherbanoui", "Dghoumrani", "Msaddqari")
_GIVEN = ("Nadwiyal", "Samroual", "Hichmane", "Larbouda", "Zinebala", "Youssrane")
_ARABIC_FAMILIES = ("بزوقناري", "تلمفوادي", "اوزغالمي", "خربنوي", "دغومراني", "مصدقاري")
_ARABIC_GIVEN = ("نضويال", "سمروال", "هشماني", "العربودة", "زينبالا", "يسراني")


def build_patients(count: int = 6) -> list[Patient]:
    """Return patients that differ in everything, of ages between 31 and 66."""
    return [
        Patient(
            family=_FAMILIES[index],
            given=_GIVEN[index],
            arabic_family=_ARABIC_FAMILIES[index],
            arabic_given=_ARABIC_GIVEN[index],
            patient_id=f"IPP77{index}3141",
            national_id=f"QX{904211 + index}",
            birth_date=f"19{58 + index * 7}0{index + 1}17",
            sex="FM"[index % 2],
            age=f"0{66 - index * 7}Y",
            phone=f"06 71 8{index} 25 9{index}",
            street=f"{112 + index} impasse des Gourzanes",
            accession=f"ACX{55120 + index}",
            study_date=STUDY_DATE,
            physician=f"Dr Abdelfouq{index}",
            thickness=("1.25", "2.5", "5")[index % 3],
        )
        for index in range(count)
    ]


def build_studies(patient: Patient, slices: int = 4) -> list[Dataset]:
    """Return a study: CT, MR, a report and a screen shot, with the patient's values wherever they may stand."""
    study = new_uid()
    common = _common(patient) | {"StudyInstanceUID": study}
    ct = _build_volume(patient, common, slices)
    mr = build_mr(**common, SeriesInstanceUID=new_uid(), SeriesNumber=2, SeriesDescription=f"T1 {patient.family}")
    report = build_sr(**common, SeriesInstanceUID=new_uid(), SeriesNumber=3)
    report.ContentSequence[0].ContentSequence[0].TextValue = f"{patient.given} {patient.family}: nothing of note."
    shot = build_ct(**common, SeriesInstanceUID=new_uid(), SeriesNumber=4, SeriesDescription=f"Dose {patient.family}")
    shot.BurnedInAnnotation = "YES"
    return [*ct, mr, report, shot]


def known_values(patients: list[Patient], datasets: list[Dataset]) -> list[str]:
    """Return everything that must not be found: of the patients, of the place, and every UID that is no standard's."""
    uids = {str(element.value) for one in datasets for element in _all_elements(one) if element.VR == "UI"}
    private = [uid for uid in sorted(uids) if uid and not uid.startswith("1.2.840.10008.")]
    return [*PLACES, *(value for patient in patients for value in patient.values), *private]


def _all_elements(dataset: Dataset):
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from _all_elements(item)


def _common(patient: Patient) -> dict[str, object]:
    request = Dataset()
    request.RequestedProcedureDescription = f"Thorax {patient.family}"
    request.RequestedProcedureID = patient.accession
    request.RequestingPhysician = patient.physician
    referenced = Dataset()
    referenced.ReferencedSOPClassUID = "1.2.840.10008.3.1.2.3.1"
    referenced.ReferencedSOPInstanceUID = new_uid()
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": patient.name,
        "PatientID": patient.patient_id,
        "OtherPatientIDs": patient.national_id,
        "PatientBirthDate": patient.birth_date,
        "PatientSex": patient.sex,
        "PatientAge": patient.age,
        "PatientAddress": patient.street,
        "PatientTelephoneNumbers": patient.phone,
        "PatientComments": f"call {patient.given} at {patient.phone}, CIN {patient.national_id}",
        "AccessionNumber": patient.accession,
        "StudyID": patient.accession,
        "StudyDate": patient.study_date,
        "SeriesDate": patient.study_date,
        "AcquisitionDate": patient.study_date,
        "ContentDate": patient.study_date,
        "StudyDescription": f"CT chest {patient.family}",
        "ReferringPhysicianName": patient.physician,
        "OperatorsName": patient.physician,
        "InstitutionName": INSTITUTION,
        "InstitutionalDepartmentName": DEPARTMENT,
        "StationName": STATION,
        "DeviceSerialNumber": SERIAL,
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "SOMATOM Force",
        "ImageComments": f"{patient.arabic_given} {patient.arabic_family}",
        "RequestAttributesSequence": Sequence([request]),
        "ReferencedStudySequence": Sequence([referenced]),
    }


def _build_volume(patient: Patient, common: dict[str, object], slices: int) -> list[Dataset]:
    series, frame = new_uid(), new_uid()
    made = []
    for index in range(slices):
        one = build_ct(
            **common,
            SeriesInstanceUID=series,
            FrameOfReferenceUID=frame,
            SeriesNumber=1,
            InstanceNumber=index + 1,
            SeriesDescription=f"Thorax {patient.thickness} {patient.given}",
            ProtocolName=f"CHEST {patient.national_id}",
            PatientPosition="HFS",
            ConvolutionKernel="B30f",
            SliceThickness=patient.thickness,
            BurnedInAnnotation="NO",
        )
        one.Rows, one.Columns = ROWS, COLUMNS
        one.ImagePositionPatient = ["-16", "-16", str(index * float(patient.thickness))]
        one.PixelData = _draw(index, slices)
        block = one.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", patient.name.encode() + b"\0" * (len(patient.name.encode()) % 2))
        block.add_new(0x11, "LO", patient.patient_id)
        made.append(one)
    return made


def _draw(index: int, slices: int) -> bytes:
    """Return a slice of something round with two dark sides, in the units of a CT."""
    y, x = np.mgrid[-1 : 1 : ROWS * 1j, -1 : 1 : COLUMNS * 1j]
    body = np.where(x**2 / 0.8 + y**2 / 0.5 < 1, 1064, 24)
    size = 0.5 + 0.4 * np.sin(np.pi * (index + 1) / (slices + 1))
    for side in (-0.4, 0.4):
        body = np.where((x - side) ** 2 / 0.09 + y**2 / 0.25 < size, 224, body)
    return body.astype("<u2").tobytes()
