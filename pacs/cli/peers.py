"""The commands that call other devices: echo, find, move and send."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pacs.access import LOCAL
from pacs.app import build_caller, build_peers, open_archive
from pacs.cli.parsing import add_command, parse_pairs, positive
from pacs.cli.terminal import print_problems, print_table, progress
from pacs.config import Settings
from pacs.dimse import scu
from pacs.dimse.peers import Peer
from pacs.errors import PacsError
from pacs.ingest.importer import EntryRefused, iter_entries
from pacs.model import InstanceRecord, Level

_LEVELS = {"patient": Level.PATIENT, "study": Level.STUDY, "series": Level.SERIES, "image": Level.INSTANCE}
_COLUMNS = {
    Level.PATIENT: ("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    Level.STUDY: (
        "StudyDate",
        "PatientID",
        "PatientName",
        "ModalitiesInStudy",
        "StudyDescription",
        "AccessionNumber",
        "NumberOfStudyRelatedInstances",
        "StudyInstanceUID",
    ),
    Level.SERIES: (
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "NumberOfSeriesRelatedInstances",
        "SeriesInstanceUID",
    ),
    Level.INSTANCE: ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}
_UNIQUE = {
    Level.PATIENT: ("patient", "PatientID"),
    Level.STUDY: ("study", "StudyInstanceUID"),
    Level.SERIES: ("series", "SeriesInstanceUID"),
    Level.INSTANCE: ("instance", "SOPInstanceUID"),
}


def add_commands(parsers: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands of this module."""
    where = "AE title of dimse.peers in the settings, or AE@HOST:PORT"
    command = add_command(parsers, common, "echo", echo, "ask a DICOM peer whether it is there")
    command.add_argument("peer", metavar="PEER", help=where)

    command = add_command(parsers, common, "find", find, "query a DICOM peer and print a table")
    command.add_argument("peer", metavar="PEER", help=where)
    command.add_argument("keys", nargs="*", metavar="KEY=VALUE", help="what to match, for example PatientName=DOE*")
    command.add_argument("--level", choices=_LEVELS, default="study")
    command.add_argument("--limit", type=positive, default=200, metavar="N", help="answers at most (default: 200)")

    command = add_command(parsers, common, "move", move, "ask a DICOM peer to send something to an AE")
    command.add_argument("peer", metavar="PEER", help=where)
    command.add_argument("--to", metavar="AE", help="who receives it (default: this archive, which must be serving)")
    for name, keyword in _UNIQUE.values():
        command.add_argument(f"--{name}", action="append", default=[], metavar="ID", help=f"{keyword}; may be repeated")

    command = add_command(parsers, common, "send", send, "send files, or what the archive holds, to a DICOM peer")
    command.add_argument("peer", metavar="PEER", help=where)
    command.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files, folders, ZIP files, DICOMDIRs")
    command.add_argument("--study", action="append", default=[], metavar="UID", help="a study of the archive")


def echo(settings: Settings, options: argparse.Namespace) -> int:
    """Say how long the peer took to answer."""
    peer = find_peer(settings, options.peer)
    seconds = scu.echo(build_caller(settings), peer)
    print(f"{_place(peer)} answered in {seconds * 1000:.0f} ms.")
    return 0


def find(settings: Settings, options: argparse.Namespace) -> int:
    """Print the answers as a table; exit code 1 if there are none."""
    level = _LEVELS[options.level]
    given = parse_pairs(options.keys)
    keys = dict.fromkeys(_COLUMNS[level], "") | given
    peer = find_peer(settings, options.peer)
    answers = list(scu.find(build_caller(settings), peer, level, keys, options.limit))
    print_table(keys, [[answer.get(keyword, "") for keyword in keys] for answer in answers])
    more = f", the first {options.limit}; --limit shows more" if len(answers) == options.limit else ""
    print(f"{len(answers)} found at {_place(peer)}{more}.", file=sys.stderr)
    return 0 if answers else 1


def move(settings: Settings, options: argparse.Namespace) -> int:
    """Follow the sub-operations; exit code 1 if one failed or nothing was found."""
    keys = {keyword: "\\".join(values) for name, keyword in _UNIQUE.values() if (values := getattr(options, name))}
    if not keys:
        raise PacsError("Say what to move: --patient, --study, --series or --instance.")
    level = max((level for level, (_, keyword) in _UNIQUE.items() if keyword in keys), key=list(_UNIQUE).index)
    peer = find_peer(settings, options.peer)
    destination = options.to or settings.dimse.ae_title
    last = scu.MoveProgress(0, 0, 0, 0, is_final=True)
    with progress() as bar:
        task = bar.add_task("Moving", total=None)
        for last in scu.move(build_caller(settings), peer, destination, level, keys):
            done = last.completed + last.failed + last.warning
            bar.update(task, completed=done, total=done + last.remaining)
    moved = last.completed + last.warning
    if not (moved or last.failed):
        print(f"Nothing was moved: {peer.ae_title} has nothing of this; `pacs find` shows what it has.")
        return 1
    print(f"{moved} moved from {peer.ae_title} to {destination}, {last.failed} failed.")
    return 1 if last.failed else 0


def send(settings: Settings, options: argparse.Namespace) -> int:
    """Send, and list what the peer does not have now; exit code 1 if there is any."""
    if not (options.paths or options.study):
        raise PacsError("Say what to send: files or folders, or --study with a Study Instance UID of the archive.")
    peer = find_peer(settings, options.peer)
    problems = _send_files(settings, peer, options.paths) if options.paths else []
    problems += _send_studies(settings, peer, options.study) if options.study else []
    print_problems([f"not sent: {problem}" for problem in problems])
    return 1 if problems else 0


def find_peer(settings: Settings, text: str) -> Peer:
    """Return whom ``text`` names; raise PacsError that says how to name somebody."""
    ae_title, at, place = text.partition("@")
    host, colon, port = place.rpartition(":")
    if at:
        if not (0 < len(ae_title) <= 16 and colon and host and port.isdecimal() and 0 < int(port) < 65536):  # AE, PS3.5
            raise PacsError(f"{text} is not AE@HOST:PORT.")
        return Peer(ae_title, address=host.strip("[]"), port=int(port))
    peer = build_peers(settings).find_callable(text)
    if peer is None:
        raise PacsError(
            f"The settings (dimse.peers) have no peer {text} with an address and a port. Add it, or write AE@HOST:PORT."
        )
    return peer


def _send_files(settings: Settings, peer: Peer, paths: list[Path]) -> list[str]:
    problems = []
    items: dict[int, tuple[str, scu.FileItem]] = {}
    try:
        for entry in iter_entries(paths):
            try:
                item = scu.read_file_item(entry.open)
                items[id(item)] = (entry.name, item)
            except (PacsError, EntryRefused) as error:
                problems.append(f"{entry.name}: {error}")
    except FileNotFoundError as error:
        raise PacsError(f"There is no {error.args[0]}.") from None
    results = scu.send_files(build_caller(settings), peer, [item for _, item in items.values()])
    delivered = 0
    with progress() as bar:
        task = bar.add_task("Sending", total=len(items))
        for result in results:
            bar.advance(task)
            delivered += result.is_delivered
            if not result.is_delivered:
                problems.append(f"{items[id(result.item)][0]}: {result.comment}")
    print(f"{delivered} of {len(items)} files sent to {_place(peer)}.")
    return problems


def _send_studies(settings: Settings, peer: Peer, study_instance_uids: list[str]) -> list[str]:
    problems = []
    with open_archive(settings) as parts, progress() as bar:
        retriever = parts.archive.retrieve
        records: list[InstanceRecord] = []
        for study_instance_uid in study_instance_uids:
            records += retriever.find_instances(LOCAL, study_instance_uid)
        task = bar.add_task("Sending", total=len(records))
        coerce = parts.archive.coercion.towards(peer.ae_title)
        destination = scu.DicomDestination(build_caller(settings), peer, retriever, LOCAL, coerce)
        delivered = 0
        for sent in destination.send(records):
            bar.advance(task)
            delivered += sent.is_delivered
            if not sent.is_delivered:
                problems.append(f"{sent.sop_instance_uid}: {sent.problem}")
    print(f"{delivered} of {len(records)} instances sent to {_place(peer)}.")
    return problems


def _place(peer: Peer) -> str:
    return f"{peer.ae_title} ({peer.address}:{peer.port})"
