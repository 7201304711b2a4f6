"""Worker processes with environments: spawned, monitored, replaced and reliably terminated.

Each process, one per core, runs many environments, while Gymnasium's vector environments use one
process per environment.
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

START_TIMEOUT = 120.0  # s, since importing torch is slow on a busy machine
CLOSE_TIMEOUT = 5.0  # s, for closing all environments of all workers
LOOK = 1.0  # s between checks whether a silent worker has died
Question = tuple[str, tuple[Any, ...]]


class WorkerDied(Exception):
    """A worker died or hung; `slot` is the one it was processing, -1 for none."""

    def __init__(self, slot: int, how: str) -> None:
        super().__init__(f"a worker {how}")
        self.slot = slot


class Pool:
    """`count` workers with environments of one configuration."""

    def __init__(self, env_config: EnvConfig, count: int, timeout: float) -> None:
        self.count, self.timeout = count, timeout
        self._env_config = cloudpickle.dumps(env_config)
        self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, tuple[Any, Connection]] = {}
        self._memory: list[SharedMemory] = []
        self._fields: dict[str, Field] = {}
        self.shared: dict[str, np.ndarray[Any, Any]] = {}
        # multiprocessing's Finalize runs before multiprocessing joins processes at exit.
        self._finalizer = Finalize(self, _shut_down, (self._workers, self._memory), exitpriority=10)
        try:
            self._start(set(range(count)))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Terminate all workers and free the shared memory."""
        self.shared = {}
        self._finalizer()

    @property
    def closed(self) -> bool:
        return not self._finalizer.still_active()

    def share(self, fields: dict[str, Field]) -> None:
        """Allocate arrays shared with all workers, including `progress`, as `self.shared`.

        Workers that have died are replaced.

        Raises:
            RunError: there isn't enough memory.
        """
        self.shared = {}
        _free(self._memory)
        self._fields = {"progress": Field((self.count, 8), "int64"), **fields}
        memory = SharedMemory(sum(map(size_of, self._fields.values())))
        self._memory.append(memory)
        self.shared = arrays(memory.buf, self._fields)
        self.shared["progress"][:] = -1  # no slot
        for i in self._attach(range(self.count)):
            self.restart(i)

    def restart(self, i: int) -> None:
        """Start a new process in place of one that died."""
        self._start({i})
        if self._memory:
            for error in self._attach([i]).values():
                raise error

    def ask(self, questions: dict[int, Question]) -> dict[int, Any]:
        """Send questions to workers and return their answers.

        Raises:
            UsageError: a request is invalid.
            Failure: an environment raised an exception.
            WorkerDied: a worker died or timed out.
        """
        answers, died = self.try_to_ask(questions)
        for error in died.values():
            raise error
        return answers

    def try_to_ask(
        self, questions: dict[int, Question]
    ) -> tuple[dict[int, Any], dict[int, WorkerDied]]:
        """Answers, and errors of the workers that died before answering.

        Raises:
            UsageError, Failure: as in `ask`, after all workers have answered.
        """
        for i, question in questions.items():
            with suppress(BrokenPipeError, ConnectionResetError):  # detected by _answers
                self._workers[i][1].send(question)
        return self._answers(set(questions), self.timeout)

    def _answers(
        self, waiting: set[int], timeout: float
    ) -> tuple[dict[int, Any], dict[int, WorkerDied]]:
        """Wait for answers; workers without progress for `timeout` seconds are terminated."""
        answers: dict[int, Any] = {}
        died: dict[int, WorkerDied] = {}
        last = {i: (self._progress(i), time.monotonic()) for i in waiting}
        while waiting:
            ready = wait([self._workers[i][1] for i in waiting], min(timeout, LOOK))
            now = time.monotonic()
            for i in sorted(waiting):
                process, connection = self._workers[i]
                (before, since), progress = last[i], self._progress(i)
                if connection in ready:
                    try:
                        answers[i] = connection.recv()
                    except (EOFError, ConnectionResetError):
                        died[i] = self._terminate(i)
                # Processes forked by its environments may keep its end of the pipe open.
                elif not process.is_alive() and not connection.poll():
                    died[i] = self._terminate(i)
                elif progress != before:
                    last[i] = progress, now
                elif now - since >= timeout:
                    died[i] = self._terminate(i, f"took longer than {timeout:g} s")
            waiting -= {*answers, *died}
        return {i: _content(answer) for i, answer in answers.items()}, died

    def _progress(self, i: int) -> tuple[int, ...]:
        return tuple(self.shared["progress"][i].tolist()) if self.shared else (-1,)

    def _attach(self, workers: Iterable[int]) -> dict[int, WorkerDied]:
        """Send the shared memory to these workers; errors of those that died before."""
        for i in workers:
            process, connection = self._workers[i]
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.send(("attach", (self._fields,)))
                self._memory[0].send(connection, process.pid)
        return self._answers(set(workers), self.timeout)[1]

    def _start(self, workers: set[int]) -> None:
        for i in workers:
            connection, remote = self._context.Pipe()
            # Not a daemon, since daemons can't have children and environments may start processes.
            process = self._context.Process(target=worker.main, args=(remote, self._env_config, i))
            with _main_module_hidden(), _delay_ctrl_c():
                process.start()
                remote.close()  # so that the pipe closes when the worker exits
                self._workers[i] = process, connection
        _, died = self._answers(set(workers), max(self.timeout, START_TIMEOUT))
        for error in died.values():
            raise error

    def _terminate(self, i: int, how: str = "") -> WorkerDied:
        process, connection = self._workers.pop(i)
        slot = self._progress(i)[0]
        if not how:
            process.join(LOOK)
        code = process.exitcode
        _kill(process)
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


def _shut_down(workers: dict[int, tuple[Any, Connection]], memory: list[SharedMemory]) -> None:
    """Terminate all workers after they have closed their environments, which may own servers."""
    for _, connection in workers.values():
        with suppress(OSError):
            connection.send(None)
    until = time.monotonic() + CLOSE_TIMEOUT
    for process, connection in workers.values():
        _wait_for_close(connection, until)
        connection.close()
        _kill(process)
    workers.clear()
    _free(memory)


def _wait_for_close(connection: Connection, until: float) -> None:
    """Wait until a worker reports that it has closed its environments, or exits."""
    with suppress(EOFError, OSError):
        while connection.poll(max(until - time.monotonic(), 0)):
            if connection.recv() is None:
                return


def _kill(process: Any) -> None:
    """Kill a worker and all processes that its environments have started."""
    with suppress(ProcessLookupError, PermissionError):  # it has no process group yet, or exited
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def _free(memory: list[SharedMemory]) -> None:
    while memory:
        memory.pop().close()


@contextmanager
def _delay_ctrl_c() -> Iterator[None]:
    """Block Ctrl-C in a process started here until it has its own process group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _main_module_hidden() -> Iterator[None]:
    """Keep spawn from importing the user's script, which may lack a `__main__` guard."""
    main = importlib.import_module("__main__")
    hidden: dict[str, Any] = {
        k: vars(main).pop(k) for k in ("__file__", "__spec__") if k in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)
