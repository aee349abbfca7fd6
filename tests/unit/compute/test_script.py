"""A job's own code: its state as a file, its session, its ends."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cyxwiz.compute import script as script_module
from cyxwiz.compute.child_protocol import encode_report
from cyxwiz.compute.orders import Orders
from cyxwiz.compute.script import run_script
from cyxwiz.compute.state import read_state, write_state
from cyxwiz.compute.tensors import write_tensors
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.script import Script, check_script
from cyxwiz.ports.executor import Checkpointed, Failed, Finished, FirstStep, Logged, Preempted, Progressed, Report
from tests.unit.compute.test_train import job

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text() | st.integers() | st.just("$"), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(plain)
def test_a_state_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    path = tmp_path_factory.mktemp("state") / "state"
    write_state(path, state)
    assert read_state(path) == state


def test_tensors_and_arrays_come_back(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    half = torch.ones(2, 3, dtype=torch.bfloat16).t()
    array = np.arange(6, dtype=np.int16).reshape(2, 3)
    write_state(
        tmp_path / "s", {"m": model.state_dict(), "o": optimizer.state_dict(), "h": half, "a": array, "x": math.inf}
    )
    back = read_state(tmp_path / "s")
    torch.nn.Linear(3, 2).load_state_dict(back["m"])
    torch.optim.Adam(torch.nn.Linear(3, 2).parameters()).load_state_dict(back["o"])
    assert torch.equal(back["m"]["weight"], model.weight)
    assert torch.equal(back["h"], half)
    assert back["h"].dtype is torch.bfloat16
    assert (back["a"] == array).all()
    assert back["a"].dtype == np.int16
    assert back["x"] == math.inf


@pytest.mark.parametrize(
    "state",
    [
        {"seen": {np.int64(3): 5}, "last": [np.float32(0.5), np.bool_(True)], "best": np.float64("-inf")},
        {"blob": bytes(range(256)) * 300_000, "short": b"\x00\xff", "none": b""},
        {"replay": ["x" * 1000] * 110_000},
    ],
    ids=["numbers of NumPy", "long bytes", "a long list"],
)
def test_a_state_of_any_size_and_numbers_of_numpy_come_back(tmp_path: Path, state: Any) -> None:
    write_state(tmp_path / "s", state)
    assert read_state(tmp_path / "s") == state


def test_a_state_of_before_is_read(tmp_path: Path) -> None:
    """Its structure is in the metadata, with all bytes as text."""
    structure = {
        "x": {"$": "array", "name": "0"},
        "b": {"$": "bytes", "value": "AP8="},
        "n": {"$": "float", "value": "inf"},
    }
    metadata = {"format": "pt", "cyxwiz.state": json.dumps(structure)}
    write_tensors(tmp_path / "s", {"0": torch.arange(3)}, metadata)
    back = read_state(tmp_path / "s")
    assert back.pop("x").tolist() == [0, 1, 2]
    assert back == {"b": b"\x00\xff", "n": math.inf}


def test_more_tensors_than_a_file_can_be_read_with_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cyxwiz.compute.tensors._MAX_HEAD", 10_000)
    with pytest.raises(ValueError, match="201 tensors are more than one file can keep"):
        write_state(tmp_path / "s", [torch.zeros(1)] * 200)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("state", [object(), {"a": [lambda: 0]}, {1, 2}, np.array([object()]), OrderedDict])
def test_what_can_not_be_kept_is_named(tmp_path: Path, state: Any) -> None:
    with pytest.raises(TypeError, match="state"):
        write_state(tmp_path / "s", state)
    assert not (tmp_path / "s").exists()


def test_a_state_as_deep_as_the_sea(tmp_path: Path) -> None:
    deep: Any = 0
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(TypeError, match="nested deeper"):
        write_state(tmp_path / "s", deep)


# running


def run(folder: Path, code: str, orders: Orders | None = None, **changes: Any) -> tuple[list[Report], Report]:
    folder.mkdir(exist_ok=True)
    (folder / "source" / "lib").mkdir(parents=True, exist_ok=True)
    (folder / "source" / "main.py").write_text(code)
    (folder / "source" / "lib" / "helper.py").write_text("WORD = 'helped'\n")
    script = Script("main.py", {"main.py": "0" * 64, "lib/helper.py": "1" * 64}, ("--fast", "2"))
    reports: list[Report] = []
    work = job(folder, script=script, source=folder / "source", **{"dataset_uri": "", **changes})
    before = sys.path[:]
    try:
        return reports, run_script(work, script, reports.append, orders or Orders())
    finally:
        sys.path[:] = before


def test_what_a_script_says_and_leaves(tmp_path: Path) -> None:
    code = """
import sys
import cyxwiz.job as job
from lib.helper import WORD
assert sys.argv[1:] == ["--fast", "2"] and __name__ == "__main__"
job.log(WORD, "warning")
for step in range(1, 5):
    job.report(step, {"loss": 1 / step}, of=4)
(job.out_dir / "notes.txt").write_text(job.params["seed"] + job.params["width"])
(job.out_dir / "sub").mkdir()
(job.out_dir / "sub" / "model.pt").write_bytes(b"weights")
"""
    reports, end = run(tmp_path, code, seed=7, hyperparameters={"width": "8"}, epochs=2)
    assert isinstance(end, Finished)
    assert [each.name for each in end.artefacts] == ["sub/model.pt", "notes.txt"]
    assert end.artefacts[1].path.read_text() == "78"
    assert end.final_metrics == {"loss": 0.25}
    assert reports[:2] == [Logged("warning", "helped", "job"), FirstStep()]
    curve = [(each.epoch, each.progress, each.metrics["step"]) for each in reports if isinstance(each, Progressed)]
    assert curve == [(1, 0.25, 1), (1, 0.5, 2), (2, 0.75, 3), (2, 1.0, 4)]


def test_a_script_finds_beside_it_what_it_finds_by_hand(tmp_path: Path) -> None:
    """Its files are in the folder that it starts in, but for what is the job's there."""
    for name in ("words.txt", "data/own.txt", "checkpoints/own.txt", ".cache/own.txt"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    code = """
import cyxwiz.job as job
here = job.out_dir.parent  # where a child starts
assert (here / "words.txt").read_text() == "words.txt" and (here / "lib" / "helper.py").is_file()
assert not (here / "data" / "own.txt").exists() and not (here / ".cache").exists()
job.save({"a": 1})
"""
    for _ in range(2):  # also when it is run again
        reports, end = run(tmp_path, code)
        assert isinstance(end, Finished), end
        (saved,) = (each for each in reports if isinstance(each, Checkpointed))
        assert saved.artefacts[0].path.parent == tmp_path / "checkpoints"


def test_a_script_that_leaves_nothing_has_its_figures_as_result(tmp_path: Path) -> None:
    _, end = run(tmp_path, "import cyxwiz.job as job\njob.report(1, {'loss': 0.5})")
    assert isinstance(end, Finished)
    assert [(each.name, each.path.read_text()) for each in end.artefacts] == [("metrics.json", '{"loss": 0.5}')]


AGAIN = """
import sys
import cyxwiz.job as job
state = job.load() or {"step": 0}
for step in range(state["step"], 6):
    job.report(step + 1, {"step_before": step}, of=6)
    if job.should_stop():
        job.save({"step": step + 1})
        sys.exit(job.AGAIN)
"""


def test_saving_and_going_on(tmp_path: Path) -> None:
    orders = Orders()
    orders.give("preempt")
    reports, end = run(tmp_path / "one", AGAIN, orders, epochs=6)
    assert isinstance(end, Preempted)
    (saved,) = [each for each in reports if isinstance(each, Checkpointed)]
    assert (saved.step, saved.progress) == (1, 1 / 6)
    reports, end = run(tmp_path / "two", AGAIN, epochs=6, resume=saved.file.path)
    assert isinstance(end, Finished)
    steps = [each.metrics["step"] for each in reports if isinstance(each, Progressed)]
    assert steps == [2, 3, 4, 5, 6]
    _, end = run(tmp_path / "three", "import cyxwiz.job as job\njob.report(6, {'loss': 1})", resume=saved.file.path)
    assert isinstance(end, Finished)
    assert end.final_metrics == {"step_before": 0, "loss": 1}, "what was reported before the save counts, too"


LAZY = """
import sys
import cyxwiz.job as job
if job.load() is None and {saves}:
    job.save("prepared")
for step in range(3):
    job.report(step + 1, {{}}, of=3)
    if job.should_stop():
        sys.exit(job.AGAIN)
"""


@pytest.mark.parametrize("saves", [False, True])
def test_who_is_asked_to_stop_may_leave_without_a_new_save(tmp_path: Path, saves: bool) -> None:
    """It goes on from what it had, or begins anew; unasked, it needs something to go on from."""
    orders, code = Orders(), LAZY.format(saves=saves)
    orders.give("preempt")
    reports, end = run(tmp_path / "one", code, orders)
    assert isinstance(end, Preempted)
    saved = [each for each in reports if isinstance(each, Checkpointed)]
    assert len(saved) == int(saves)
    resume = saved[0].file.path if saved else None
    _, end = run(tmp_path / "two", code, orders, resume=resume)
    assert isinstance(end, Preempted)
    _, end = run(tmp_path / "three", "import sys; sys.exit(85)", resume=resume)
    assert isinstance(end, Preempted if saves else Failed)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    code = """
import numpy as np
import cyxwiz.job as job
weights = (job.load() or {"w": np.zeros(2)})["w"]
job.save({"w": weights})
weights += 7
once, twice = job.load()["w"], job.load()["w"]
once += 1
job.report(1, {"loaded": float(twice[0])})
"""
    reports, end = run(tmp_path / "one", code)
    assert isinstance(end, Finished)
    assert end.final_metrics["loaded"] == 0.0
    (saved,) = [each for each in reports if isinstance(each, Checkpointed)]
    _, end = run(tmp_path / "two", code, resume=saved.file.path)
    assert isinstance(end, Finished)
    assert end.final_metrics["loaded"] == 0.0


@pytest.mark.parametrize(("of", "steps"), [(300, range(0, 301, 20)), (None, range(13)), (7, range(8))])
def test_a_checkpoint_lies_in_the_epoch_of_the_curve(tmp_path: Path, of: int | None, steps: range) -> None:
    code = f"""
import cyxwiz.job as job
for step in {steps!r}:
    job.report(step, {{}}, of={of})
    job.save(step)
"""
    reports, end = run(tmp_path, code, epochs=10)
    assert isinstance(end, Finished)
    curve = [each.epoch for each in reports if isinstance(each, Progressed)]
    assert [each.epoch for each in reports if isinstance(each, Checkpointed)] == [max(1, epoch) for epoch in curve]
    assert (curve[1], curve[-1]) == ({300: 1, None: 1, 7: 2}[of], 10)


def test_the_epochs_of_steps_are_whole(tmp_path: Path) -> None:
    code = "import cyxwiz.job as job\nfor step in range(1, 26): job.report(step, {}, of=25)"
    reports, _ = run(tmp_path, code, epochs=25)
    assert [each.epoch for each in reports if isinstance(each, Progressed)] == list(range(1, 26))


@pytest.mark.parametrize("code", ["raise OSError(28, 'No space left')", "import sys\nsys.exit(85)"])
def test_a_script_that_breaks_on_a_full_disk_is_tried_again(
    tmp_path: Path, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, end = run(tmp_path, code)
    assert isinstance(end, Failed)
    assert not end.retryable
    monkeypatch.setattr(script_module, "FULL", 1 << 62)
    _, end = run(tmp_path, code)
    assert isinstance(end, Failed)
    assert (end.code, end.retryable) == ("EXHAUSTED", True)
    _, end = run(tmp_path, "pass")
    assert isinstance(end, Finished)


def test_steps_and_figures_may_be_of_numpy_and_torch(tmp_path: Path) -> None:
    code = (
        "import numpy as np, torch, cyxwiz.job as job\n"
        "job.report(np.int64(1), {'loss': torch.tensor(0.5), 'accuracy': np.float32(1)}, of=torch.tensor(2))\n"
        "job.report(2.0, {}, of=np.float64(2))"
    )
    reports, end = run(tmp_path, code)
    assert isinstance(end, Finished), end
    (one, two) = [each for each in reports if isinstance(each, Progressed)]
    assert encode_report(one)
    assert (one.batch, one.metrics, two.batch) == (1, {"loss": 0.5, "accuracy": 1, "step": 1}, 2)
    assert encode_report(two)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import sys\nsys.exit(3)", "exit status 3"),
        ("import sys\nsys.exit('no luck')", "exit status 1"),
        ("raise ValueError('too bad')", "ValueError: too bad"),
        ("this is no Python", "SyntaxError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("import sys\nsys.exit(85)", "had saved nothing"),
        ("import cyxwiz.job as job\njob.report(1, {'loss': float('nan')})", "finite"),
        ("import cyxwiz.job as job\njob.report(-1, {})", "0 or more"),
        ("import cyxwiz.job as job\njob.report(1.5, {})", "1.5 is no whole number of steps"),
        ("import cyxwiz.job as job\njob.report(float('inf'), {})", "ValueError: inf is no whole number of steps"),
        (
            "import cyxwiz.job as job\nfor i in range(300): job.report(i + 1, {f'metric_{i}': float(i)}, of=300)",
            "figures by 256 names in all; at most 255",
        ),
        ("import cyxwiz.job as job\njob.save(object())", "can't be saved"),
    ],
)
def test_how_a_script_fails(tmp_path: Path, code: str, words: str) -> None:
    _, end = run(tmp_path, code)
    assert isinstance(end, Failed)
    assert words in end.message
    assert not end.retryable


def test_outside_of_a_job_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(AGAIN + "\njob.save({})\njob.log('x')\nprint(job.load(), job.rank, job.world)")
    command = [sys.executable, "alone.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None 0 1\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "alone.py"]


# what is refused


@pytest.mark.parametrize(
    ("script", "field"),
    [
        (Script("main.py", {}), "model.files"),
        (Script("main.py", {"other.py": "0" * 64}), "model.script"),
        (Script("main.sh", {"main.sh": "0" * 64}), "model.script"),
        (Script("main.py", {"main.py": "0" * 63}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "../x": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "/etc/x": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "a//b": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "a\\b": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "a\nb": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64, "main.py/x": "0" * 64}), "model.files"),
        (Script("main.py", {"main.py": "0" * 64}, ("a\0",)), "model.args"),
        (Script("main.py", {"main.py": "0" * 64}, ("a",) * 201), "model.args"),
    ],
)
def test_scripts_that_can_not_be_laid_out(script: Script, field: str) -> None:
    with pytest.raises(CyxError) as caught:
        check_script(script)
    assert caught.value.code is Code.INVALID
    assert caught.value.details["field"] == field
