"""Bytes under opaque keys. Knows no DICOM, no SQL and no HTTP of ours."""
