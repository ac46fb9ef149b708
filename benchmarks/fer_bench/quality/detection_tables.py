"""The figures of the face detection as people read them in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from fer_bench.quality.detection import Answers, DetectionResult, Reach
from fer_bench.quality.detection_photos import FEW, PIXELS, RELATIVE, Found, PhotosResult


def show_photos(result: PhotosResult, console: Console) -> None:
    """Print what each detector finds in photos, and what it takes."""
    for one in result.detectors:
        _say(f"{one.detector}: {one.runs} ({one.reason})", console)
    table = _table(
        f"{result.photos} photos, overlap from {result.overlap:g}", "faces", *_names(result)
    )
    first = result.detectors[0]
    for name, count in {**first.relative, **first.pixels}.items():
        cells = ({**one.relative, **one.pixels}[name] for one in result.detectors)
        table.add_row(name, str(count.faces), *map(_recall, cells))
        if name == list(RELATIVE)[-1] or name == list(PIXELS)[-1]:
            table.add_section()
    table.add_row("all", str(first.all.faces), *(_recall(one.all) for one in result.detectors))
    table.add_row(
        f"of at most {FEW} in a photo",
        str(first.few.faces),
        *(_recall(one.few) for one in result.detectors),
    )
    table.add_section()
    table.add_row(
        "photos with none found",
        f"of {first.photos_with_faces}",
        *(str(one.photos_without_any_found) for one in result.detectors),
    )
    table.add_row(
        "false boxes a photo",
        "",
        *(f"{one.false_boxes / result.photos:.3f}" for one in result.detectors),
    )
    times = [one.times() for one in result.detectors]
    table.add_row("median ms a photo, one thread", "", *(f"{half:.1f}" for half, _ in times))
    table.add_row("95th percentile", "", *(f"{most:.1f}" for _, most in times))
    console.print(table)


def show(results: Sequence[DetectionResult], console: Console) -> None:
    """Print what each detector does on composed pictures."""
    for one in results:
        info = one.pipeline
        _say(
            f"{one.detector}: fer-sdk {info['fer_sdk']}, {info['detector']} "
            f"({info['detector_reason']}), seed {one.seed}",
            console,
        )
    for title, table in (
        (f"Faces of FER2013, {results[0].split}", _answers(results)),
        ("Pictures without a face in which one is found", _alarms(results)),
        ("Faces found in scenes, +boxes beside them; sizes in the longer side", _reach(results)),
    ):
        if table.row_count:
            console.print(title, style="bold", highlight=False)
            console.print(table)


def _names(result: PhotosResult) -> list[str]:
    return [one.detector for one in result.detectors]


def _say(text: str, console: Console) -> None:
    console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)


def _recall(count: Found) -> str:
    return "" if count.recall is None else f"{count.recall:.1%}"


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for place, head in enumerate(heads):
        table.add_column(
            head, justify="right" if place else "left", no_wrap=not place, overflow="fold"
        )
    return table


def _answers(results: Sequence[DetectionResult]) -> Table:
    table = _table(
        "given as", "detector", "faces", "answered", "accuracy", "of answered", "given crops"
    )
    for one in results:
        for name, faces in (
            ("48x48, as they are", one.low_resolution),
            ("on a gray canvas", one.end_to_end),
        ):
            if faces is not None:
                table.add_row(name, one.detector, *_row(faces))
    return table


def _row(one: Answers) -> tuple[str, ...]:
    return (
        str(one.pictures),
        f"{one.answered / one.pictures:.2%}",
        f"{one.accuracy:.1%}",
        "" if one.accuracy_of_answered is None else f"{one.accuracy_of_answered:.1%}",
        f"{one.given_accuracy:.1%}",
    )


def _alarms(results: Sequence[DetectionResult]) -> Table:
    table = _table("pictures", "detector", "of", "with one", "most from")
    for result in results:
        for one in result.false_alarms:
            table.add_row(
                one.size,
                result.detector,
                str(one.pictures),
                f"{one.found} ({one.found / one.pictures:.1%})",
                ", ".join(f"{name} {count}" for name, count in list(one.sources.items())[:2]),
            )
    return table


_UNITS = {"size": "size 1/{}", "tilt": "tilt {}°", "dark": "light 1/{}", "count": "count {}"}


def _reach(results: Sequence[DetectionResult]) -> Table:
    faces = list(dict.fromkeys(row.face for row in results[0].reach))
    cells = {
        (row.what, row.value, row.face, one.detector): _cell(row)
        for one in results
        for row in one.reach
    }
    columns = [(face, one.detector) for face in faces for one in results]
    table = _table("faces", *(", ".join(column) for column in columns))
    for what, value in dict.fromkeys((row.what, row.value) for row in results[0].reach):
        table.add_row(
            _UNITS[what].format(value), *(cells[what, value, *column] for column in columns)
        )
    return table


def _cell(row: Reach) -> str:
    return f"{row.found}/{row.faces}" + (f" +{row.extra}" if row.extra else "")
