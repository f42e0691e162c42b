"""`cloud_tasks.results`: results as Python values, on request."""

from __future__ import annotations

import base64
import json
import pickle
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from store_facts import completed, failed, new_store

from cloud_tasks.errors import InputError
from cloud_tasks.results import load_result, load_results

VALUE = {Fraction(1, 3): {1, 2}}
PICKLED = pickle.dumps(VALUE)
IN_EVENT = {
    "result": None,
    "result_type": "builtins.dict",
    "result_bytes": len(PICKLED),
    "result_pickle": base64.b64encode(PICKLED).decode(),
}


def test_load_results_yields_the_value_of_each_completed_task(tmp_path: Path) -> None:
    (tmp_path / "a.pickle").write_bytes(PICKLED)
    (tmp_path / "a.json").write_text('{"long": 1}')
    stored = {"result": None, "result_bytes": 3, "result_address": str(tmp_path / "a.pickle")}
    in_json = {**stored, "result_address": f"file://{tmp_path}/a.json"}
    with new_store(tmp_path, ["a", "b", "c", "d", "e", "f"]) as store:
        in_store = {**stored, "result_type": "builtins.dict"}
        details: list[dict[str, Any]] = [{"result": [1]}, IN_EVENT, in_store, in_json, {}]
        store.apply_events([completed(name, details=more) for name, more in zip("abcde", details, strict=True)])
        store.apply_events([failed("f")])
    assert list(load_results(tmp_path / "job.db")) == [
        ("a", [1]),
        ("b", VALUE),
        ("c", VALUE),
        ("d", {"long": 1}),
        ("e", None),
    ]


@pytest.mark.parametrize("event", [IN_EVENT, {"event_type": "task_completed", "details": IN_EVENT}])
def test_load_result_takes_events_of_logs_and_exports(event: dict[str, Any]) -> None:
    assert load_result(json.loads(json.dumps(event))) == VALUE


def test_load_result_of_a_value_that_was_not_kept_raises() -> None:
    with pytest.raises(InputError, match=r"t1: the result of type _thread.lock was not kept"):
        load_result({"task_id": "t1", "result": None, "result_type": "_thread.lock", "result_repr": "<lock>"})


def test_no_other_module_unpickles() -> None:
    root = Path(__file__).parents[2]
    modules = [*root.glob("core/src/**/*.py"), *root.glob("plugins/*/src/**/*.py")]
    assert len(modules) > 100
    unpickling = re.compile(r"\b(c?[pP]ickle|dill|cloudpickle|joblib|shelve|marshal)\.(loads?|Unpickler|open)\b")
    known = {
        "core/src/cloud_tasks/results.py",
        # A spawned task process reads its assignment, written by its own fork server, from an unnamed file.
        "core/src/cloud_tasks/worker/forkserver/spawn.py",
        # A process of the conformance kit reads its orders, written by the process that started it, from a pipe.
        "core/src/cloud_tasks/testing/second_process.py",
    }
    found = {str(path.relative_to(root)) for path in modules if unpickling.search(path.read_text())}
    assert found <= known | {"core/src/cloud_tasks/worker/common/ipc.py"}
    assert "core/src/cloud_tasks/results.py" in found
    assert not any("import pickle" in path.read_text() for path in modules if "dashboard" in path.parts)
