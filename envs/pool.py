"""Worker processes that hold environments: started by spawn, watched, replaced, never left behind.

One process for each core holds many environments, where Gymnasium's own vector environments have a
process for each environment.
"""

from __future__ import annotations

import importlib
import multiprocessing
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import cloudpickle
import numpy as np

from envs import worker
from envs.bound_env import Recipe
from envs.errors import UsageError
from envs.stage import Failure, Field, arrays, size_of

START_TIMEOUT = 120.0  # s; a process that imports torch on a busy machine
Question = tuple[str, tuple[Any, ...]]


class Lost(Exception):
    """A worker is no more; it was busy with this slot, -1 for none."""

    def __init__(self, slot: int, how: str) -> None:
        super().__init__(f"a worker {how}")
        self.slot = slot


class Pool:
    """`count` workers with environments of one recipe."""

    def __init__(self, recipe: Recipe, count: int, timeout: float) -> None:
        self.count, self.timeout = count, timeout
        self._recipe = cloudpickle.dumps(recipe)
        self._context = multiprocessing.get_context("spawn")
        self._live: dict[int, tuple[Any, Connection]] = {}
        self._memory: list[SharedMemory] = []
        self._fields: dict[str, Field] = {}
        self.shared: dict[str, np.ndarray[Any, Any]] = {}
        self._finalizer = weakref.finalize(self, _shut, self._live, self._memory)
        self._start(set(range(count)))

    def close(self) -> None:
        """End all workers and give the shared memory back."""
        self.shared = {}
        self._finalizer()

    @property
    def closed(self) -> bool:
        return not self._finalizer.alive

    def share(self, fields: dict[str, Field]) -> None:
        """Have arrays in common with all workers, `progress` among them, as `self.shared`."""
        self.shared = {}
        _free(self._memory)
        self._fields = {"progress": Field((self.count, 8), "int64"), **fields}
        memory = SharedMemory(create=True, size=sum(map(size_of, self._fields.values())))
        self._memory.append(memory)
        self.shared = arrays(memory, self._fields)
        self.ask({i: self._attach() for i in range(self.count)})

    def restart(self, i: int) -> None:
        """A new process in place of one that was lost."""
        self._start({i})
        if self._memory:
            self.ask({i: self._attach()})

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

    def try_to_ask(self, questions: dict[int, Question]) -> tuple[dict[int, Any], dict[int, Lost]]:
        """Answers, and the workers that were lost before they could give one.

        Raises:
            UsageError, Failure: as in `ask`, once every worker has answered.
        """
        for i, question in questions.items():
            with suppress(BrokenPipeError, ConnectionResetError):  # found out when it should answer
                self._live[i][1].send(question)
        return self._answers(set(questions), self.timeout)

    def _answers(self, waiting: set[int], timeout: float) -> tuple[dict[int, Any], dict[int, Lost]]:
        """What all these workers say; one that does nothing for `timeout` seconds is lost."""
        answers: dict[int, Any] = {}
        lost: dict[int, Lost] = {}
        seen = {i: self._progress(i) for i in waiting}
        while waiting:
            ready = wait([self._live[i][1] for i in waiting], timeout)
            for i in sorted(waiting):
                if self._live[i][1] in ready:
                    try:
                        answers[i] = self._live[i][1].recv()
                    except (EOFError, ConnectionResetError):
                        lost[i] = self._bury(i)
                    waiting.discard(i)
                elif not ready and self._progress(i) == seen[i]:
                    lost[i] = self._bury(i, f"took longer than {timeout:g} s")
                    waiting.discard(i)
                seen[i] = self._progress(i)
        return {i: _content(answer) for i, answer in answers.items()}, lost

    def _progress(self, i: int) -> tuple[int, ...]:
        return tuple(self.shared["progress"][i].tolist()) if self.shared else (-1,)

    def _attach(self) -> Question:
        return "attach", (self._memory[0].name, self._fields)

    def _start(self, these: set[int]) -> None:
        for i in these:
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=worker.main, args=(theirs, self._recipe, i), daemon=True
            )
            with _main_module_hidden():
                process.start()
            theirs.close()  # so that its end is seen as the end of the pipe
            self._live[i] = process, ours
        _, lost = self._answers(set(these), max(self.timeout, START_TIMEOUT))
        for one in lost.values():
            raise one

    def _bury(self, i: int, how: str = "") -> Lost:
        process, connection = self._live.pop(i)
        slot = self._progress(i)[0]
        process.join(0 if how else 5)
        how = how or f"died (exit code {process.exitcode})"
        process.kill()
        process.join()
        connection.close()
        return Lost(slot, how)


def _content(answer: tuple[str, int, Any]) -> Any:
    kind, slot, content = answer
    if kind == "refused":
        raise UsageError(content)
    if kind == "failed":
        raise Failure(slot, content)
    return content


def _shut(live: dict[int, tuple[Any, Connection]], memory: list[SharedMemory]) -> None:
    for process, connection in live.values():
        connection.close()
        process.kill()
    for process, _ in live.values():
        process.join()
    live.clear()
    _free(memory)


def _free(memory: list[SharedMemory]) -> None:
    while memory:
        block = memory.pop()
        with suppress(BufferError):  # a view is still held somewhere: freed when it goes
            block.close()
        block.unlink()


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
