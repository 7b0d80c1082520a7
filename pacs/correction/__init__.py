"""Corrections: patients merged, studies moved, attributes set right, conflicts decided; each one undoable."""

from pacs.correction.corrector import Corrector, PatientKey
from pacs.correction.deciding import Keep
from pacs.index.conflicts import Conflict
from pacs.index.corrections import Correction, CorrectionKind

__all__ = ["Conflict", "Correction", "CorrectionKind", "Corrector", "Keep", "PatientKey"]
