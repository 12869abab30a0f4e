"""The choice of the torch build, by real pip from indexes on loopback that hold small wheels."""

import base64
import hashlib
import importlib.util
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
LOGIN = "me:secret"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, indexes: str) -> ModuleType:
    """install.py, choosing from a default index with a CUDA build and a CPU index."""
    spec = importlib.util.spec_from_file_location("install", ROOT / "install.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "CPU_INDEX", f"{indexes}/cpu")
    monkeypatch.setattr(module, "PYTHON", Path(sys.executable))
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("torch==2.13.0\n")
    monkeypatch.setattr(module, "CONSTRAINTS", constraints)
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"{indexes}/default")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return module


@pytest.fixture(scope="module")
def indexes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with four indexes: default (CUDA on Linux), cpu, private and cu130."""
    root = tmp_path_factory.mktemp("indexes")
    cuda = ["nvidia-cublas==1.0; platform_system == 'Linux'", "filelock"]
    _wheel(root / "default" / "torch", "torch", "2.13.0", cuda)
    _wheel(root / "default" / "nvidia-cublas", "nvidia_cublas", "1.0", [], padding=50_000)
    _wheel(root / "default" / "filelock", "filelock", "3.0", [])
    _wheel(root / "cpu" / "torch", "torch", "2.13.0+cpu", ["filelock"])
    _wheel(root / "private" / "torch", "torch", "2.13.0+cpu", ["filelock"])
    _wheel(root / "cu130" / "torch", "torch", "2.13.0+cu130", cuda)
    _wheel(root / "cu130" / "nvidia-cublas", "nvidia_cublas", "1.0", [])
    _wheel(root / "cu130" / "filelock", "filelock", "3.0", [])
    handler = partial(_Quiet, directory=str(root))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_without_a_driver_the_cpu_build_is_taken(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    build = install.choose_torch()
    assert (build.version, build.cuda) == ("2.13.0+cpu", False)
    assert install.announced(build) == f"torch @ {build.url}"
    told = capsys.readouterr().out
    assert "Taking torch 2.13.0+cpu, the CPU build: 1 MB to fetch." in told


def test_with_a_driver_what_pip_finds_is_taken_with_its_cuda_packages(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: True)
    build = install.choose_torch()
    assert (build.version, build.cuda) == ("2.13.0", True)
    alone = install.size_of(build.url)
    assert build.size() >= alone + 50_000


def test_without_a_cpu_index_the_cuda_build_is_better_than_nothing(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(install, "CPU_INDEX", "http://127.0.0.1:9/cpu")
    assert install.choose_torch().cuda


def test_a_local_cpu_wheel_wins_over_an_index(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    _wheel(tmp_path / "wheels", "torch", "2.13.0+cpu", [])
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    build = install.choose_torch()
    assert build.version == "2.13.0+cpu"
    assert build.url.startswith("file:")
    assert build.size() == next((tmp_path / "wheels").glob("*")).stat().st_size


def test_torch_index_overrides_everything(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, indexes: str
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    monkeypatch.setenv("TORCH_INDEX", f"{indexes}/cu130")
    assert install.choose_torch().version == "2.13.0+cu130"
    monkeypatch.setenv("TORCH_INDEX", f"{indexes}/nothing".replace("//", "//user:secret@"))
    with pytest.raises(SystemExit, match="no fitting torch at TORCH_INDEX=http://127") as caught:
        install.choose_torch()
    assert "secret" not in str(caught.value)


def test_an_index_behind_a_password_serves_its_file_too(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    indexes: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: False)
    monkeypatch.setenv("TORCH_INDEX", f"{indexes}/private".replace("//", f"//{LOGIN}@"))
    requirement = install.announced(install.choose_torch())
    assert " MB to fetch" in capsys.readouterr().out
    install.pip("install", "--quiet", "--no-deps", "--target", str(tmp_path), requirement)
    assert (tmp_path / "torch" / "weights").exists()


def test_a_login_goes_to_its_own_server_only(install: ModuleType) -> None:
    index = "https://me:secret@own.example/whl"
    assert install.with_login("https://own.example/a.whl", index).startswith("https://me:secret@")
    for other in ("https://cdn.example/a.whl", "https://own.example:8443/a.whl", "file:///a.whl"):
        assert install.with_login(other, index) == other
    assert install.with_login("https://own.example/a.whl", None) == "https://own.example/a.whl"


def test_an_environment_without_pip_is_made_anew(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As Debian leaves it behind where python3-venv is missing."""
    monkeypatch.setattr(install, "VENV", tmp_path / "venv")
    monkeypatch.setattr(install, "PYTHON", tmp_path / "venv" / "bin" / "python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", install.VENV], check=True)
    assert not install.has_pip()
    install.make_venv()
    assert install.has_pip()
    kept = install.VENV / "kept"
    kept.touch()
    install.make_venv()
    assert kept.exists()


def test_an_old_python_is_one_sentence(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install.sys, "version_info", (3, 10, 4))
    monkeypatch.setattr(install.sys, "argv", ["install.py"])
    with pytest.raises(SystemExit, match=r"saescope needs Python 3\.11 or newer"):
        install.main()


def test_the_constraints_pin_all_that_the_project_needs() -> None:
    """An unpinned dependency would make two installs differ."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all("==" in line for line in lines)
    assert not any("+" in line or "@" in line or "://" in line for line in lines)
    assert "torch==2.13.0" in lines


class _Quiet(SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        """Files; those of the private index for who has its password."""
        known = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
        if self.path.startswith("/private") and self.headers.get("Authorization") != known:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()
            return None
        return super().send_head()

    def log_message(self, format: str, *args: object) -> None:
        pass


def _wheel(
    folder: Path, name: str, version: str, requires: list[str], padding: int = 500_000
) -> None:
    """Write a wheel that pip can read, `padding` bytes large."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/weights": b"0" * padding,
        f"{info}/METADATA": "\n".join(metadata).encode() + b"\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},sha256={_digest(content)},{len(content)}" for path, content in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,"]).encode()
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
