"""to_json: what is not finite becomes null, at any depth; all else is as json.dumps writes it."""

import json
import math

import numpy as np

from rlsuite.records.json_text import to_json


def strict(text):
    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null():
    found = {"interval": (math.nan, math.inf), "rows": [{"kept": np.float64("-inf"), "mean": 1.5}], "count": 2}
    expected = {"interval": [None, None], "rows": [{"kept": None, "mean": 1.5}], "count": 2}
    assert strict(to_json(found)) == expected


def test_all_else_is_unchanged():
    found = {"a": [1, 2.5, True, None, "NaN"], "b": {}}
    assert to_json(found) == json.dumps(found)
    assert to_json(found, indent=1) == json.dumps(found, indent=1)
