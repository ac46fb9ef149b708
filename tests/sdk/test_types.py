"""Results in the tools that take dataclasses apart, put them together or send them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from fer_sdk import Box, Face, Frame, Point


def _face(happy: float = 0.75) -> Face:
    points = tuple(Point(float(number), 1.0) for number in range(4))
    return Face(
        box=Box(1.0, 2.0, 3.0, 4.0),
        detection_score=0.9,
        landmarks=points,  # type: ignore[arg-type]
        emotion="happy",
        confidence=happy,
        scores={"happy": happy, "sad": 1 - happy},
        track_id=3,
    )


@pytest.mark.parametrize("thing", [_face(), Frame(0, 0.5, 6, 7, (_face(),))], ids=["face", "frame"])
def test_results_behave_as_frozen_dataclasses(thing: Face | Frame) -> None:
    apart = dataclasses.asdict(thing)
    assert list(apart) == [field.name for field in dataclasses.fields(thing)]
    for same in (pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)):
        assert same == thing
        assert hash(same) == hash(thing)
    assert dataclasses.replace(thing) in {thing}
    name = dataclasses.fields(thing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, name, None)


def test_the_scores_are_a_dict_of_the_faces_own() -> None:
    given = {"happy": 1.0}
    face = dataclasses.replace(_face(), scores=given)
    given["happy"] = 0.0
    assert json.dumps(face.scores) == '{"happy": 1.0}'
    assert _face(0.75) == _face(0.75) != _face(0.5)


def test_a_table_of_faces_by_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame([_face(), _face(0.5)])
    assert list(table.confidence) == [0.75, 0.5]
    assert table.scores[1] == {"happy": 0.5, "sad": 0.5}
    assert tuple(table.box[0]) == _face().box


def test_faces_there_and_back_by_pydantic() -> None:
    """As FastAPI sends what a handler returns, and reads what comes in."""
    pydantic = pytest.importorskip("pydantic")
    faces = [_face(), dataclasses.replace(_face(0.5), track_id=None, detection_score=None)]
    adapter = pydantic.TypeAdapter(list[Face])
    sent = adapter.dump_json(faces)
    assert json.loads(sent)[0]["scores"] == _face().scores
    assert adapter.validate_json(sent) == faces
    frames = pydantic.TypeAdapter(Frame)
    frame = Frame(0, 0.5, 6, 7, tuple(faces))
    assert frames.validate_json(frames.dump_json(frame)) == frame
