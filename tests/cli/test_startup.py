"""Signals and standard streams of the process, from its first moment on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from descend.cli import main
from descend.cli.signals import Stopped, stopping
from descend.cli.streams import standard_streams

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells of POSIX")
ONE_EPOCH = ["--set", "stop.max_epochs=1"]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONIOENCODING", "COLUMNS")}
    return kept | {"OMP_NUM_THREADS": "1"} | more


def shell(command: str, folder: Path, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of a shell in which ``descend`` is this program."""
    line = command.replace("descend", f"{sys.executable} -m descend")
    return subprocess.run(
        ["bash", "-c", line], cwd=folder, capture_output=True, env=environment(**more), check=False
    )


class TestSignals:
    @posix
    @pytest.mark.parametrize(
        ("number", "status", "cause", "module"),
        [
            (signal.SIGINT, 130, "", "descend.cli.output"),
            pytest.param(signal.SIGINT, 130, "", "torch.nn", marks=pytest.mark.slow),
            pytest.param(signal.SIGTERM, 143, " by SIGTERM", "numpy", marks=pytest.mark.slow),
        ],
    )
    def test_during_imports(
        self, tmp_path: Path, number: signal.Signals, status: int, cause: str, module: str
    ) -> None:
        command = [sys.executable, "-X", "importtime", "-m", "descend", "train", "iris", "--out", "run"]
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stderr:  # a line for each module, when its import has ended
                if line.rstrip().endswith(f" {module}"):
                    child.send_signal(number)
                    break
            lines = [line for line in child.stderr if not line.startswith("import time:")]
            assert child.wait() == status
            assert lines == [f"Stopped{cause} before anything was saved\n"]
            assert child.stdout.read() == ""
        assert list(tmp_path.iterdir()) == []

    @posix
    @pytest.mark.parametrize(
        ("number", "status", "cause"), [(signal.SIGINT, 130, ""), (signal.SIGTERM, 143, " by SIGTERM")]
    )
    def test_while_data_are_read(
        self, tmp_path: Path, number: signal.Signals, status: int, cause: str
    ) -> None:
        (tmp_path / "slow_source.py").write_text(
            "import time\n\ndef rows():\n    print('reading', flush=True)\n    time.sleep(600)\n"
        )
        command = [sys.executable, "-m", "descend", "train", "slow_source:rows", "--out", "run"]
        paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment(PYTHONPATH=paths), text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stdout.readline() == "reading\n"
            child.send_signal(number)
            _, err = child.communicate()
        assert child.returncode == status
        assert err.splitlines()[-1] == f"Stopped{cause} before anything was saved"
        assert "Traceback" not in err
        assert not (tmp_path / "run").exists()

    @posix
    def test_sighup_saves_a_checkpoint(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "descend", "train", "iris", "--out", "run", "--set", "stop.patience=none",
                   "--set", "stop.max_epochs=100000"]  # fmt: skip
        with subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as child:
            while not (tmp_path / "run/checkpoints/last.safetensors").exists() and child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(0.05)
            child.send_signal(signal.SIGHUP)
            _, err = child.communicate()
        assert child.returncode == 130, err
        assert "--resume" in err
        assert "Traceback" not in err

    def test_handlers_are_restored(self) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
        with pytest.raises(Stopped), stopping():
            signal.raise_signal(signal.SIGTERM)
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before

    @posix
    def test_an_ignored_sighup_remains_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with stopping():
                signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)


@posix
class TestStreams:
    @pytest.mark.parametrize("closed", [">&-", pytest.param("<&- >&- 2>&-", marks=pytest.mark.slow)])
    def test_closed(self, tmp_path: Path, closed: str) -> None:
        done = shell(f"descend train iris {' '.join(ONE_EPOCH)} --out run {closed}", tmp_path)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
        assert (tmp_path / "run/manifest.json").exists()
        # No file was opened under the number of a closed stream.
        for path in (tmp_path / "run").glob("*.json*"):
            path.read_bytes().decode("utf-8")

    @pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow)])
    def test_of_another_encoding(self, tmp_path: Path, encoding: str) -> None:
        rows = "".join(f"{k % 7 - 3},{'Köln' if k % 2 else 'Gdańsk ≤'}\n" for k in range(60))
        (tmp_path / "t.csv").write_text("größe,city\n" + rows, encoding="utf-8")
        command = f"descend train t.csv --target city {' '.join(ONE_EPOCH)} --out run"
        done = shell(command, tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode == 0, done.stderr
        text = (done.stdout + done.stderr).decode(encoding)
        assert "Traceback" not in text
        assert ("groesse" if encoding == "ascii" else "größe") in text
        assert "Gdańsk ≤" in (tmp_path / "run/schema.json").read_text(encoding="utf-8")
        predictions = shell("descend predict run t.csv", tmp_path, PYTHONIOENCODING=encoding)
        assert predictions.stdout.decode("utf-8").count("\n") == 61
        assert "Gdańsk ≤" in predictions.stdout.decode("utf-8")

    @pytest.mark.slow
    def test_a_locale_without_utf8(self, tmp_path: Path) -> None:
        done = shell(
            f"descend train iris {' '.join(ONE_EPOCH)} --out run", tmp_path, LC_ALL="C", PYTHONUTF8="0",
            PYTHONCOERCECLOCALE="0",
        )  # fmt: skip
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
        for name in ("report.html", "recipe.toml", "schema.json"):
            (tmp_path / "run" / name).read_text(encoding="utf-8")

    def test_a_full_disk_behind_standard_output(self, tmp_path: Path) -> None:
        done = shell(f"descend train iris {' '.join(ONE_EPOCH)} --out run > /dev/full", tmp_path)
        assert done.returncode == 2
        assert done.stderr.decode().splitlines()[-1] == (
            "Error: standard output cannot be written: No space left on device"
        )
        assert (tmp_path / "run/manifest.json").exists()

    @pytest.mark.parametrize("command", ["methods", "--help"])
    def test_a_reader_that_leaves_early(self, tmp_path: Path, command: str) -> None:
        done = shell(f"set -o pipefail; descend {command} | head -n 1", tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_streams_are_restored(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        with (tmp_path / "out").open("w", encoding="ascii") as file:
            monkeypatch.setattr(sys, "stdout", file)
            monkeypatch.setattr(sys, "stdin", None)
            with standard_streams():
                assert sys.stdin is not None
                print("−1 ≤ x → ┃━╭ █ ☃ µ")
            assert (file.errors, sys.stdin) == ("strict", None)
        assert (tmp_path / "out").read_text() == "-1 <= x -> |-+ # ? u\n"

    @pytest.mark.parametrize("columns", ["20", "1", "0", "", "wide"])
    @pytest.mark.parametrize("command", [["methods"], ["methods", "adam"], ["recipe", "--explain", "iris"]])
    def test_narrow_terminals(
        self,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        columns: str,
        command: list[str],
    ) -> None:
        monkeypatch.setenv("COLUMNS", columns)
        assert main(command) == 0
        assert capsys.readouterr().out


@posix
def test_a_current_directory_that_was_removed_is_named(tmp_path):
    """The libraries of PyTorch end the process with a message about themselves."""
    done = shell("mkdir gone && cd gone && rmdir ../gone && descend train iris --quiet", tmp_path)
    assert done.returncode == 2
    assert (
        done.stderr.decode()
        == "Error: the current directory does not exist any more; change to another one\n"
    )
