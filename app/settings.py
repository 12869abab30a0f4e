"""All settings, read once from the environment. The only reader of `SAESCOPE_*`."""

import re
import tempfile
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.contract.bundled import BUNDLED_MODEL

CommaList = Annotated[list[str], NoDecode]
_POSTGRES = ("postgres://", "postgresql://", "postgresql+psycopg://")


class Settings(BaseSettings):
    """Settings of every process. Lists are comma-separated in the environment."""

    model_config = SettingsConfigDict(env_prefix="SAESCOPE_", extra="ignore")

    host: str = "127.0.0.1"
    """Address that the API listens on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port of the API; 0 takes a free one."""
    data_dir: Path = Path("~/.local/share/saescope")
    """Models, SAEs, corpora, checkpoints, spill files and, by default, the databases."""
    database_url: str | None = None
    """Postgres URL for the shelf and the jobs; SQLite files in `data_dir` when unset."""
    database_pool: int = Field(default=5, ge=2, le=1_000)
    """Connections in each of a process' pools on Postgres."""
    live_url: str = "http://127.0.0.1:8001"
    """Where the live worker answers; `saescope worker live` binds its host and port."""
    live_device: str = "auto"
    """Device of the live worker: auto (cuda when there is one), cpu, cuda, cuda:1, mps."""
    live_models: CommaList = [BUNDLED_MODEL]
    """Models that the live worker loads before it answers, those of them that are registered; others
    are loaded by the first request for them."""
    jobs_devices: CommaList = Field(default=["auto"], min_length=1)
    """Devices of the jobs workers, one process each."""
    worker_name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """What tells the jobs workers of this machine from those of others on the same Postgres, the same
    at every start; the machine's host name when unset."""
    ray_address: str | None = None
    """A Ray cluster that does the shards of precompute and evaluate, and runs live workers under
    `saescope worker live --ray`: host:port of its head, ray://host:port, or auto."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format in which models run; SAEs always run in float32."""
    cors_origins: CommaList = []
    """Web origins allowed to call the API from a browser; none by default."""
    frame_ancestors: CommaList = ["'self'"]
    """Who may frame pages with `?embed=true`, as in `frame-ancestors` of a Content-Security-Policy:
    `'self'`, `https://notes.example`, `*`."""
    allowed_hosts: CommaList = ["localhost", "127.0.0.1", "[::1]"]
    """Host headers that are answered, the bound host always among them; `*` allows all."""
    model_roots: CommaList = ["."]
    """Folders that jobs may read models, SAEs, text and evidence from, and export to, besides `data_dir`.
    By default the folder that the process was started in."""
    hub: bool = False
    """Whether jobs may download pretrained SAEs and datasets from the Hugging Face hub."""

    inference_secret: SecretStr | None = None
    """What a Neuronpedia web app must send as X-SECRET-KEY to `/inference`; unset or empty asks nobody."""

    max_texts: int = 64
    """Texts in one activations request."""
    max_text_chars: int = 50_000
    """Characters of one text or prompt."""
    max_request_tokens: int = 16_384
    """Tokens of one activations request, all texts together, or of all prompts of completions."""
    max_values: int = 2**22
    """Values in one activations answer: tokens times features, of all SAEs together."""
    max_new_tokens: int = 1_024
    """New tokens of one steered answer."""
    max_steering: int = 32
    """Steering entries in one request."""
    max_body_bytes: int = 8 * 2**20
    """Size of a request body."""
    max_live_requests: int = Field(default=512, ge=1)
    """Requests that a live worker takes on at a time, streams that it writes among them."""
    max_live_tokens: int = Field(default=2**18, ge=1)
    """Tokens, read and still to be written, of the requests that a live worker takes on at a time."""
    max_streams: int = Field(default=256, ge=1)
    """Event streams that an API process has open at a time."""
    read_timeout_s: float = Field(default=60.0, gt=0)
    """Seconds in which the head of a request must have come, and in which its body must."""
    live_timeout_s: float = 300.0
    """Seconds that the API waits for the live worker."""
    log_format: Literal["text", "json"] = "text"
    """What a line of the log is."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least that is logged; at `debug` messages of exceptions too, which may hold texts of requests."""
    log_requests: bool = True
    """Whether every request has a line in the log."""
    spill_kept_mb: int = Field(default=2_000, ge=0)
    """Megabytes of spilled activations that are kept between runs of precompute, so that a run over
    more text only runs what is new. About 8 bytes for each active feature of each token."""

    @field_validator(
        "live_models",
        "jobs_devices",
        "cors_origins",
        "frame_ancestors",
        "allowed_hosts",
        "model_roots",
        mode="before",
    )
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("inference_secret")
    @classmethod
    def _none_when_empty(cls, value: SecretStr | None) -> SecretStr | None:
        return value if value and value.get_secret_value() else None

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @field_validator("database_url")
    @classmethod
    def _postgres(cls, value: str | None) -> str | None:
        # The value is not repeated: it may hold a password.
        if value is not None and not value.startswith(_POSTGRES):
            raise ValueError(
                "give a Postgres URL, postgresql://user:password@host/database, or leave it unset "
                "for SQLite files in SAESCOPE_DATA_DIR"
            )
        return value

    @field_validator("live_url")
    @classmethod
    def _http(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # a port out of range, half a bracket
            right = False
        if not right:
            raise ValueError("give a URL with scheme, host and port, such as http://127.0.0.1:8001")
        return value

    @property
    def bound_host(self) -> str:
        """`host` as URLs and Host headers write it. The API always answers under this name."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:  # a name
            return False

    @cached_property
    def shelf_url(self) -> str:
        """SQLAlchemy URL of the shelf."""
        return _with_driver(self.database_url) or f"sqlite:///{self.data_dir / 'shelf.db'}"

    @cached_property
    def jobs_url(self) -> str:
        """SQLAlchemy URL of the jobs' system database (a file of its own on SQLite)."""
        return _with_driver(self.database_url) or f"sqlite:///{self.data_dir / 'jobs.db'}"

    @cached_property
    def machine(self) -> str:
        """Name of this machine among those that share a Postgres; empty on SQLite, which none share."""
        if self.database_url is None:
            return ""
        return self.worker_name or re.sub(r"[^A-Za-z0-9.-]", "-", gethostname())

    @cached_property
    def roots(self) -> list[Path]:
        """Resolved folders that jobs may read from."""
        return [Path(root).expanduser().resolve() for root in [self.data_dir, *self.model_roots]]

    @property
    def token_file(self) -> Path:
        """Secret shared by the API and the live worker, made at the first start."""
        return self.data_dir / "live.token"

    @property
    def spill_dir(self) -> Path:
        """Where precompute spills; one folder an SAE."""
        return self.data_dir / "spill"


def _with_driver(url: str | None) -> str | None:
    """Name psycopg 3 as the driver of a plain Postgres URL."""
    return url and "postgresql+psycopg://" + url.split("://", 1)[1]


def writable(folder: Path) -> bool:
    """Whether a file can be created in `folder`, which is made when missing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
