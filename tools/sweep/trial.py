"""A trial as Ray runs it on a node: `dvc exp run` in a working copy of its own, and the push of its experiment."""

import builtins
import configparser
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.repo.experiments.refs import ExpRefInfo
from pydantic import ValidationError
from ray import tune

from stages import history
from stages.errors import InputError
from stages.params import Params
from stages.terminal import printable
from tools.storage.store import NAME
from tools.sweep import node
from tools.sweep.candidates import Trial, with_changes
from tools.sweep.git import reason_of
from tools.sweep.record import name_of

# Runs a command on some cores. A second process kills all of it once the other end of standard input has died. Ray
# kills the first one then, but nothing that the first one started.
GUARD = """
import os, subprocess, sys
if sys.argv[1]:
    os.sched_setaffinity(0, map(int, sys.argv[1].split(",")))
watch = "import os, signal, sys; os.read(0, 1); os.killpg(int(sys.argv[1]), signal.SIGKILL)"
watcher = subprocess.Popen([sys.executable, "-ISc", watch, str(os.getpid())], start_new_session=True)
code = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
watcher.kill()
sys.exit(code % 256)
"""

# Errors of a stage that another attempt would meet again.
FINAL = ("training diverged", "params.yaml:")
# DVC's line about a stage that ended by itself. The exit code of a killed one is negative, or from a shell above 128.
STAGE_FAILED = re.compile(r"^ERROR: (failed to reproduce .*, exited with (\d+))$", re.MULTILINE)
TRACEBACK = "Traceback (most recent call last):\n"
# Exceptions that the node may have caused. Another node may have the memory, the package or the file.
OF_A_NODE = {"ResourceExhaustedError", "URLError", "_ArrayMemoryError"} | {
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, ImportError | MemoryError | OSError)
}
DISK_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
# Variables that name another repository, as git sets them for its hooks, or settings of DVC.
ELSEWHERE = (
    "GIT_ALTERNATE_",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
    "DVC_",
)
POLL = 0.2  # seconds between two looks at a running training


@dataclass(frozen=True)
class Job:
    """What all trials of a sweep share."""

    name: str  # of the sweep
    url: str  # of the git remote
    commit: str
    params: Params  # of the commit
    storage: str  # its URL
    author: Mapping[str, str]  # as variables for git
    cpus: int  # of a trial
    pause: float  # seconds before an attempt fails that does not reach the storage or the git remote

    def experiment(self, trial: Trial) -> str:
        return name_of(self.name, trial.key)

    def ref(self, trial: Trial) -> str:
        """Name the reference of a trial's experiment in git."""
        return str(ExpRefInfo(self.commit, self.experiment(trial)))


class LostError(Exception):
    """The node, the git remote or the storage fails now; another attempt may succeed."""


class FinalError(Exception):
    """Every attempt would meet this."""


class DvcTrial(tune.Trainable):
    """Reports the rows of history.csv, one a step, while `dvc exp run` trains.

    The last step ends when the experiment is pushed. It reports `ended`: the experiment is "finished", or "failed" for
    a reason that every attempt would meet.
    """

    def setup(self, config: dict[str, Any], job: Job) -> None:
        self.job = job
        self.trial = Trial(**config["trial"])
        self.node = node.folder(job.url)
        self.name = job.experiment(self.trial)
        self.copy = self.node / "trials" / self.name
        self.process: subprocess.Popen[bytes] | None = None
        self.reported = 0
        self.cores = node.Cores()
        self.held = ExitStack()

    def step(self) -> dict[str, Any]:
        try:
            if self.process is None:
                try:
                    params = with_changes(self.job.params, self.trial.overrides)
                except ValidationError as invalid:
                    return failed("; ".join(_clause(error) for error in invalid.errors(include_url=False)))
                self.epochs = params.train.epochs
                process = self.start()
                if process is None:
                    return finished(self.history())
                self.process = process
            return self.wait(self.process)
        except FinalError as error:
            return failed(str(error))
        except (LostError, OSError):  # such as a full disk
            self.cleanup()
            time.sleep(self.job.pause)
            raise

    def start(self) -> subprocess.Popen[bytes] | None:
        """Start the training, unless the remote has the experiment."""
        # Another sweep may run a trial of this name here: of another commit, or the same trial.
        self.held.enter_context(node.locked(self.node / "locks" / self.name))
        self.held.callback(shutil.rmtree, self.copy, ignore_errors=True)
        self.cores.take(self.job.cpus)
        self.clone()
        if self.fetched():
            return None
        self.prepare()
        self.before = self.signature()
        return self.run("dvc", "exp", "run", "--pull", "--name", self.name, *self.settings())

    def wait(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Wait for the next epoch but the last, or for the end."""
        while True:
            code = process.poll()
            if self.signature() != self.before:
                with suppress(InputError):  # DVC removes the file and links it again
                    rows: Any = history.load(self.copy / history.PATH).to_dict("records")
                    if self.reported < min(len(rows), self.epochs - 1):
                        self.reported += 1
                        return rows[self.reported - 1]
            if code is not None:
                break
            time.sleep(POLL)
        if code:
            raise self.fault(code)
        self.process = None
        self.push()
        return finished(self.history())

    def clone(self) -> None:
        """Make the working copy at the sweep's commit, from the node's mirror of the git remote."""
        mirror = self.node / "git"
        with node.locked(self.node / "git.lock"):
            if not mirror.exists():
                with tempfile.TemporaryDirectory(dir=self.node) as unfinished:
                    self.git("clone", "--quiet", "--bare", self.job.url, f"{unfinished}/git", folder=self.node)
                    Path(unfinished, "git").rename(mirror)
            if self.git("cat-file", "-e", self.job.commit, folder=mirror, check=False).returncode:
                self.git("fetch", "--quiet", "origin", self.job.commit, folder=mirror)
        copy = self.copy
        shutil.rmtree(copy, ignore_errors=True)  # of an attempt that was killed
        self.git("clone", "--quiet", "--shared", "--no-checkout", str(mirror), str(copy), folder=self.node)
        self.git("checkout", "--quiet", "--detach", self.job.commit)
        self.git("remote", "set-url", "origin", self.job.url)
        settings = configparser.RawConfigParser()
        settings["core"] = {"analytics": "false"}
        settings["cache"] = {"dir": str(self.node / "cache"), "type": "reflink,hardlink,copy"}
        settings[f"'remote \"{NAME}\"'"] = {"url": self.job.storage}
        with (copy / ".dvc/config.local").open("w", encoding="utf-8") as file:
            settings.write(file)
        checkpoints = self.node / "checkpoints"
        checkpoints.mkdir(exist_ok=True)
        (copy / ".dvc/tmp").mkdir(exist_ok=True)
        (copy / ".dvc/tmp/checkpoints").symlink_to(checkpoints)

    def fetched(self) -> bool:
        """Fetch the experiment if the remote has it, whoever ran it."""
        ref = self.job.ref(self.trial)
        if not self.git("ls-remote", "origin", ref).stdout:
            return False
        self.git("fetch", "--quiet", "origin", f"{ref}:{ref}")
        return True

    def prepare(self) -> None:
        """Make the data, or get them from the storage, unless another trial of this node has done it."""
        of = self.trial.overrides
        changed = {name: value for name, value in of.items() if name.startswith("prepare.")}
        key = re.sub(r"\W+", "-", json.dumps([self.job.commit, changed]))
        done = self.node / "prepared" / key.strip("-")
        with node.locked(self.node / "prepared.lock"):
            if not done.exists():
                process = self.run("dvc", "exp", "run", "--pull", "--name", "prepared", *self.settings(), "prepare")
                if code := process.wait():
                    raise self.fault(code)
                done.parent.mkdir(exist_ok=True)
                done.touch()

    def push(self) -> None:
        """Push the data before the experiment, so that an experiment on the remote always has its data."""
        process = self.run("dvc", "push")
        if code := process.wait():
            raise LostError(f"the storage did not take the data: {self.reason(code)}")
        ref = self.job.ref(self.trial)
        pushed = self.git("push", "--quiet", "origin", f"{ref}:{ref}", check=False)
        if pushed.returncode and not self.pushed_by_another():
            raise LostError(f"the git remote did not take the experiment: {reason_of(pushed.stderr)}")

    def pushed_by_another(self) -> bool:
        """Tell whether the remote has the experiment already; take it in place of this one."""
        ref = self.job.ref(self.trial)
        found = self.git("fetch", "--quiet", "origin", f"+{ref}:{ref}", check=False)
        return found.returncode == 0

    def fault(self, code: int) -> Exception:
        """Return the error of a command that failed."""
        if bug := bug_of(self.log.read_text(encoding="utf-8", errors="replace")):
            return FinalError(printable(bug))
        reason = self.reason(code)
        return FinalError(reason) if reason.startswith(FINAL) else LostError(reason)

    def reason(self, code: int) -> str:
        """Say in one line why a command failed: the error of a stage, or else the first of DVC."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for start in ("error: ", "ERROR: ") for line in lines if line.startswith(start)]
        if not errors:
            ended = f"it ended by signal {-code}" if code < 0 else f"its exit code is {code}"
            return f"{ended}; {self.log} on {os.uname().nodename} has its output"
        return printable(errors[0].partition(": ")[2])

    def settings(self) -> list[str]:
        """Give the trial's parameters as arguments of `dvc exp run`."""
        changes = self.trial.overrides
        return [each for name, value in changes.items() for each in ("--set-param", f"{name}={json.dumps(value)}")]

    def signature(self) -> tuple[int, int] | None:
        """Identify the file history.csv in the working copy, which at first is the commit's."""
        try:
            found = (self.copy / history.PATH).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def history(self) -> pd.DataFrame:
        """Read the history of the finished experiment."""
        text = self.git("show", f"{self.job.ref(self.trial)}:{history.PATH.as_posix()}").stdout
        return history.parse(text, f"{history.PATH} of {self.name}")

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command in the working copy, on the trial's cores, so that it ends with this process."""
        self.log = self.node / "logs" / f"{self.name}.log"
        self.log.parent.mkdir(exist_ok=True)
        with self.log.open("w") as file:
            return subprocess.Popen(
                [sys.executable, "-ISc", GUARD, ",".join(map(str, self.cores.numbers)), *command],
                cwd=self.copy, env=self.environment(), stdin=subprocess.PIPE, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    def git(self, *arguments: str, folder: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *arguments], cwd=folder or self.copy,
            env=self.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise LostError(f"git {arguments[0]}: {reason_of(done.stderr)}")
        return done

    def environment(self) -> dict[str, str]:
        """Return the variables of commands: none of DVC's, and no repository or import from elsewhere than the copy."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(ELSEWHERE)}
        own.pop("PYTHONPATH", None)
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return own | {"PATH": programs, "GIT_TERMINAL_PROMPT": "0"} | dict(self.job.author)

    def cleanup(self) -> None:
        """End what runs, and remove the working copy."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self.process = None
        self.cores.release()
        self.held.close()


def bug_of(log: str) -> str:
    """Return the exception, or else the last line, of a stage that failed by its code alone; otherwise nothing."""
    failed = STAGE_FAILED.search(log)
    if failed is None or int(failed[2]) > 128:
        return ""
    if re.search("^error: ", log, re.MULTILINE) or any(text in log for text in DISK_FULL):
        return ""
    _, traceback, after = log[: failed.start()].rpartition(TRACEBACK)
    lines = [line for line in after.splitlines() if line.strip()]
    if traceback:  # its frames are indented, and a message may have several lines
        error = next((line for line in lines if not line.startswith(" ")), failed[1])
        name = error.partition(":")[0].rpartition(".")[2]
        return "" if name in OF_A_NODE else error
    return failed[1] if not lines or lines[-1].startswith("> ") else lines[-1]


def finished(rows: pd.DataFrame) -> dict[str, Any]:
    return {**rows.to_dict("records")[-1], "ended": "finished", tune.result.DONE: True}


def failed(reason: str) -> dict[str, Any]:
    return {"ended": "failed", "reason": reason, tune.result.DONE: True}


def _clause(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"])
    return str(error["ctx"]["error"]) if error["type"] == "value_error" else f"{name}: {error['msg']}"
