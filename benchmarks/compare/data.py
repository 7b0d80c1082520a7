"""What is stored and asked for: series with real-looking pixels, built in a folder and never downloaded."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset, uid

from tests.builders import as_part10, build_ct, build_dataset, build_image, new_uid

SIDE = 512
PATIENTS = 10


@dataclass(frozen=True)
class Series:
    """The files of one series, and its UIDs in the files' order."""

    files: tuple[Path, ...]
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uids: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where DICOMweb has the series, below its root."""
        return f"/studies/{self.study_instance_uid}/series/{self.series_instance_uid}"

    @property
    def instance_paths(self) -> list[str]:
        """Where DICOMweb has the instances, below its root."""
        return [f"{self.path}/instances/{sop_instance_uid}" for sop_instance_uid in self.sop_instance_uids]


def build_slices(folder: Path, count: int) -> Series:
    """Write CT slices of 525 KB: a body that changes from slice to slice, under a detector's noise."""
    study, series = new_uid(), new_uid()
    datasets = (
        build_ct(
            StudyInstanceUID=study,
            SeriesInstanceUID=series,
            InstanceNumber=number + 1,
            Rows=SIDE,
            Columns=SIDE,
            PixelData=pixels.tobytes(),
        )
        for number, pixels in enumerate(_iter_slices(count))
    )
    return _write(folder, datasets)


def build_multiframe(folder: Path, frames: int) -> Series:
    """Write one instance of so many frames of half a megabyte."""
    dataset = build_dataset(SOPClassUID=str(uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage))
    dataset.update(build_image(frames=frames))
    dataset.Rows = dataset.Columns = SIDE
    dataset.PixelData = b"".join(pixels.tobytes() for pixels in _iter_slices(frames))
    return _write(folder, iter([dataset]))


def build_radiographs(folder: Path, studies: int) -> list[Series]:
    """Write small CR images, one a study, of ``PATIENTS`` patients."""
    found = []
    for number in range(studies):
        dataset = build_dataset(
            SOPClassUID=str(uid.ComputedRadiographyImageStorage),
            Modality="CR",
            PatientID=f"CR-{number % PATIENTS}",
            PatientName=f"RADIOGRAPH^{number % PATIENTS}",
            AccessionNumber=f"A{number}",
        )
        dataset.update(build_image(rows=128, columns=128))
        found.append(_write(folder / str(number), iter([dataset])))
    return found


def _iter_slices(count: int) -> Iterator[np.ndarray]:
    """Yield pixels of 12 bits; the noise is drawn once and shifted, which is quicker and compresses no better."""
    generator = np.random.default_rng(7)
    noise = generator.normal(0, 20, (SIDE, SIDE))
    rows, columns = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    body = (rows**2 / 0.5 + columns**2 / 0.8 < 1) * 1000.0
    for number in range(count):
        vessel = (np.hypot(rows, columns - number / count) < 0.2) * 300
        shifted = np.roll(noise, generator.integers(SIDE, size=2), axis=(0, 1))
        yield (body + vessel + shifted).clip(0, 4095).astype("<u2")


def _write(folder: Path, datasets: Iterator[Dataset]) -> Series:
    folder.mkdir(parents=True)
    files, sop_instance_uids = [], []
    for number, dataset in enumerate(datasets):
        file = folder / f"{number:05}.dcm"
        file.write_bytes(as_part10(dataset))
        files.append(file)
        sop_instance_uids.append(dataset.SOPInstanceUID)
    return Series(tuple(files), dataset.StudyInstanceUID, dataset.SeriesInstanceUID, tuple(sop_instance_uids))
