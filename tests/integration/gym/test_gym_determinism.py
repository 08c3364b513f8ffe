"""Every built-in environment in two processes at once: tasks and scores are the spec's alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from marketplace.gym.spec import builtin_names

ROOT = Path(__file__).parents[3]

_DUMP = """
import json
from marketplace.gym.environment import Environment
from marketplace.gym.spec import builtin_names, builtin_spec
from marketplace.protocol.hashing import keccak
out = []
for name in builtin_names():
    environment = Environment(builtin_spec(name))
    for number in range(6):
        task = environment.task(keccak(number.to_bytes(8, "big")))
        out.append([task.prompt, task.answer, environment.heldout(number).prompt])
        out.append(environment.judge(task, "<answer>7</answer>").score)
print(json.dumps(out))
"""


def test_two_processes_agree_whatever_the_hash_seed() -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _DUMP],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
        )
        for hash_seed in ("1", "2")
    ]
    one, two = (process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert one == two
    assert len(json.loads(one)) == 12 * len(builtin_names())
