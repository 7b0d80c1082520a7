"""The DIMSE edge: the only user of pynetdicom."""
