"""The finished pictures: marked, deleted, given back.

A deleted picture is hidden at once and everywhere. It can be given back for an hour; then, or as
soon as the disk is full, its file and its row are erased.
"""

import threading
import time
from collections.abc import Sequence

from dg2_jax.serve.disk import Disk
from dg2_jax.serve.files import Files
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import Image
from dg2_jax.serve.store import Store

KEPT_SECONDS = 3600.0


class Gallery:
    """All of them: rows of the store, and files."""

    def __init__(self, store: Store, files: Files, disk: Disk):
        self._store, self._files, self._disk = store, files, disk
        self._deleting = threading.Lock()  # what is given back is not erased

    def find(self, image_ids: Sequence[str]) -> list[Image]:
        """Those of some pictures that are there."""
        return self._store.images_by_id(image_ids)

    def mark(self, image_ids: Sequence[str], favourite: bool) -> list[str]:
        """Makes pictures favourites, or no longer; returns the ids of those that are there."""
        ids = [image.id for image in self.find(image_ids)]
        self._disk.insist(lambda: self._store.change_images(ids, favourite=favourite))
        return ids

    def delete(self, image_ids: Sequence[str]) -> list[str]:
        """Deletes pictures of finished jobs, all or none; returns the ids of those it found.

        Raises:
            ProblemError: 409, a job is not finished.
        """
        with self._deleting:
            images = self.find(image_ids)
            for job_id in {image.job_id for image in images}:
                job = self._store.get(job_id)
                if job is not None and not job.finished:
                    raise ProblemError(409, f"the job {job_id} is not finished: cancel it first")
            ids = [image.id for image in images]
            if self._disk.trouble is not None:
                self._erase(ids)
                return ids
            self._disk.insist(lambda: self._store.change_images(ids, deleted_at=time.time()))
            for image_id in ids:
                self._files.hide(image_id)
            return ids

    def restore(self, image_ids: Sequence[str]) -> list[str]:
        """Takes `delete` back; returns the ids of those that were not erased yet."""
        with self._deleting:
            ids = [image.id for image in self._store.images_by_id(image_ids, deleted=True)]
            for image_id in ids:
                self._files.show(image_id)
            self._disk.insist(lambda: self._store.change_images(ids, deleted_at=None))
            return ids

    def forget(self, job_id: str) -> None:
        """Erases a finished job and all its pictures."""
        for image_id in self._store.image_ids(job_id):  # first: that makes room for the database
            self._files.delete(image_id)
        self._disk.insist(lambda: self._store.forget(job_id))

    def tidy(self) -> None:
        """Erases what was deleted long ago; all that is deleted, where the disk is full."""
        kept = KEPT_SECONDS if self._disk.trouble is None else 0.0
        with self._deleting:
            self._erase(self._store.deleted_images(time.time() - kept))
            for image_id in self._store.deleted_images(time.time()):
                self._files.hide(image_id)  # the server may have died before it did

    def _erase(self, ids: Sequence[str]) -> None:
        for image_id in ids:  # first: that makes room for what the database writes
            self._files.delete(image_id)
        if ids:
            self._disk.insist(lambda: self._store.erase_images(ids))
