"""The trainer's heap: what it keeps of what was freed, and how much there is of it."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
from pathlib import Path

MAPPED_BLOCK_BYTES = 4 << 20
"""Blocks of memory from this size on go back to the system when they are freed. Lower
makes small models slow, higher keeps the activations of large ones (see below)."""

KEPT_HEAP_BYTES = 64 << 20
"""Free memory that smaller blocks may keep for the next step."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_STATM = Path("/proc/self/statm")


def bound_heap() -> None:
    """Keeps peak memory in proportion to what training uses.

    glibc raises both thresholds by itself, after which activations share a heap that
    fragments: peaks then grew by up to a half and differed from run to run.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, MAPPED_BLOCK_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, KEPT_HEAP_BYTES)


def resident_bytes() -> int:
    """What this process has in memory when all that was freed has been given back; on
    systems that do not tell, the most that it ever had."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
    if not _STATM.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pages = int(_STATM.read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
