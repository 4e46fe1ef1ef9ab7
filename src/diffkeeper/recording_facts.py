"""What a trace says of its recording before anything has been recorded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from diffkeeper.recording_settings import Settings
from diffkeeper.store.format import RootFacts, SessionFacts
from diffkeeper.watch_roots import WatchRoot


def first_facts(settings: Settings, engine: str, roots: Sequence[WatchRoot]) -> SessionFacts:
    """Return the facts of a recording by that engine, which has a new number."""
    return SessionFacts(
        trace_id=int.from_bytes(os.urandom(8), "little") or 1,
        argv=[os.fsdecode(argument) for argument in settings.argv],
        cwd=os.getcwd(),
        user=_user_name(),
        uid=os.geteuid() if hasattr(os, "geteuid") else 0,
        hostname=_machine()[0],
        kernel=_machine()[1],
        roots=[RootFacts(os.fsdecode(root.label), os.fsdecode(root.path), *root.identity) for root in roots],
        engine=engine,
        baseline=settings.baseline,
        excludes=list(settings.patterns),
        max_bytes=settings.max_bytes,
        on_full=settings.on_full if settings.max_bytes else "",
    )


def _user_name() -> str:
    try:
        import pwd
    except ImportError:  # on Windows
        return os.environ.get("USERNAME", "")
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _machine() -> tuple[str, str]:
    """Return the names of the machine and of its kernel."""
    if hasattr(os, "uname"):
        return os.uname().nodename, os.uname().release
    import platform  # slow to import

    return platform.node(), platform.version()


def first_line(facts: SessionFacts, path: Path) -> str:
    """Return what ``record`` says when it begins."""
    roots = ", ".join(_short(root.path, facts.cwd) for root in facts.roots)
    return f"recording {roots} with {facts.engine} into {path}"


def _short(path: str, cwd: str) -> str:
    """Return a path as seen from ``cwd`` where it lies there."""
    if path == cwd:
        return "."
    return path[len(cwd) + 1 :] if path.startswith(cwd + "/") else path
