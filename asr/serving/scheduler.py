"""Which stream is computed next: the one whose audio has been due for the longest time."""

import heapq
import threading
from itertools import count

from asr.serving.feed import Feed


class Scheduler:
    """Worker threads for any number of feeds. A feed is in one thread at a time."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Feed]] = []  # a heap
        self._known: set[Feed] = set()  # those in the heap, and those in a worker
        self._order = count()  # between equals, who came first
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def start(self, workers: int) -> None:
        """Start that many threads."""
        for number in range(workers):
            thread = threading.Thread(target=self._work, name=f"asr-worker-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End the threads, each behind its present step. What waits is left."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def submit(self, feed: Feed) -> None:
        """Say that a feed may have something to do."""
        with self._changed:
            if feed not in self._known and self._enqueue(feed):
                self._known.add(feed)
                self._changed.notify()

    def step(self) -> bool:
        """Take the step that is due first. False if there is none."""
        with self._changed:
            if not self._waiting:
                return False
            _, _, feed = heapq.heappop(self._waiting)
        try:
            feed.step()
        finally:
            with self._changed:
                if not self._enqueue(feed):
                    self._known.remove(feed)
        return True

    def _enqueue(self, feed: Feed) -> bool:
        due_s = feed.due_s()
        if due_s is None:
            return False
        heapq.heappush(self._waiting, (due_s, next(self._order), feed))
        return True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopped)
                if self._stopped:
                    return
            self.step()
