"""Frozen settings, one class a section. File and environment are read here and nowhere else.

A TOML file and ``PACS_`` variables name the same things: ``[http] port`` is ``PACS_HTTP__PORT``. What is given later
wins: defaults, file, environment, command line.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from pacs.errors import InvalidSetting

_PREFIX = "PACS_"
_SEPARATOR = "__"
_DEFAULT_FILE = Path("pacs.toml")

Port = Annotated[int, Field(ge=0, le=65535)]
AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(_Section):
    """Where objects are kept. An empty ``url`` is the folder ``objects`` in the data directory."""

    url: str = ""
    access_key: str = ""
    secret_key: SecretStr = SecretStr("")


class DatabaseSettings(_Section):
    """Where the index is kept. An empty ``url`` is the SQLite file ``index.sqlite`` in the data directory."""

    url: SecretStr = SecretStr("")


class HttpSettings(_Section):
    """The HTTP door. ``port`` 0 takes any free one; pages from ``cors_origins`` may call DICOMweb.

    ``public_url`` is what clients reach the archive by, if that is not what they say in their Host header (a proxy, or
    a client that leaves the port out). An empty ``viewer_dir`` is the folder ``viewer`` in the data directory.
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    public_url: str = Field(default="", pattern=r"^(https?://[^/?#\s]+(/[^?#\s]*)?)?$")
    cors_origins: tuple[str, ...] = ()
    viewer_dir: Path | None = None


class PeerSettings(_Section):
    """What one sender does not say of itself; unset values are the archive's."""

    ae_title: AeTitle
    address: str = ""
    issuer_of_patient_id: str | None = None
    character_set: str | None = None
    duplicate_policy: str | None = Field(default=None, pattern="^(keep-first|replace|reject)$")
    max_pdu_bytes: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] | None = None


class DimseSettings(_Section):
    """The DICOM door. ``max_pdu_bytes`` 0 offers no limit; ``grace_seconds`` is for open associations at a stop."""

    host: str = "127.0.0.1"
    port: Port = 11112
    ae_title: AeTitle = "PACS"
    max_pdu_bytes: Annotated[int, Field(ge=0, le=0xFFFFFFFF)] = 256 * 1024
    max_associations: Annotated[int, Field(ge=1, le=10_000)] = 64
    grace_seconds: Annotated[float, Field(ge=0)] = 10.0
    peers: tuple[PeerSettings, ...] = ()


class IngestSettings(_Section):
    """What holds for every sender that has no setting of its own (docs/operations.md)."""

    issuer_of_patient_id: str = ""
    character_set: str = "ISO_IR 100"
    duplicate_policy: str = Field(default="keep-first", pattern="^(keep-first|replace|reject)$")


class Settings(_Section):
    """All settings. Relative paths count from the working directory."""

    data_dir: Path = Path("pacs-data")
    storage: StorageSettings = StorageSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    dimse: DimseSettings = DimseSettings()
    ingest: IngestSettings = IngestSettings()

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
        section, separator, key = name.removeprefix(_PREFIX).lower().partition(_SEPARATOR)
        if not name.startswith(_PREFIX):
            continue
        if separator and section in Settings.model_fields:
            values.setdefault(section, {})[key] = text
        elif section in Settings.model_fields and section == "data_dir":
            values[section] = text
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
    variable = _PREFIX + _SEPARATOR.join(parts).upper()
    if first["type"] == "extra_forbidden":
        return f"There is no setting {name} ({variable})."
    return f"The setting {name} ({variable}) is wrong: {first['msg'][0].lower()}{first['msg'][1:]}."
