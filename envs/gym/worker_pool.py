"""Worker processes that hold environments: started by spawn, watched, replaced, never left behind.

One process for each core holds many environments, where Gymnasium's own vector environments have a
process for each environment.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any

import cloudpickle
import numpy as np

from metarl.envs.core.errors import UsageError
from metarl.envs.gym import worker
from metarl.envs.gym.bound_env import EnvConfig
from metarl.envs.gym.shared_memory import SharedMemory
from metarl.envs.gym.worker_envs import Failure, Field, arrays, size_of

START_TIMEOUT = 120.0  # s; a process that imports torch on a busy machine
CLOSE_TIMEOUT = 5.0  # s, for all environments of all workers to be closed
LOOK = 1.0  # s between looks whether a worker that says nothing has died
Question = tuple[str, tuple[Any, ...]]


class WorkerDied(Exception):
    """A worker is no more; it was busy with this slot, -1 for none."""

    def __init__(self, slot: int, how: str) -> None:
        super().__init__(f"a worker {how}")
        self.slot = slot


class Pool:
    """`count` workers with environments of one recipe."""

    def __init__(self, env_config: EnvConfig, count: int, timeout: float) -> None:
        self.count, self.timeout = count, timeout
        self._recipe = cloudpickle.dumps(env_config)
        self._context = multiprocessing.get_context("spawn")
        self._live: dict[int, tuple[Any, Connection]] = {}
        self._memory: list[SharedMemory] = []
        self._fields: dict[str, Field] = {}
        self.shared: dict[str, np.ndarray[Any, Any]] = {}
        # By multiprocessing's own means: before it waits, at the end of the program, for processes.
        self._finalizer = Finalize(self, _shut, (self._live, self._memory), exitpriority=10)
        try:
            self._start(set(range(count)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all workers and give the shared memory back."""
        self.shared = {}
        self._finalizer()

    @property
    def closed(self) -> bool:
        return not self._finalizer.still_active()

    def share(self, fields: dict[str, Field]) -> None:
        """Have arrays in common with all workers, `progress` among them, as `self.shared`.

        A worker that has died since it was last asked is replaced.

        Raises:
            RunError: there isn't that much memory.
        """
        self.shared = {}
        _free(self._memory)
        self._fields = {"progress": Field((self.count, 8), "int64"), **fields}
        memory = SharedMemory(sum(map(size_of, self._fields.values())))
        self._memory.append(memory)
        self.shared = arrays(memory.buf, self._fields)
        self.shared["progress"][:] = -1  # in no slot
        for i in self._attach(range(self.count)):
            self.restart(i)

    def restart(self, i: int) -> None:
        """A new process in place of one that was lost."""
        self._start({i})
        if self._memory:
            for one in self._attach([i]).values():
                raise one

    def ask(self, questions: dict[int, Question]) -> dict[int, Any]:
        """Answers of all that were asked.

        Raises:
            UsageError: something asked for can't be done.
            Failure: an environment raised.
            Lost: a worker died or took too long.
        """
        answers, lost = self.try_to_ask(questions)
        for one in lost.values():
            raise one
        return answers

    def try_to_ask(
        self, questions: dict[int, Question]
    ) -> tuple[dict[int, Any], dict[int, WorkerDied]]:
        """Answers, and the workers that were lost before they could give one.

        Raises:
            UsageError, Failure: as in `ask`, once every worker has answered.
        """
        for i, question in questions.items():
            with suppress(BrokenPipeError, ConnectionResetError):  # found out when it should answer
                self._live[i][1].send(question)
        return self._answers(set(questions), self.timeout)

    def _answers(
        self, waiting: set[int], timeout: float
    ) -> tuple[dict[int, Any], dict[int, WorkerDied]]:
        """What all these workers say; one that does nothing for `timeout` seconds is lost."""
        answers: dict[int, Any] = {}
        lost: dict[int, WorkerDied] = {}
        seen = {i: (self._progress(i), time.monotonic()) for i in waiting}
        while waiting:
            ready = wait([self._live[i][1] for i in waiting], min(timeout, LOOK))
            now = time.monotonic()
            for i in sorted(waiting):
                process, connection = self._live[i]
                (progress, since), moved = seen[i], self._progress(i)
                if connection in ready:
                    try:
                        answers[i] = connection.recv()
                    except (EOFError, ConnectionResetError):
                        lost[i] = self._terminate(i)
                # What its environments have forked may hold its end of the connection open.
                elif not process.is_alive() and not connection.poll():
                    lost[i] = self._terminate(i)
                elif moved != progress:
                    seen[i] = moved, now
                elif now - since >= timeout:
                    lost[i] = self._terminate(i, f"took longer than {timeout:g} s")
            waiting -= {*answers, *lost}
        return {i: _content(answer) for i, answer in answers.items()}, lost

    def _progress(self, i: int) -> tuple[int, ...]:
        return tuple(self.shared["progress"][i].tolist()) if self.shared else (-1,)

    def _attach(self, these: Iterable[int]) -> dict[int, WorkerDied]:
        """Give these workers the shared memory; those that were lost before they had it."""
        for i in these:
            process, connection = self._live[i]
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.send(("attach", (self._fields,)))
                self._memory[0].send(connection, process.pid)
        return self._answers(set(these), self.timeout)[1]

    def _start(self, these: set[int]) -> None:
        for i in these:
            ours, theirs = self._context.Pipe()
            # Not a daemon, which could have no children: environments may have processes.
            process = self._context.Process(target=worker.main, args=(theirs, self._recipe, i))
            with _main_module_hidden(), _ctrl_c_later():
                process.start()
                theirs.close()  # so that its end is seen as the end of the pipe
                self._live[i] = process, ours
        _, lost = self._answers(set(these), max(self.timeout, START_TIMEOUT))
        for one in lost.values():
            raise one

    def _terminate(self, i: int, how: str = "") -> WorkerDied:
        process, connection = self._live.pop(i)
        slot = self._progress(i)[0]
        if not how:
            process.join(LOOK)
        code = process.exitcode
        _end(process)
        connection.close()
        return WorkerDied(
            slot, how or f"died (exit code {process.exitcode if code is None else code})"
        )


def _content(answer: tuple[str, int, Any]) -> Any:
    kind, slot, content = answer
    if kind == "refused":
        raise UsageError(content)
    if kind == "failed":
        raise Failure(slot, content)
    return content


def _shut(live: dict[int, tuple[Any, Connection]], memory: list[SharedMemory]) -> None:
    """End all workers; first they close their environments, some of which end servers in it."""
    for _, connection in live.values():
        with suppress(OSError):
            connection.send(None)
    until = time.monotonic() + CLOSE_TIMEOUT
    for process, connection in live.values():
        _await_end(connection, until)
        connection.close()
        _end(process)
    live.clear()
    _free(memory)


def _await_end(connection: Connection, until: float) -> None:
    """Wait until a worker says that it has closed its environments, or is no more."""
    with suppress(EOFError, OSError):
        while connection.poll(max(until - time.monotonic(), 0)):
            if connection.recv() is None:
                return


def _end(process: Any) -> None:
    """Kill a worker with all that its environments have started."""
    with suppress(ProcessLookupError, PermissionError):  # it had not come that far, or is gone
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _free(memory: list[SharedMemory]) -> None:
    while memory:
        memory.pop().close()


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """A process that starts meanwhile doesn't see a Ctrl-C before it has its own process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep spawn from running the user's script again, which may have no `__main__` guard."""
    main = importlib.import_module("__main__")
    hidden: dict[str, Any] = {
        k: vars(main).pop(k) for k in ("__file__", "__spec__") if k in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)
