"""The slot: the folder of one child, made before it is known which job it gets.

`work` is the child's to write. `inputs` is what the node lays out for it, read only. The child knows both under the
names `seen_work` and `seen_inputs`, which may differ from the real ones. What the child names as a result is looked for
below `work` without following any symbolic link and is moved into the job's own folder, out of the child's reach:
`take` is the one way for a file to leave a slot.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import stat
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from cyxwiz.ports.executor import Artefact

log = logging.getLogger(__name__)

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not make the node wait


class NotThere(Exception):
    """A file that a child named is not what it was said to be; the message says why."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One child's folder. Its parts exist as long as it does."""

    root: Path
    seen_work: Path
    seen_inputs: Path

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs"

    @classmethod
    def make(cls, root: Path, uid: int | None, seen_work: Path | None, seen_inputs: Path | None) -> Slot:
        """Makes the folders; `uid` owns `work` where the child is another user. Raises OSError."""
        root.mkdir(mode=0o711)
        slot = cls(root, seen_work or root / "work", seen_inputs or root / "inputs")
        slot.work.mkdir(mode=0o700)
        slot.inputs.mkdir(mode=0o755)
        if uid is not None:
            os.chown(slot.work, uid, uid)
        return slot

    def place(self, path: Path, name: str) -> Path:
        """Lays a file or folder of the node out for the child; the path under which the child reads it.

        Raises:
            OSError: it is not there, or there is no room.
        """
        target = self.inputs / name
        if path.is_dir():
            shutil.copytree(path, target, copy_function=_lay_out)
            target.chmod(0o755)
        else:
            _lay_out(path, target)
        return self.seen_inputs / name

    def shares(self, path: Path | None, name: str) -> bool:
        """Whether what was placed from the folder `path` is its own files, and no copies of them."""
        files = list(path.iterdir()) if path is not None else []
        return all((self.inputs / name / file.name).samefile(file) for file in files)

    def take(self, artefact: Artefact, into: Path) -> Artefact:
        """The artefact with its path below `into`, where its file is from now on; its place below `work` is kept.

        The file is linked where this is its one name, else copied. A child that still runs may write on into what is
        linked: whoever uses the file checks it against `sha256`.

        Raises:
            NotThere: it is not a plain file of the said size below the child's folder.
        """
        parts = self._parts(artefact.path)
        try:
            descriptor = self._open(parts)
        except OSError as error:
            raise NotThere(f"{artefact.name}: {error.strerror}") from error
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_size != artefact.size:
                raise NotThere(f"{artefact.name} is no file of {artefact.size} bytes")
            target = into.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            _keep(descriptor, found.st_nlink == 1, target)
        except OSError as error:
            raise NotThere(f"{artefact.name} could not be taken: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return replace(artefact, path=target)

    def _parts(self, path: Path) -> tuple[str, ...]:
        pure = PurePosixPath(path)
        if not pure.is_relative_to(self.seen_work):
            raise NotThere(f"{str(path)[:200]} is not below the job's folder")
        parts = pure.relative_to(self.seen_work).parts
        if not parts or ".." in parts or any("\0" in part for part in parts):
            raise NotThere(f"{str(path)[:200]} is no file below the job's folder")
        return parts

    def _open(self, parts: tuple[str, ...]) -> int:
        """The file, found folder by folder: none of them may be a symbolic link, also while the child moves things."""
        folder = os.open(self.work, _FOLDER)
        try:
            for part in parts[:-1]:
                inner = os.open(part, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            return os.open(parts[-1], _FILE, dir_fd=folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Removes everything; the child must be gone. What can't be removed stays for the next start's sweep."""
        clear(self.root)


def _lay_out(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    # Readable by the child's user. With the node's own user a link shares these bits with the original.
    Path(target).chmod(0o444)


def _keep(descriptor: int, alone: bool, target: Path) -> None:
    """`alone`: it has no other name, by which others would see what is done to it here."""
    partial = target.with_name(f"{target.name}.taken")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    source = Path(f"/proc/self/fd/{descriptor}")
    try:
        if not alone:
            raise OSError(errno.EMLINK, "it has other names")
        # Only if it is given a descriptor does Python follow the link that stands for one in /proc.
        os.link(source, partial, src_dir_fd=descriptor, follow_symlinks=True)
    except OSError:
        shutil.copyfile(source, partial)
    if os.geteuid() == 0:
        os.chown(partial, 0, 0)
    partial.chmod(0o644)  # the child reads on what it saved: below folders that are closed to everybody else
    partial.replace(target)


def sweep(root: Path) -> None:
    """Removes the slots that an earlier life of the node left. Raises OSError when there can be no slots."""
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    for entry in root.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            clear(entry)


def clear(root: Path) -> None:
    """Removes a folder that a stranger filled. Folders are lifted to the top before they are opened, so that no depth
    of them can exhaust the stack, the path's length or the descriptors."""
    lifted = 0
    try:
        while folders := [Path(entry.path) for entry in os.scandir(root) if _gone_unless_folder(entry)]:
            for folder in folders:
                folder.chmod(0o700)
                for entry in os.scandir(folder):
                    if _gone_unless_folder(entry):
                        lifted += 1
                        Path(entry.path).chmod(0o700)  # a folder that moves must be writable for its own ".."
                        Path(entry.path).rename(root / f".{lifted}.lifted")
                folder.rmdir()
        root.rmdir()
    except OSError as error:
        log.warning("%s could not be removed: %s", root, error)


def _gone_unless_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder; anything else is removed."""
    if entry.is_dir(follow_symlinks=False):
        return True
    Path(entry.path).unlink()
    return False
