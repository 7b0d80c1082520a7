"""Who is known: the peers that may come in, how they are called, and what instances can be sent to."""

from typing import Any

from dicomweb.client import WebDestination
from dicomweb.webhooks import WebhookReceiver
from pacs.access import LOCAL
from pacs.archive import Archive
from pacs.config import PeerSettings, Settings
from pacs.dimse.calling import Caller
from pacs.dimse.commitment import CommittedDestination
from pacs.dimse.peers import Peer, Peers, is_loopback
from pacs.dimse.scu import DicomDestination
from pacs.dimse.tls import Credentials, build_client_context
from pacs.errors import InvalidSetting
from pacs.model import ChangeKind, DuplicatePolicy
from pacs.routing.destinations import Destination
from pacs.routing.webhooks import Webhook


def build_peers(settings: Settings) -> Peers:
    """Return the peers of the settings, and the one that stands for everybody else where everybody is admitted."""
    admits_all = settings.dimse.promiscuous or is_loopback(settings.dimse.host)
    known = tuple(_build_peer(peer, settings) for peer in settings.dimse.peers)
    return Peers(known, _build_peer(None, settings) if admits_all else None)


def build_caller(settings: Settings) -> Caller:
    """Return what calls peers in this archive's name."""
    credentials = build_credentials(settings)
    needs_tls = credentials.is_complete or any(peer.tls for peer in settings.dimse.peers)
    return Caller(settings.dimse.ae_title, build_client_context(credentials) if needs_tls else None)


def build_credentials(settings: Settings) -> Credentials:
    """Return the files that this archive shows and trusts over DICOM TLS, for both sides."""
    return Credentials(**settings.dimse.tls.model_dump(exclude={"port"}))


def build_destinations(settings: Settings, archive: Archive) -> dict[str, Destination]:
    """Return what instances can be sent to, by name: every peer with a port, and the DICOMweb servers.

    Raises InvalidSetting for a name that is given twice.
    """
    caller = build_caller(settings)
    peers = [_build_peer(peer, settings) for peer in settings.dimse.peers if peer.port]
    found: dict[str, Destination] = {
        peer.ae_title: DicomDestination(caller, peer, archive.retrieve, LOCAL, archive.coercion.towards(peer.ae_title))
        for peer in peers
    }
    found |= {
        peer.ae_title: CommittedDestination(found[peer.ae_title], archive.commit)
        for peer in peers
        if peer.request_commitment
    }
    for index, web in enumerate(settings.routing.destinations):
        if web.name in found:
            place = f"routing.destinations.{index}.name"
            raise InvalidSetting(f"The setting {place} is wrong: another destination has the name {web.name}.")
        found[web.name] = WebDestination(
            web.name,
            web.url,
            archive.retrieve,
            LOCAL,
            web.token.get_secret_value(),
            coerce=archive.coercion.towards(web.name),
        )
    return found


def build_webhooks(settings: Settings) -> tuple[Webhook, ...]:
    """Return the webhooks of the settings.

    Raises InvalidSetting for a name that is given twice, a kind that no change has, and an address that is none.
    """
    found: dict[str, Webhook] = {}
    for index, hook in enumerate(settings.webhooks):
        place = f"The setting webhooks.{index}"
        if hook.name in found:
            raise InvalidSetting(f"{place}.name is wrong: another webhook has the name {hook.name}.")
        if unknown := [kind for kind in hook.kinds if kind not in set(ChangeKind)]:
            known = ", ".join(ChangeKind)
            raise InvalidSetting(f"{place}.kinds is wrong: {unknown[0]} is none of the kinds of changes: {known}.")
        try:
            post = WebhookReceiver(hook.name, hook.url, hook.secret.get_secret_value())
        except ValueError:
            raise InvalidSetting(f"{place}.url is wrong: it is no address.") from None
        found[hook.name] = Webhook(hook.name, frozenset(map(ChangeKind, hook.kinds)) or frozenset(ChangeKind), post)
    return tuple(found.values())


def _build_peer(peer: PeerSettings | None, settings: Settings) -> Peer:
    """Return a peer with what its own settings leave open taken from the archive's; None is any other sender."""
    ingest, dimse = settings.ingest, settings.dimse
    own = peer.model_dump(exclude_none=True) if peer else {"ae_title": ""}
    defaults: dict[str, Any] = {
        "issuer_of_patient_id": ingest.issuer_of_patient_id,
        "character_set": ingest.character_set,
        "duplicate_policy": ingest.duplicate_policy,
        "max_pdu_bytes": dimse.max_pdu_bytes,
        "max_associations": dimse.max_associations_per_peer,
        "idle_seconds": dimse.idle_seconds,
    }
    values = defaults | own
    return Peer(**(values | {"duplicate_policy": DuplicatePolicy(values["duplicate_policy"])}))
