"""Parts of the sandbox that need no process: filters, folders, groups, measures."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from cyxwiz.compute.sandbox import measure, seccomp, slot
from cyxwiz.compute.sandbox.cgroup import Group
from cyxwiz.compute.sandbox.confine import Rules
from cyxwiz.compute.sandbox.slot import NotThere, Slot
from cyxwiz.compute.sandbox.syscalls import MACHINES
from cyxwiz.compute.sandbox.users import NOBODY, Users
from cyxwiz.ports.executor import Artefact
from tests.missing import missing

ALLOW, KILL, EPERM, ENOSYS, EAFNOSUPPORT = 0x7FFF0000, 0x80000000, 0x50001, 0x50026, 0x50061


def decide(program: bytes, arch: int, number: int, *arguments: int) -> int:
    """Runs a filter by hand: the few instructions of classic BPF that it is made of."""
    data = struct.pack("=IIQ", number, arch, 0) + b"".join(
        struct.pack("=Q", argument & (1 << 64) - 1) for argument in (*arguments, *[0] * (6 - len(arguments)))
    )
    lines = list(struct.iter_unpack("=HBBI", program))
    at = held = 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x20:
            held = int.from_bytes(data[operand : operand + 4], "little")
        else:
            true = {0x15: held == operand, 0x35: held >= operand, 0x45: bool(held & operand)}[code]
            at += yes if true else no


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_decides_as_it_should(machine: str) -> None:
    arch, numbers = MACHINES[machine]
    program = seccomp.program((1, 2), machine=machine, deathsig=False)

    def ask(name: str, *arguments: int) -> int:
        return decide(program, arch, numbers[name], *arguments)

    for name in (*seccomp.REFUSED, *seccomp.ABSENT):
        if name in numbers:
            assert ask(name) == (ENOSYS if name in seccomp.ABSENT else EPERM), name
    assert ask("memfd_create") == ENOSYS
    assert decide(seccomp.program((), machine=machine, memfd=True), arch, numbers["memfd_create"]) == ALLOW
    assert (ask("clone", 0x11), ask("clone", 0x10000011), ask("clone", 0x00020011)) == (ALLOW, EPERM, EPERM)
    assert (ask("socket", 1), ask("socket", 2), ask("socket", 16)) == (ALLOW, ALLOW, EAFNOSUPPORT)
    assert (ask("personality", 0xFFFFFFFF), ask("personality", 0x40000)) == (ALLOW, EPERM)
    assert (ask("ioctl", 0, 0x5413), ask("ioctl", 0, 0x5412)) == (ALLOW, EPERM)
    assert (ask("prctl", 4), ask("prctl", 1)) == (ALLOW, EPERM)
    assert ask("socketpair", 1) == decide(program, arch, 0) == ALLOW
    assert decide(program, 0x40000003, 1) == KILL  # i386
    if machine == "x86_64":
        assert decide(program, arch, 0x40000001) == KILL


def test_a_machine_without_numbers_is_refused() -> None:
    assert not seccomp.supported("riscv64")
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program((), machine="riscv64")


def test_rules_survive_their_way() -> None:
    rules = Rules(uid=7, limits={"NPROC": 3}, families=(1,), read=("/a",), groups=("/g",), tcp=False)
    again = Rules.decode(rules.encode())
    assert Rules.decode(again.encode()) == again
    assert (again.uid, again.limits, list(again.families or ()), again.tcp) == (7, {"NPROC": 3}, [1], False)


def made(folder: Path) -> Slot:
    return Slot.make(folder / "slot", None, Path("/seen/work"), Path("/seen/inputs"))


def test_what_is_laid_out_and_what_is_taken(tmp_path: Path) -> None:
    here = made(tmp_path)
    source = tmp_path / "data"
    source.write_text("rows")
    assert here.place(source, "dataset_path") == Path("/seen/inputs/dataset_path")
    assert (here.inputs / "dataset_path").read_text() == "rows"
    (here.work / "out").mkdir()
    (here.work / "out" / "m").write_text("weights")
    said = Artefact("m", Path("/seen/work/out/m"), "ab", 7)
    for _ in range(2):  # once more does no harm, and replaces
        kept = here.take(said, tmp_path / "job")
    assert kept.path == tmp_path / "job" / "out" / "m"
    assert (kept.path.read_text(), kept.sha256, kept.size) == ("weights", "ab", 7)
    here.remove()
    assert kept.path.exists()
    assert not here.root.exists()


@pytest.mark.parametrize("names", [1, 2])
def test_a_file_is_taken_without_a_copy_unless_it_has_another_name(tmp_path: Path, names: int) -> None:
    here = made(tmp_path)
    source = here.work / "m"
    source.write_text("weights")
    source.chmod(0o644)
    if names == 2:
        (tmp_path / "elsewhere").hardlink_to(source)
    kept = here.take(Artefact("m", Path("/seen/work/m"), "ab", 7), tmp_path / "job")
    assert kept.path.samefile(source) is (names == 1)
    assert (kept.path.read_text(), kept.path.stat().st_mode & 0o777) == ("weights", 0o644)
    assert source.stat().st_mode & 0o777 == 0o644, "the child, which may be another user, reads on what it saved"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/seen/work", "/seen/work/../inputs/x", "/seen/work/link", "/seen/work/inner/x", "relative"]
)
def test_what_is_not_taken(tmp_path: Path, path: str) -> None:
    here = made(tmp_path)
    (tmp_path / "secret").write_text("x")
    (here.inputs / "x").write_text("x")
    (here.work / "link").symlink_to(tmp_path / "secret")
    (here.work / "inner").symlink_to(here.inputs)
    with pytest.raises(NotThere):
        here.take(Artefact("x", Path(path), "", 1), tmp_path / "job")


def test_the_disk_is_measured_without_following_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "big").write_bytes(b"x" * (1 << 20))
    (folder / "again").hardlink_to(folder / "in" / "big")  # counts once
    (folder / "up").symlink_to("/usr")
    assert 1 << 20 <= measure.disk_bytes(folder) < (1 << 20) + (1 << 16)
    monkeypatch.setattr(measure, "MAX_FILES", 2)
    with pytest.raises(measure.TooManyFiles):
        measure.disk_bytes(folder)


def test_a_folder_of_any_depth_is_cleared_and_links_out_of_it_are_not_followed(tmp_path: Path) -> None:
    (kept := tmp_path / "kept").mkdir()
    (kept / "file").write_text("x")
    root = inner = tmp_path / "slot"
    for _ in range(40):
        inner = inner / ("d" * 50)
    inner.mkdir(parents=True)
    (inner / "out").symlink_to(kept)
    inner.chmod(0)
    slot.clear(root)
    assert not root.exists()
    assert (kept / "file").read_text() == "x"


def test_a_group_tells_that_memory_ran_out(tmp_path: Path) -> None:
    group = Group((tmp_path,))
    assert not group.ran_out()
    group.limit_memory(5)  # there is no such controller: nothing is done
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "memory.max").write_text("max")
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    group.limit_memory(5)
    assert (tmp_path / "memory.max").read_text() == "5"
    assert group.ran_out()


def test_two_nodes_of_a_machine_share_no_user_of_children() -> None:
    one, other = Users(), Users()
    try:
        mine = [one.take(), one.take()]
        if NOBODY in mine:
            missing("users of children: this container has few users")
        theirs = [other.take(), other.take()]
        assert len({*mine, *theirs}) == 4
        one.give(mine[0])
        assert other.take() not in mine, "it is still claimed: its files may lie about"
        assert one.take() == mine[0]
        one.close()
        assert other.take() in mine
    finally:
        one.close()
        other.close()
