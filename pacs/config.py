"""Frozen settings, one class a section. File and environment are read here and nowhere else.

A TOML file and ``PACS_`` variables name the same things: ``[http] port`` is ``PACS_HTTP__PORT``. What is given later
wins: defaults, file, environment, command line.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from pacs.errors import InvalidSetting

_PREFIX = "PACS_"
_SEPARATOR = "__"
_DEFAULT_FILE = Path("pacs.toml")

Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]


def _split(value: Any) -> Any:
    """Return the entries of a variable of the environment, which commas separate; a list of the file is one already."""
    return tuple(entry.strip() for entry in value.split(",") if entry.strip()) if isinstance(value, str) else value


def _usual_processes() -> int:
    """Return two, or one on a machine with a single processor: one interpreter uses no more than one of them."""
    return min(2, os.cpu_count() or 1)


Processes = Annotated[int, Field(ge=1, le=64)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(_Section):
    """Where objects are kept. An empty ``url`` is the folder ``objects`` in the data directory.

    ``acknowledge`` says when an object for S3 counts as stored: once S3 has it, or once it is durable in a journal in
    the data directory, from where it is uploaded. ``cache_bytes`` bounds the folder of whole objects in the data
    directory that were read from S3; 0 keeps none.
    """

    url: str = ""
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    acknowledge: Literal["put", "journal"] = "put"
    cache_bytes: Annotated[int, Field(ge=0)] = 2 * 1024 * 1024 * 1024


class DatabaseSettings(_Section):
    """Where the index is kept. An empty ``url`` is the SQLite file ``index.sqlite`` in the data directory."""

    url: SecretStr = SecretStr("")


class HttpSettings(_Section):
    """The HTTP door. ``port`` 0 takes any free one; pages from ``cors_origins`` may call DICOMweb.

    ``public_url`` is what clients reach the archive by, if that is not what they say in their Host header (a proxy, or
    a client that leaves the port out). An empty ``viewer_dir`` is the folder ``viewer`` in the data directory.
    ``may_delete``: whoever reaches this port may delete studies, series and instances, which can be undone.
    ``processes`` answer requests: the archive's own, and so many less one beside it.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    processes: Processes = Field(default_factory=_usual_processes)
    public_url: str = Field(default="", pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_split)] = ()
    viewer_dir: Path | None = None
    may_delete: bool = False


class PeerSettings(_Section):
    """What one peer does not say of itself; unset values are the archive's.

    With a ``port`` (and an address) the archive can call it: C-MOVE, routing, commitment and notices go there.
    ``may_reject``: its rejection notes are obeyed (IHE IOCM). ``certificate_sha256`` is the digest of the certificate
    it must show over TLS, in hex.
    """

    ae_title: AeTitle
    address: str = ""
    port: Port = 0
    tls: bool = False
    certificate_sha256: str = Field(default="", pattern=r"^([0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31})?$")
    issuer_of_patient_id: str | None = None
    character_set: str | None = None
    answer_character_set: str = ""
    is_latin_only: bool = False
    duplicate_policy: Literal["keep-first", "replace", "reject"] | None = None
    max_pdu_bytes: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] | None = None
    max_associations: Annotated[int, Field(ge=1, le=10_000)] | None = None
    idle_seconds: Annotated[float, Field(gt=0)] | None = None
    may_reject: bool = False
    request_commitment: bool = False
    notify_availability: bool = False
    forward_mpps: bool = False


class DimseTlsSettings(_Section):
    """The DICOM port for TLS (BCP 195, both sides show certificates); without a ``port`` there is none.

    The same certificate and authority are used to call peers that have ``tls`` set.
    """

    port: Port | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    authority_file: Path | None = None


class DimseSettings(_Section):
    """The DICOM door. ``max_pdu_bytes`` 0 offers no limit; ``grace_seconds`` is for open associations at a stop.

    ``processes`` serve associations: the archive's own, and so many less one beside it, the same as those of ``http``.

    Only ``peers`` are admitted, unless ``promiscuous``, or while the port listens on loopback, where nobody else comes.
    """

    host: str = "127.0.0.1"
    port: Port = 11112
    processes: Processes = Field(default_factory=_usual_processes)
    ae_title: AeTitle = "PACS"
    max_pdu_bytes: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 256 * 1024
    max_associations: Annotated[int, Field(ge=1, le=10_000)] = 64
    max_associations_per_peer: Annotated[int, Field(ge=1, le=10_000)] = 32
    idle_seconds: Annotated[float, Field(gt=0)] = 600.0
    grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    promiscuous: bool = False
    tls: DimseTlsSettings = DimseTlsSettings()
    peers: tuple[PeerSettings, ...] = ()


class WebDestinationSettings(_Section):
    """A DICOMweb server that instances are forwarded to; ``token`` is sent as a bearer token."""

    name: AeTitle
    url: str = Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    token: SecretStr = SecretStr("")


class RoutingRuleSettings(_Section):
    """Forward what matches every condition of ``when`` to the destinations ``to``: AE titles and names.

    Conditions are those of a query, by keyword: ``{ Modality = "CT", StudyDescription = "*THORAX*" }``; also
    CallingAETitle, CalledAETitle and Door of the way in. Without conditions everything matches.
    """

    when: dict[str, str] = {}
    to: tuple[str, ...] = Field(min_length=1)


class RoutingSettings(_Section):
    """What is forwarded where. A delivery is tried for ``give_up_days``, then it waits for a person.

    ``quiet_seconds`` after its last instance a study is announced to peers with ``notify_availability``.
    """

    destinations: tuple[WebDestinationSettings, ...] = ()
    rules: tuple[RoutingRuleSettings, ...] = ()
    give_up_days: Annotated[float, Field(gt=0)] = 7.0
    quiet_seconds: Annotated[float, Field(ge=0)] = 60.0


class CoercionRuleSettings(_Section):
    """Change attributes of what matches ``when``: ``set`` always, ``fill`` if there is no value, ``remove``.

    ``direction`` is ``in`` (recorded with the instance) or ``out``, then only ``to`` these destinations (all if empty).
    """

    direction: Literal["in", "out"]
    when: dict[str, str] = {}
    to: tuple[str, ...] = ()
    set: dict[str, str] = {}
    fill: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class WorklistSettings(_Section):
    """Where scheduled steps come from: a watched folder of ``.wl`` and JSON files, besides REST and command line.

    ``lists_in_progress``: whether a step still shows once it has begun.
    """

    folder: Path | None = None
    lists_in_progress: bool = True


class ImagingSettings(_Section):
    """What is made of images after they were stored, and how much of what was made for clients is kept.

    ``recompress`` packs stored images without loss in the background, and keeps what was received for
    ``keep_original_days``. ``cache_bytes`` bounds the folder of transcoded frames in the data directory; 0 keeps none.
    """

    thumbnails: bool = True
    recompress: Literal["none", "htj2k-lossless"] = "none"
    keep_original_days: Annotated[float, Field(ge=0)] = 30.0
    cache_bytes: Annotated[int, Field(ge=0)] = 1024 * 1024 * 1024


class WebhookSettings(_Section):
    """An address that is told of changes, by name: ``kinds`` of the change log, all if none are given.

    Each notice is signed with ``secret`` (HMAC SHA-256), so that its receiver can tell who sent it.
    """

    name: AeTitle
    url: str = Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")
    secret: SecretStr = Field(min_length=16)
    kinds: tuple[str, ...] = ()


class WorkitemSettings(_Section):
    """What happens to work items (UPS) by itself: with ``reports_complete`` a report closes what waits for it."""

    reports_complete: bool = True


class CommitmentSettings(_Section):
    """How long a storage commitment waits for instances that are still on their way before it fails them."""

    wait_seconds: Annotated[float, Field(ge=0)] = 60.0


class IngestSettings(_Section):
    """What holds for every sender that has no setting of its own (docs/operations.md)."""

    issuer_of_patient_id: str = ""
    character_set: str = "ISO_IR 100"
    duplicate_policy: Literal["keep-first", "replace", "reject"] = "keep-first"


class ResearchSettings(_Section):
    """The research database. ``k`` is the smallest number of patients that is told of; a project may ask for more.

    ``questions_per_day`` is how many counts one person is answered in one project: many differences of counts tell more
    than each.

    An empty ``master_key_file`` is ``research-master.key`` in the data directory: what the keys of projects are kept
    encrypted under, to be backed up apart from the database.

    ``reads_text``: text is looked for in the pixels of what is to be released, as an alarm.

    Releases are kept at ``storage_url``, a store with credentials of its own; an empty one is the folder
    ``research-objects`` in the data directory.
    """

    master_key_file: Path | None = None
    storage_url: str = ""
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")
    reads_text: bool = False
    k: Annotated[int, Field(ge=2, le=100)] = 5
    questions_per_day: Annotated[int, Field(ge=1)] = 200


class Settings(_Section):
    """All settings. Relative paths count from the working directory."""

    data_dir: Path = Path("pacs-data")
    storage: StorageSettings = StorageSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    dimse: DimseSettings = DimseSettings()
    ingest: IngestSettings = IngestSettings()
    routing: RoutingSettings = RoutingSettings()
    coercion: tuple[CoercionRuleSettings, ...] = ()
    worklist: WorklistSettings = WorklistSettings()
    commitment: CommitmentSettings = CommitmentSettings()
    imaging: ImagingSettings = ImagingSettings()
    webhooks: tuple[WebhookSettings, ...] = ()
    workitems: WorkitemSettings = WorkitemSettings()
    research: ResearchSettings = ResearchSettings()

    @property
    def master_key_file(self) -> Path:
        """Where the master key of research is, with the default filled in."""
        return self.research.master_key_file or self.data_dir / "research-master.key"

    @property
    def research_storage_url(self) -> str:
        """The URL of the store of releases, with the default filled in."""
        return self.research.storage_url or f"file://{(self.data_dir / 'research-objects').absolute()}"

    @property
    def storage_url(self) -> str:
        """The object store's URL, with the default filled in."""
        return self.storage.url or f"file://{(self.data_dir / 'objects').absolute()}"

    @property
    def viewer_dir(self) -> Path:
        """Where the viewer's files are looked for, with the default filled in."""
        return self.http.viewer_dir or self.data_dir / "viewer"

    @property
    def database_url(self) -> str:
        """The database's URL, with the default filled in; it may hold a password."""
        return self.database.url.get_secret_value() or f"sqlite:///{(self.data_dir / 'index.sqlite').absolute()}"


def load_settings(
    file: Path | None, environment: Mapping[str, str], overrides: Mapping[str, Mapping[str, Any] | Any] | None = None
) -> Settings:
    """Return the effective settings; raise InvalidSetting with one sentence that names what is wrong.

    ``file`` of None reads ``pacs.toml`` in the working directory if there is one.
    """
    values = _read_file(file)
    _merge(values, _read_environment(environment))
    _merge(values, dict(overrides or {}))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise InvalidSetting(_sentence(error)) from None


def describe(settings: Settings) -> dict[str, Any]:
    """Return the effective settings as plain values, secrets hidden, defaults filled in."""
    values = settings.model_dump(mode="json")
    values["storage"]["url"] = settings.storage_url
    values["database"]["url"] = hide_password(settings.database_url)
    values["http"]["viewer_dir"] = str(settings.viewer_dir)
    values["research"]["master_key_file"] = str(settings.master_key_file)
    values["research"]["storage_url"] = settings.research_storage_url
    for destination in values["routing"]["destinations"]:
        destination["url"] = hide_password(destination["url"])
    for webhook in values["webhooks"]:
        webhook["url"] = hide_password(webhook["url"])
    return values


def hide_password(url: str) -> str:
    """Return a URL with what stands between ``user:`` and ``@`` replaced."""
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    return f"{scheme}{separator}{credentials.partition(':')[0]}:**********@{host}"


def _read_file(file: Path | None) -> dict[str, Any]:
    if file is None:
        if not _DEFAULT_FILE.exists():
            return {}
        file = _DEFAULT_FILE
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"The settings file {file} cannot be read.") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"The settings file {file} is not valid TOML: {error}.") from error


def _read_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Pick the variables that can be meant for us; container platforms set PACS_SERVICE_HOST and such themselves."""
    values: dict[str, Any] = {}
    for name, text in environment.items():
        path = name.removeprefix(_PREFIX).lower().split(_SEPARATOR)
        if not name.startswith(_PREFIX) or path[0] not in Settings.model_fields:
            continue
        if len(path) > 1 or path[0] == "data_dir":
            section = values
            for part in path[:-1]:
                section = section.setdefault(part, {})
            section[path[-1]] = text
    return values


def _merge(values: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(values.get(key, {}), dict):
            _merge(values.setdefault(key, {}), value)
        else:
            values[key] = value


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    parts = [str(part) for part in first["loc"]]
    name = ".".join(parts)
    if not any(part.isdecimal() for part in parts):  # no variable names one of a list
        name += f" ({_PREFIX}{_SEPARATOR.join(parts).upper()})"
    if first["type"] == "extra_forbidden":
        return f"There is no setting {name}."
    return f"The setting {name} is wrong: {first['msg'][0].lower()}{first['msg'][1:]}."
