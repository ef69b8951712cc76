"""Who may join a fleet: the token of its cluster, and how Ray is told of it. Imports ray only on request.

Ray's own rules: docs.ray.io/en/latest/ray-security/token-auth.html (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..errors import KeyProblemError, PackageError
from ..files.private_file import read_private, write_private
from ..version import VERSION

__all__ = [
    "OLDEST_RAY",
    "ONLY_HERE",
    "ClusterAccess",
    "make_token",
    "require_ray",
    "require_same",
    "token_file",
    "versions",
]

OLDEST_RAY = (2, 55)  # the first whose token check is on for every connection; tested with 2.60
ONLY_HERE = "127.0.0.1"  # the address that no other machine reaches
_FILE = "cluster.token"
_SHORTEST = 32


@dataclass(frozen=True)
class ClusterAccess:
    """How a process joins.

    token: the file that holds it; None joins without one. host: address of this machine for the others.
    """

    token: Path | None
    host: str = ONLY_HERE

    def environment(self) -> dict[str, str]:
        """Return the variables that Ray reads when it is imported."""
        known = {
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_TOKEN": "",
            "RAY_worker_niceness": "0",  # else 15: beside other work workers would hardly run
            "RAY_NUM_REDIS_GET_RETRIES": "4",  # one a second; with 20 a wrong token is told after 23 s
        }
        if self.host == ONLY_HERE:
            # Else Ray takes it for "any address of this machine". Clusters of one machine are the default on
            # Windows and macOS (resolve_ip_for_localhost in ray/_private/services.py, 2.60).
            known["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        if self.token is None:
            return {**known, "RAY_AUTH_MODE": "disabled"}
        return {**known, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}


def require_ray() -> None:
    """Raise PackageError if ray is not installed, or too old. Does not import it."""
    fix = f"pip install 'wan-duet[ray]' (ray {OLDEST_RAY[0]}.{OLDEST_RAY[1]} or newer)"
    if importlib.util.find_spec("ray") is None:
        raise PackageError(f"ray is not installed; {fix}")
    found = importlib.metadata.version("ray")
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST_RAY:
        raise PackageError(f"ray {found} is too old; {fix}")


def token_file(folder: Path) -> Path:
    """Return the file of the token. Raises KeyProblemError if there is none, or if others can read it."""
    file = folder / _FILE
    try:
        token = read_private(file).strip()
    except FileNotFoundError:
        raise KeyProblemError(
            f"{file}: not there; copy it from the first machine of the fleet (mode 600), or join without a "
            "token with --insecure"
        ) from None
    if len(token) < _SHORTEST:
        raise KeyProblemError(f"{file}: too short for a token; copy it again from the first machine")
    return file


def make_token(folder: Path) -> Path:
    """Return the file of the token, which is made if there is none."""
    if not (folder / _FILE).exists():
        write_private(folder / _FILE, secrets.token_hex(_SHORTEST), "no token can be saved")
    return token_file(folder)


def versions() -> dict[str, str]:
    """Return what all processes of a fleet must have in common."""
    return {
        "Python": platform.python_version(),
        "ray": importlib.metadata.version("ray"),
        "wan-duet": VERSION,
    }


def require_same(theirs: dict[str, str], where: str) -> None:
    """Raise PackageError, in one line, if another machine has another minor version of something."""
    ours = versions()
    wrong = [
        f"{name} {theirs.get(name, 'unknown')} there and {ours[name]} here"
        for name in ours
        if _minor(theirs.get(name, "")) != _minor(ours[name])
    ]
    if wrong:
        raise PackageError(f"{where}: {', '.join(wrong)}; install the same minor versions on both")


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
