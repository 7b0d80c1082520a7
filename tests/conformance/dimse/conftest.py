"""DICOM peers for the tests, and a server whose doings they can look into."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from pacs.dimse.server import DimseServer, create_server
from tests.conformance.dimse.keeper import Keeper


@pytest.fixture
def keeper(tmp_path: Path) -> Keeper:
    return Keeper(tmp_path)


@pytest.fixture
def start_server() -> Iterator[Callable[..., DimseServer]]:
    """Start servers on free ports; they are stopped when the test ends."""
    servers: list[DimseServer] = []

    def start(ingest, **arguments) -> DimseServer:
        server = create_server(SimpleNamespace(ingest=ingest), port=0, **arguments)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(grace_seconds=2)


@pytest.fixture
def server(start_server, keeper) -> DimseServer:
    return start_server(keeper)


@pytest.fixture
def dcmtk() -> Callable[[str], str]:
    """Find a program of DCMTK; where it is not installed the test is skipped, in CI it fails."""

    def find(program: str) -> str:
        path = shutil.which(program)
        if path is None and os.environ.get("CI") == "true":
            pytest.fail(f"{program} is not installed: apt-get install dcmtk")
        if path is None:
            pytest.skip(f"{program} is not installed: apt-get install dcmtk")
        return path

    return find
