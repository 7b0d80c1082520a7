"""Releases: immutable, versioned, de-identified copies of approved cohorts, each an archive of its own to read."""

from pacs.research.releases.service import Releases

__all__ = ["Releases"]
