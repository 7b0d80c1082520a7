"""What an association is negotiated to: the accepted classes, their syntaxes and roles, and extended negotiation."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.service_class import (
    NonPatientObjectStorageServiceClass,
    ServiceClass,
    StorageServiceClass,
    VerificationServiceClass,
)
from pynetdicom.sop_class import uid_to_service_class

from pacs.dimse.association import Acceptor
from pacs.imaging.syntaxes import ACCEPTED_ORDER, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, SYNTAXES

_NATIVE = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
MESSAGE_SYNTAXES = tuple(uid for uid in ACCEPTED_ORDER if SYNTAXES[uid].is_native)
"""What the data sets of requests and answers travel in: they have no pixels that a compressed syntax could be for."""
_ACCEPTED_SERVICES = (StorageServiceClass, NonPatientObjectStorageServiceClass, VerificationServiceClass)
_STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
_STORAGE_CLASSES_ELSEWHERE = frozenset(
    {
        "1.2.840.10008.5.1.1.29",  # Hardcopy Grayscale Image Storage, retired
        "1.2.840.10008.5.1.1.30",  # Hardcopy Color Image Storage, retired
        "1.2.840.10008.5.1.4.34.1",  # RT Beams Delivery Instruction Storage, trial
    }
)


def is_accepted_class(abstract_syntax: str) -> bool:
    """Whether an abstract syntax is Verification or something that can be stored.

    Stored is every storage class that is known, the retired ones too, and whatever nobody knows: a private class, or
    one that is newer than our tables. Refused are the known classes of other services, and a medium's directory. What
    belongs to no patient (PS3.4 GG) is accepted here, for it is not the port that decides what an archive can keep.
    """
    kind = UID(abstract_syntax).type
    if kind not in ("SOP Class", ""):
        return False
    service_class = uid_to_service_class(abstract_syntax)
    if service_class is not ServiceClass:
        return service_class in _ACCEPTED_SERVICES
    return not kind or abstract_syntax.startswith(_STORAGE_ROOT) or abstract_syntax in _STORAGE_CLASSES_ELSEWHERE


def plan_contexts(proposed: Iterable[PresentationContext], services: Iterable[str] = ()) -> list[PresentationContext]:
    """Return what we support of a proposal: its accepted classes, each with our order of the proposed syntaxes.

    ``services`` are the SOP Classes of other services that are served here.
    """
    served = frozenset(services)
    offered: dict[UID, set[UID]] = {}
    for context in proposed:
        uid = context.abstract_syntax
        if uid is not None and (uid in served or is_accepted_class(uid)):
            offered.setdefault(uid, set()).update(context.transfer_syntax)
    ordered = {
        uid: [syntax for syntax in (MESSAGE_SYNTAXES if uid in served else ACCEPTED_ORDER) if syntax in syntaxes]
        for uid, syntaxes in offered.items()
    }
    # A class without a common syntax is listed with one nobody proposed: then the refusal names the right reason.
    return [build_context(uid, cast("Any", syntaxes or [UID(ACCEPTED_ORDER[0])])) for uid, syntaxes in ordered.items()]


def plan_roles(context: PresentationContext, asked: Mapping[UID, Any]) -> None:
    """Take both roles where a peer asks to choose: a C-GET receives over what it proposed (PS3.7 D.3.3.4)."""
    if context.abstract_syntax in asked:
        context.scu_role = context.scp_role = True
        # What is sent back is chosen here, before it is known: anything that decodes can be sent in a native syntax.
        context.transfer_syntax = sorted(context.transfer_syntax, key=lambda uid: uid not in _NATIVE)


def negotiate_extended(event: evt.Event) -> dict[UID, bytes]:
    """Answer SOP Class Extended Negotiation by the services asked, and note what was agreed (PS3.7 D.3.3.5)."""
    association = cast("Acceptor", event.assoc)
    answers = {}
    for uid, information in event.app_info.items():  # type: ignore[attr-defined]
        service = association.services.get(str(uid))
        answer = service.negotiate(str(uid), information) if service is not None else None
        if answer is not None:
            answers[uid] = association.extended[str(uid)] = answer
    return answers
