"""The HTTP edge: DICOMweb (PS3.18), the viewer and health. The only user of FastAPI."""
