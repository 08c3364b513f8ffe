"""A full disk is a message, not a traceback; what is a bug stays one."""

from __future__ import annotations

import errno
import os

import pytest

from marketplace.cli import main


def test_what_the_disk_says(monkeypatch, capsys):
    def failing(number):
        def app():
            raise OSError(number, os.strerror(number), "out.run/metrics.jsonl")

        return app

    monkeypatch.setattr(main, "app", failing(errno.ENOSPC))
    with pytest.raises(SystemExit) as ended:
        main.main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "error: OSError: No space left on device (out.run/metrics.jsonl)" in said
    assert "fix: free disk space" in said
    monkeypatch.setattr(main, "app", failing(errno.ENOENT))
    with pytest.raises(FileNotFoundError):
        main.main()
