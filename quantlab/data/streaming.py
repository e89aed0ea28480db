"""StreamingCrops: use crops while the rest is still being decoded into the cache."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.crops import DecodedRow, decode_to
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline


class _ConsumerLeftError(Exception):
    """The consumer of the crops has stopped, or the producer has."""


class StreamingCrops:
    """A dataset's rows in order, each as soon as it is decoded. The file on disk is what buffers:
    memory does not grow with the number of images."""

    def __init__(self, count: int, pipeline: Pipeline) -> None:
        self._count, self._dtype = count, pipeline.dtype
        self._shape = (3, *pipeline.shape)
        self._news = threading.Condition()
        self._offsets: list[int | None] = []
        self._file: BufferedReader | None = None
        self._over = self._left = False

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """The crops [n, height, width, 3] of these rows, waiting for them; zeros for unusable
        images."""
        last = int(rows.max())
        taken = np.zeros((len(rows), *self._shape), self._dtype)
        with self._news:
            self._news.wait_for(lambda: len(self._offsets) > last or self._over)
            if len(self._offsets) <= last:
                raise _ConsumerLeftError
            for row, planes in zip(rows.tolist(), taken, strict=True):
                offset = self._offsets[row]
                if offset is not None and self._file is not None:
                    self._file.seek(offset)
                    self._file.readinto(planes.data)
        return taken.transpose(0, 2, 3, 1)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which of the rows that have come hold an image: bool [n]."""
        return np.array([offset is not None for offset in self._offsets], bool)

    def note(self, row: DecodedRow) -> None:
        """Record one more decoded row."""
        with self._news:
            if self._left:
                raise _ConsumerLeftError
            if self._file is None:
                self._file = row.path.open("rb")
            self._offsets.append(row.offset)
            self._news.notify_all()

    def end(self) -> None:
        """Record that no row will follow."""
        with self._news:
            self._over = True
            self._news.notify_all()

    def leave(self) -> None:
        """Stop: the consumer needs no more rows."""
        with self._news:
            self._left = True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


@contextmanager
def streaming_crops(path: Path, dataset: Dataset, pipeline: Pipeline) -> Iterator[StreamingCrops]:
    """Decodes into the cache file ``path`` in threads while the block runs, and to its end when the
    block ends. Raises OutputError, or OSError for a full disk, when it cannot be written."""
    coming, errors = StreamingCrops(len(dataset), pipeline), list[BaseException]()

    def work() -> None:
        try:
            decode_to(path, dataset, pipeline, told=coming.note)
        except _ConsumerLeftError:
            pass
        except BaseException as error:
            errors.append(error)
        finally:
            coming.end()

    thread = threading.Thread(target=work, name="quantlab-decoding", daemon=True)
    thread.start()
    try:
        yield coming
    except _ConsumerLeftError:
        pass
    except BaseException:
        coming.leave()
        raise
    finally:
        thread.join()
        coming.close()
    if errors:
        raise errors[0]
