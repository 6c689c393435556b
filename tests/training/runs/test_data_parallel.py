"""Processes of one run wait for one another, in real processes of `paddle.distributed.launch`."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import time
from training.runs import cpu_environment
cpu_environment.prepare()
from training.runs.data_parallel import join
group = join()
if group.is_leader:
    time.sleep(35)
group.wait()
print("total", group.sum([group.rank + 1.0])[0], flush=True)
"""


def test_processes_wait_for_one_that_takes_longer_than_gloo_does(tmp_path: Path) -> None:
    script = tmp_path / "wait.py"
    script.write_text(SCRIPT)
    launcher = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node=2", f"--log_dir={tmp_path}"]
    done = subprocess.run([*launcher, str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    for rank in range(2):
        assert "total 3.0" in (tmp_path / f"workerlog.{rank}").read_text()
