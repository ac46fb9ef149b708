"""Whether CUDA can be measured here."""

from __future__ import annotations

from fer_sdk.models import session as runtime


def why_not() -> str | None:
    """Why nothing can run on CUDA; None when the installed onnxruntime offers it."""
    if runtime.has_cuda():
        return None
    return (
        f"onnxruntime {runtime.version()} here is built for {', '.join(runtime.providers())} only; "
        "install onnxruntime-gpu in place of onnxruntime to measure a GPU"
    )
