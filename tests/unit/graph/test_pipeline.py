"""A pipeline is read whole at submit: types, parameters, columns, and shapes where the data are known."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.graph import BUILTIN, DataShape, check_pipeline, parse_pipeline
from cyxwiz.graph.pipeline import KINDS, MAX_STEPS, Step

IMAGES = DataShape(100, (28, 28), 10)


def parse(*steps: Any) -> tuple[Step, ...]:
    return parse_pipeline(json.dumps({"steps": steps}))


def refused(shape: DataShape | None, *steps: Any) -> str:
    with pytest.raises(CyxError) as caught:
        check_pipeline(parse(*steps), shape)
    assert caught.value.code is Code.INVALID
    return caught.value.message


def test_defaults_and_columns() -> None:
    first, second, third = parse(
        {"type": "impute"}, {"type": "clip", "min": -1, "columns": "0:3,7"}, {"type": "one_hot", "columns": [2, 0]}
    )
    assert (first.params["with"], first.columns) == ("mean", None)
    assert (dict(second.params), second.columns) == ({"min": -1.0}, (0, 1, 2, 7))
    assert third.columns == (2, 0)


@pytest.mark.parametrize(
    ("data", "steps", "shape"),
    [
        (BUILTIN["wine"], [{"type": "standardize"}, {"type": "split"}], (13,)),
        (BUILTIN["wine"], [{"type": "select", "columns": [3, 1]}], (2,)),
        (BUILTIN["wine"], [{"type": "drop", "columns": "0:4"}], (9,)),
        (BUILTIN["wine"], [{"type": "one_hot", "columns": [0, 1], "classes": 5}], (21,)),
        (BUILTIN["wine"], [{"type": "one_hot", "columns": [0]}, {"type": "pca", "components": 99}], None),
        (BUILTIN["wine"], [{"type": "pca", "components": 2}, {"type": "cast", "to": "float16"}], (2,)),
        (BUILTIN["digits"], [{"type": "reshape", "shape": [8, -1]}, {"type": "resize", "size": [4, 6]}], (4, 6)),
        (DataShape(9, (3, 8, 8), 2), [{"type": "resize", "size": [4, 6], "layout": "chw"}], (3, 4, 6)),
        (IMAGES, [{"type": "augment", "flip": "horizontal"}, {"type": "reshape", "shape": 784}], (784,)),
        (None, [{"type": "drop", "columns": [500]}], None),
    ],
)
def test_shapes_are_known_where_the_data_are(data: DataShape | None, steps: list[Any], shape: Any) -> None:
    assert check_pipeline(parse(*steps), data) == shape


@pytest.mark.parametrize(
    ("data", "steps", "words"),
    [
        (None, [{"type": "standardise"}], "steps.0: there is no step 'standardise'. Known: impute"),
        (None, ["shuffle"], "steps.0: must be an object with a type"),
        (None, [{"type": "shuffle"}, {"type": "clip"}], "steps.1 (clip): needs min, max or both"),
        (None, [{"type": "clip", "min": 2, "max": 1}], "min must be below max"),
        (None, [{"type": "clip", "low": 2}], "'low' is unknown; it takes columns, max, min"),
        (None, [{"type": "shuffle", "columns": [1]}], "'columns' is unknown; it takes nothing"),
        (None, [{"type": "normalize", "low": 1}], "low must be below high"),
        (None, [{"type": "select"}], "columns is missing"),
        (None, [{"type": "select", "columns": []}], "columns must be numbers from 0"),
        (None, [{"type": "select", "columns": [1, 1]}], "columns must be numbers from 0"),
        (None, [{"type": "select", "columns": "4:2"}], "its end above its start"),
        (None, [{"type": "select", "columns": "0:999999"}], "more than"),
        (None, [{"type": "select", "columns": [-1]}], "-1"),
        (None, [{"type": "scale", "factor": 0}], "factor must not be 0"),
        (None, [{"type": "scale", "factor": "many"}], "steps.0 (scale): factor"),
        (None, [{"type": "split", "test": 0}], "must be above 0"),
        (None, [{"type": "split", "test": 0.5, "validation": 0.5}], "below 0.95"),
        (None, [{"type": "split"}, {"type": "split"}], "steps.1 (split): there is a split already, step 0"),
        (None, [{"type": "filter"}], "needs either labels, or a column"),
        (None, [{"type": "filter", "column": 1}], "needs either labels, or a column"),
        (None, [{"type": "filter", "column": 1, "min": 0, "labels": [1]}], "needs either labels, or a column"),
        (None, [{"type": "augment"}], "changes nothing"),
        (None, [{"type": "resize"}], "size is missing"),
        (None, [{"type": "resize", "size": [1, 2, 3]}], "height and width"),
        (None, [{"type": "resize", "size": [1, 9999]}], "at most 4096"),
        (None, [{"type": "cast", "to": "complex"}], "one of float16"),
        (None, [{"type": "shuffle"}] * (MAX_STEPS + 1), "at most"),
        (BUILTIN["wine"], [{"type": "drop", "columns": [13]}], "there is no column 13: a sample has 13"),
        (BUILTIN["wine"], [{"type": "filter", "column": 20, "min": 0}], "there is no column 20"),
        (BUILTIN["wine"], [{"type": "drop", "columns": "0:13"}], "leaves no column"),
        (BUILTIN["wine"], [{"type": "pca", "components": 14}], "components is 14"),
        (BUILTIN["wine"], [{"type": "reshape", "shape": [2, 2]}], "13 values don't fill"),
        (BUILTIN["wine"], [{"type": "resize", "size": [2, 2]}], "reshape it first"),
        (BUILTIN["diabetes"], [{"type": "filter", "labels": [1]}], "numbers to predict"),
        (IMAGES, [{"type": "standardize", "columns": [1]}], "needs rows of columns"),
    ],
)
def test_what_is_wrong_is_named(data: DataShape | None, steps: list[Any], words: str) -> None:
    assert words in refused(data, *steps)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": {}}', '{"steps": [], "x": 1}', "[" * 5000])
def test_what_is_no_pipeline(text: str) -> None:
    with pytest.raises(CyxError) as caught:
        parse_pipeline(text)
    assert caught.value.code is Code.INVALID


plain = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers(), max_size=3)
)
keys = sorted({"columns", "extra", *(key for kind in KINDS.values() for key in kind.params)})


@given(
    st.lists(
        st.builds(
            lambda kind, rest: {**rest, "type": kind},
            st.sampled_from(sorted(KINDS)),
            st.dictionaries(st.sampled_from(keys), plain, max_size=3),
        ),
        max_size=4,
    ),
    st.sampled_from([None, BUILTIN["wine"], IMAGES]),
)
@settings(deadline=None)
def test_any_pipeline_is_read_or_refused_in_our_own_words(steps: list[Any], data: DataShape | None) -> None:
    refused = None
    try:
        check_pipeline(parse(*steps), data)
    except CyxError as error:
        refused = error
    assert refused is None or (refused.code is Code.INVALID and refused.message)
