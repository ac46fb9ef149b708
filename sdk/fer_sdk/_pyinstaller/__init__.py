"""Tells PyInstaller what a frozen app needs: it finds this folder by an entry point."""

from __future__ import annotations

from pathlib import Path


def hook_dirs() -> list[str]:
    """Where the hooks are; called by PyInstaller."""
    return [str(Path(__file__).parent)]
