"""Text to tokens in several processes, in order.

Each worker is a fresh interpreter that runs this module and speaks over its pipes: no memory is shared or copied (so a
script needs no ``__main__`` guard, and threads that run here are no danger), and what goes through a pipe is a line of
JSON and the bytes that it announces.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import IO, Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from vocablo.base.errors import DataError
from vocablo.text.bulk import BulkEncoder
from vocablo.text.specials import Specials
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words

WORD, SENTENCE, DOCUMENT = 1, 2, 4  # the bits of a token's mark
_AHEAD = 2  # batches given to each worker in advance


@dataclass(frozen=True, slots=True)
class Section:
    """A text, or a part of one: whether a document begins, and ends, with it."""

    text: str
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True, slots=True)
class Coded:
    """Tokens and marks of a batch of sections, one behind the other, with the boundary behind each document.

    ``sizes`` has for each section: tokens, sentences, words, characters, bytes, unknown tokens.
    """

    ids: bytes
    marks: bytes
    sizes: list[list[int]]


class Coder:
    """What a worker does with a batch; with one worker, it is done here."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        assert tokenizer.end_id is not None, "the store asks for it"
        self.bulk = BulkEncoder(tokenizer)
        self._end, self._unknown = tokenizer.end_id, tokenizer.unk_id

    def __call__(self, batch: list[Section]) -> Coded:
        """Tokenize a batch."""
        bulk = self.bulk([section.text for section in batch])
        stops = np.cumsum(bulk.lengths)
        starts = stops - bulk.lengths
        begins = np.array([section.begins for section in batch]) & (bulk.lengths > 0)
        ends = np.array([section.ends for section in batch])
        marks = bulk.words * np.uint8(WORD) + bulk.sentences * np.uint8(SENTENCE)
        marks[starts[begins]] |= DOCUMENT
        unknown = np.zeros(len(bulk.ids), dtype=bool) if self._unknown is None else bulk.ids == self._unknown
        sizes = [
            [tokens + end, sentences, count_words(section.text), len(section.text), len(section.text.encode()), lost]
            for section, tokens, end, sentences, lost in zip(
                batch,
                bulk.lengths.tolist(),
                ends.tolist(),
                _sums(bulk.sentences, starts, stops),
                _sums(unknown, starts, stops),
                strict=True,
            )
        ]
        ids = np.insert(bulk.ids, stops[ends], self._end)
        return Coded(ids.tobytes(), np.insert(marks, stops[ends], 0).tobytes(), sizes)


def _sums(flags: NDArray[np.bool_], starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[int]:
    """How many flags are set in each part."""
    sums = np.concatenate([[0], np.cumsum(flags)])
    return (sums[stops] - sums[starts]).tolist()


def code(batches: Iterable[list[Section]], tokenizer: Tokenizer, workers: int) -> Iterator[Coded]:
    """Every batch tokenized, in order, by so many processes (1: by this one)."""
    if workers == 1:
        yield from map(Coder(tokenizer), batches)
        return
    with contextlib.ExitStack() as stack:
        free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            free.put(stack.enter_context(_Worker(tokenizer)))
        threads = stack.enter_context(ThreadPoolExecutor(workers))

        def work(batch: list[Section]) -> Coded:
            worker = free.get()
            coded = worker(batch)
            free.put(worker)
            return coded

        waiting: deque[Future[Coded]] = deque()
        for batch in batches:
            waiting.append(threads.submit(work, batch))
            if len(waiting) > _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class _Worker:
    """A process that tokenizes; a context manager, at whose end it is gone."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"TOKENIZERS_PARALLELISM": "false"},
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._into, self._from = self.process.stdin, self.process.stdout
        _send(self._into, asdict(tokenizer.roles), tokenizer.inner.to_str().encode())

    def __call__(self, batch: list[Section]) -> Coded:
        """Tokenize a batch in the process."""
        data = [section.text.encode() for section in batch]
        rows = [[len(item), section.begins, section.ends] for item, section in zip(data, batch, strict=True)]
        try:
            _send(self._into, {"sections": rows}, b"".join(data))
            answer = _receive(self._from)
        except (OSError, ValueError):
            answer = None
        if answer is None:
            raise DataError(
                f"A tokenizing process ended by itself (exit status {self.process.wait()}), perhaps for want of memory: "
                "try workers=1."
            )
        head, payload = answer
        marks = payload[head["ids"] :]
        return Coded(payload[: head["ids"]], marks, head["sizes"])

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._into.close()
        self.process.terminate()
        self.process.wait()
        self._from.close()


def _send(stream: IO[bytes], head: dict[str, Any], payload: bytes) -> None:
    stream.write(json.dumps(head | {"size": len(payload)}).encode() + b"\n")
    stream.write(payload)
    stream.flush()


def _receive(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    line = stream.readline()
    if not line:
        return None
    head = json.loads(line)
    payload = stream.read(head.pop("size"))
    return head, payload


def main() -> None:
    """The worker's loop: a tokenizer first, then batches until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    into, out = sys.stdin.buffer, sys.stdout.buffer
    first = _receive(into)
    if first is None:
        return
    roles, settings = first
    coder = Coder(Tokenizer(tokenizers.Tokenizer.from_str(settings.decode()), Specials(**roles)))
    while (message := _receive(into)) is not None:
        head, payload = message
        batch, place = [], 0
        for size, begins, ends in head["sections"]:
            batch.append(Section(payload[place : place + size].decode(), begins, ends))
            place += size
        coded = coder(batch)
        _send(out, {"ids": len(coded.ids), "sizes": coded.sizes}, coded.ids + coded.marks)


if __name__ == "__main__":
    main()
