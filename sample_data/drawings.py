# ruff: noqa: INP001 - a script beside its data, not a package
"""The pictures that build.py computes: phantoms and patterns, drawn from formulas and one seeded random generator."""

import numpy as np
from numpy.typing import NDArray

# Modified Shepp-Logan head, a public formula: signal, half axes and centre (half the field is 1), turn in degrees.
_ELLIPSOIDS = (
    (0.80, 0.6900, 0.920, 0.90, 0.00, 0.000, 0.00, 0),
    (-0.45, 0.6624, 0.874, 0.88, 0.00, -0.018, 0.00, 0),
    (-0.20, 0.1100, 0.310, 0.22, 0.22, 0.000, 0.00, -18),
    (-0.20, 0.1600, 0.410, 0.28, -0.22, 0.000, 0.00, 18),
    (0.15, 0.2100, 0.250, 0.41, 0.00, 0.350, -0.15, 0),
    (0.20, 0.0460, 0.046, 0.05, 0.00, 0.100, 0.25, 0),
    (0.20, 0.0460, 0.046, 0.05, 0.00, -0.100, 0.25, 0),
    (0.25, 0.0460, 0.023, 0.05, -0.08, -0.605, 0.00, 0),
    (0.25, 0.0230, 0.023, 0.05, 0.00, -0.606, 0.00, 0),
    (0.25, 0.0230, 0.046, 0.05, 0.06, -0.605, 0.00, 0),
)


def _ellipsoids(x: NDArray[np.float64], y: NDArray[np.float64], z: float) -> NDArray[np.float64]:
    """Return the phantom's signal at ``x``, ``y``, ``z``, each from -1 to 1."""
    signal = np.zeros(x.shape)
    for amount, a, b, c, x0, y0, z0, degrees in _ELLIPSOIDS:
        angle = np.deg2rad(degrees)
        u = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
        v = -(x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)
        signal += amount * ((u / a) ** 2 + (v / b) ** 2 + ((z - z0) / c) ** 2 <= 1)
    return signal


def _field(size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def mr_volume(size: int = 192, slices: int = 24) -> NDArray[np.uint16]:
    """Return slices x rows x columns, feet first, supersampled by two in the plane, with a little noise."""
    rng = np.random.default_rng(1)
    x, y = _field(size * 2)
    volume = []
    for index in range(slices):
        signal = _ellipsoids(x, y, (index + 0.5) / slices * 2 - 1)
        soft = signal.reshape(size, 2, size, 2).mean(axis=(1, 3))
        noise = rng.normal(0, 6, soft.shape) * (soft > 0)
        volume.append(np.clip(soft * 2200 + noise, 0, 4095))
    return np.rint(volume).astype(np.uint16)


def ct_slice(size: int = 128) -> NDArray[np.uint16]:
    """Return one slice of a water cylinder with a bone ring and inserts; stored value 0 is -1024 HU."""
    x, y = _field(size)
    radius = np.hypot(x, y)
    hounsfield = np.full(x.shape, -1024.0)
    hounsfield[radius < 0.85] = 900
    hounsfield[radius < 0.75] = 0
    for index, value in enumerate((-800, -100, 60, 120, 300, 1000)):
        angle = index * np.pi / 3
        hounsfield[np.hypot(x - 0.45 * np.cos(angle), y - 0.45 * np.sin(angle)) < 0.14] = value
    noise = np.random.default_rng(2).normal(0, 8, x.shape) * (radius < 0.85)
    return np.rint(np.clip(hounsfield + noise + 1024, 0, 4095)).astype(np.uint16)


def radiograph(size: int = 1024) -> NDArray[np.uint16]:
    """Return a test pattern: a step wedge, line pairs that grow finer, a zone plate and corner marks."""
    x, y = _field(size)
    picture = 700 + 400 * (1 - np.hypot(x, y))
    wedge = (np.abs(y + 0.7) < 0.12) & (np.abs(x) < 0.8)
    picture[wedge] = (np.floor((x[wedge] + 0.8) / 1.6 * 16) + 1) * 240
    pixel = np.arange(size)
    for index, period in enumerate((32, 24, 16, 12, 8, 6, 4, 2)):
        left = 112 + index * 100
        block = (slice(640, 860), slice(left, left + 88))
        picture[block] = np.where(pixel[left : left + 88] % period < period // 2, 3600, 500)
    zone = np.hypot(x, y + 0.1) < 0.3
    picture[zone] = 2048 + 1500 * np.cos(120 * (x[zone] ** 2 + (y[zone] + 0.1) ** 2) * np.pi)
    for row in (24, size - 64):
        for column in (24, size - 64):
            picture[row : row + 40, column : column + 40] = 4095
    return np.rint(np.clip(picture, 0, 4095)).astype(np.uint16)


def ultrasound(frames: int = 16, rows: int = 240, columns: int = 320) -> NDArray[np.uint8]:
    """Return frames x rows x columns x RGB: a sector of speckle around a circle that beats."""
    rng = np.random.default_rng(3)
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    depth = np.hypot(row + 20, column - columns / 2)
    angle = np.arctan2(column - columns / 2, row + 20)
    sector = (np.abs(angle) < 0.7) & (depth > 45) & (depth < 245)
    speckle = rng.rayleigh(42, (rows, columns))
    loop = np.zeros((frames, rows, columns, 3), np.uint8)
    for index in range(frames):
        beat = 34 + 9 * np.sin(2 * np.pi * index / frames)
        distance = np.hypot(row - 130, column - columns / 2)
        grey = (
            speckle
            * np.where(distance < beat, 0.25, np.where(distance < beat + 6, 2.2, 1.0))
            * np.exp(-depth / 400)
            * sector
        )
        picture = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=2)
        flow = (distance < beat * 0.6) & sector
        picture[flow] = picture[flow] * 0.4 + np.array([190, 30, 20]) * (0.5 + 0.5 * np.sin(2 * np.pi * index / frames))
        picture[8:16, 8 : 8 + 4 * (index + 1)] = (90, 200, 120)
        loop[index] = np.clip(picture, 0, 255)
    return loop


def report_pdf() -> bytes:
    """Return a PDF of one page with two lines of text, its cross-reference table right."""
    text = (
        "BT /F1 20 Tf 72 760 Td (Compte rendu d'essai) Tj /F1 12 Tf 0 -36 Td "
        "(Fantôme en plastique. Aucune personne n'est concernée.) Tj ET"
    ).encode("cp1252")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(text), text),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    body = b"%PDF-1.4\n"
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    xref = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, table)
    return body + xref + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
