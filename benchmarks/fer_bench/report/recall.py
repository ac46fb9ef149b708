"""A picture of which faces the detectors find, by their size."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from fer_bench.quality.detection_photos import PhotosResult
from fer_bench.report.plots import STYLE


def save_recall(result: PhotosResult, path: Path) -> None:
    """Write recall against the size of the face, a line for each detector."""
    with mpl.rc_context(dict(STYLE)):
        figure = Figure(figsize=(10, 4), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for axes, what, title in (
            (left, "relative", "longer side of the face / of the photo"),
            (right, "pixels", "longer side of the face"),
        ):
            counts = getattr(result.detectors[0], what)
            # The smallest faces first, as on any axis.
            names = [name for name in reversed(counts) if counts[name].faces]
            places = range(len(names))
            for at, one in enumerate(result.detectors):
                shares = [100 * getattr(one, what)[name].recall for name in names]
                # Where lines lie on each other, the lower one is the wider one.
                width = 1.5 + 2.5 * (len(result.detectors) - 1 - at)
                axes.plot(places, shares, marker="o", linewidth=width, label=one.detector)
            axes.set_xticks(places, [f"{name}\n{counts[name].faces} faces" for name in names])
            axes.set_xlabel(title)
        left.set_ylabel("faces found, %")
        left.set_ylim(-3, 103)
        left.set_title(f"{result.photos} photos, overlap from {result.overlap:g}")
        left.legend(frameon=False)
        figure.savefig(path, dpi=120)
