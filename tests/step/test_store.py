"""The results database: what is written is read, many writers lose nothing."""

import subprocess
import sys

import pandas as pd
import pytest

from step.store import Store, StoreError


def row(name, status="finished"):
    return {"id": name, "suite": "s", "status": status, "seed": 0, "spec": {"a": 1}, "error": None, "seconds": 1.5,
            "machine": {"cores": "2"}}  # fmt: skip


def test_what_is_written_is_read(tmp_path):
    store = Store(str(tmp_path / "deep" / "r.sqlite"))
    frame = pd.DataFrame({"layer": ["a", None], "count": [1.5, float("nan")]})
    store.finish(row("x"), {"acc": 0.5}, [(1, "loss", 2.0), (2, "loss", 1.0)], {"record.layers": frame})
    again = Store(str(tmp_path / "deep" / "r.sqlite"))
    assert again.statuses() == {"x": "finished"}
    assert again.metrics(["x"]).loc["x", "acc"] == 0.5
    assert again.curves()["value"].tolist() == [2.0, 1.0]
    pd.testing.assert_frame_equal(again.frames("x", "record.")["layers"], frame)
    assert again.runs()["spec"][0] == {"a": 1}
    assert again.statuses(["y"]) == {}


def test_a_run_that_is_written_again_replaces_all_of_the_first(tmp_path):
    store = Store(str(tmp_path / "r.sqlite"))
    store.finish(row("x", "failed"), {"old": 1.0}, [(1, "loss", 2.0)])
    store.finish(row("x"), {"new": 2.0})
    assert list(store.metrics().columns) == ["new"]
    assert store.curves().empty
    assert store.statuses() == {"x": "finished"}


def test_many_writers_at_once_lose_nothing(tmp_path):
    path = str(tmp_path / "r.sqlite")
    code = (
        "import sys; from step.store import Store\n"
        "from datetime import datetime\n"
        "for n in range(15):\n"
        "    name = f'{sys.argv[2]}-{n}'\n"
        "    run = {'id': name, 'suite': 's', 'status': 'finished', 'seed': 0, 'spec': {}, 'error': None,"
        " 'seconds': 0.0, 'machine': {}}\n"
        "    Store(sys.argv[1]).finish(run, {'m': float(n)}, [(e, 'loss', 1.0) for e in range(20)])\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, path, str(w)]) for w in range(4)]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    store = Store(path)
    assert len(store.runs()) == 60
    assert len(store.metrics()) == 60
    assert len(store.curves()) == 60 * 20


@pytest.mark.parametrize("url", ["nonsense://x", "postgresql://localhost:1/none"])
def test_unusable_databases_get_one_line(url):
    with pytest.raises(StoreError) as caught:
        Store(url)
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_text_file_is_no_database(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        Store(str(tmp_path))
    (tmp_path / "notes.txt").write_text("hello, this is not a database at all" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(str(tmp_path / "notes.txt"))
