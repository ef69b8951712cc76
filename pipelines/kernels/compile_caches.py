"""Where compiled kernels stay, so that the next process need not compile them again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CompileCache", "compile_caches", "keep_compiled", "remove_compiled"]

_INDUCTOR, _TRITON = "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"  # what torch and triton read


@dataclass(frozen=True)
class CompileCache:
    """A folder of compiled kernels. of: what compiles them. is_ours: no other program has a part in it."""

    of: str
    folder: Path
    is_ours: bool

    @property
    def size_bytes(self) -> int:
        """The size of its files; 0 where it is missing."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())


def compile_caches(environ: Mapping[str, str] = os.environ) -> list[CompileCache]:
    """Return the folders of torch.compile and of triton, whose environment variables come first."""
    from platformdirs import PlatformDirs  # what compiles nothing does without it

    ours = PlatformDirs("wan-duet", appauthor=False).user_cache_path / "torch-compile"
    inductor = Path(environ.get(_INDUCTOR) or ours)
    triton = Path(environ.get(_TRITON) or Path.home() / ".triton" / "cache")
    return [CompileCache("torch.compile", inductor, inductor == ours), CompileCache("triton", triton, False)]


def keep_compiled() -> None:
    """Let torch.compile keep its kernels in our folder, unless one is set: its own is a temporary one."""
    compiled, _ = compile_caches()
    os.environ.setdefault(_INDUCTOR, str(compiled.folder))


def remove_compiled() -> list[CompileCache]:
    """Remove the folders that are ours, and return those that were there."""
    found = [cache for cache in compile_caches() if cache.is_ours and cache.folder.is_dir()]
    for cache in found:
        shutil.rmtree(cache.folder)
    return found
