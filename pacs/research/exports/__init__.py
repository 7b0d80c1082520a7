"""What researchers take with them: the index as Parquet, files as ZIP and NIfTI, and how anonymous all of it is.

The packages that this needs are the extra ``research``. They are loaded when something is exported, so that an archive
without researchers neither has nor starts them.
"""
