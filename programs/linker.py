"""Links one relocatable BPF object into a shared object for Solana's loader (SBF version 0).

lld has no BPF target. What the loader needs is little: every section at the file offset that is its address, one text
section, read-only data, and a relocation for each address of data and for each syscall. Writable data is refused,
because the loader has none. The same object always gives the same bytes.

Format: ELF-64 of the System V ABI; relocations as LLVM's BPF back end numbers them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

EM_BPF = 247
ET_REL, ET_DYN = 1, 3
SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_DYNAMIC, SHT_NOBITS, SHT_REL, SHT_DYNSYM = 1, 2, 3, 6, 8, 9, 11
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR = 1, 2, 4
PT_LOAD, PT_DYNAMIC = 1, 2
R_BPF_64_64, R_BPF_64_RELATIVE, R_BPF_64_32 = 1, 8, 10
UNDEFINED = 0
CALL = 0x85
PSEUDO_CALL = 0x10
INSTRUCTION = 8

SYSCALLS = frozenset(
    {
        "sol_create_program_address",
        "sol_get_clock_sysvar",
        "sol_get_rent_sysvar",
        "sol_invoke_signed_c",
        "sol_log_",
        "sol_log_64_",
        "sol_memcpy_",
        "sol_memset_",
        "sol_sha256",
        "sol_try_find_program_address",
    }
)


class LinkError(Exception):
    """The object has something that the loader has no place for."""


@dataclass
class Section:
    name: str
    kind: int
    flags: int
    data: bytes
    link: int
    info: int
    align: int
    size: int
    address: int = 0


@dataclass
class Symbol:
    name: str
    section: int
    value: int


@dataclass(frozen=True)
class Relocation:
    offset: int
    kind: int
    symbol: int


def link(obj: bytes) -> bytes:
    """The shared object of `obj`, a relocatable ELF-64 for BPF, little-endian.

    Raises:
        LinkError: no BPF object, no `entrypoint`, writable data, an unknown relocation or an unknown syscall.
    """
    sections, symbols, relocations = _read(obj)
    text_at = [at for at, each in enumerate(sections) if each.flags & SHF_EXECINSTR and each.size]
    if len(text_at) != 1:
        raise LinkError(f"expected one section of instructions, got {[sections[at].name for at in text_at]}")
    data_at = [
        at
        for at, each in enumerate(sections)
        if each.flags & SHF_ALLOC and not each.flags & SHF_EXECINSTR and each.size and each.name != ".eh_frame"
    ]
    for at in data_at:
        each = sections[at]
        if each.flags & SHF_WRITE or each.kind == SHT_NOBITS:
            raise LinkError(f"{each.name}: {each.size} bytes of writable data; make them const or local")
        if each.align > INSTRUCTION:
            raise LinkError(f"{each.name}: alignment {each.align} is more than {INSTRUCTION}")
    text = sections[text_at[0]]

    position = text.address = 64 + 3 * 56
    position += len(text.data)
    rodata_address = position
    rodata = b""
    for at in data_at:
        rodata += bytes(-len(rodata) % INSTRUCTION)
        sections[at].address = rodata_address + len(rodata)
        rodata += sections[at].data
    rodata = rodata + bytes(-len(rodata) % INSTRUCTION) or bytes(INSTRUCTION)

    linked = _Linked(bytearray(text.data), text.address, [], [])
    placed = {text_at[0], *data_at}
    for target, entries in relocations:
        if target == text_at[0]:
            for entry in entries:
                linked.apply(entry, symbols[entry.symbol], sections, placed, text_at[0])
        elif target in placed:
            raise LinkError(f"{sections[target].name}: addresses in constant data are not supported")
    entry_points = [each for each in symbols if each.name == "entrypoint" and each.section == text_at[0]]
    if not entry_points:
        raise LinkError("no function named entrypoint")
    return _write(linked, rodata, text.address + entry_points[0].value)


def _read(obj: bytes) -> tuple[list[Section], list[Symbol], list[tuple[int, list[Relocation]]]]:
    if len(obj) < 64 or obj[:6] != b"\x7fELF\x02\x01":
        raise LinkError("no ELF-64 file, little-endian")
    kind, machine = struct.unpack_from("<HH", obj, 16)
    if (kind, machine) != (ET_REL, EM_BPF):
        raise LinkError(f"expected a relocatable object for BPF, got type {kind}, machine {machine}")
    (table,) = struct.unpack_from("<Q", obj, 40)
    size, count, names_at = struct.unpack_from("<HHH", obj, 58)
    heads = [struct.unpack_from("<IIQQQQIIQQ", obj, table + at * size) for at in range(count)]
    names = heads[names_at]
    sections = []
    for name, kind, flags, _, offset, length, linked, info, align, _ in heads:
        body = b"" if kind == SHT_NOBITS else obj[offset : offset + length]
        sections.append(Section(_text(obj, names[4] + name), kind, flags, body, linked, info, align, length))
    symbols: list[Symbol] = []
    relocations = []
    for section in sections:
        if section.kind == SHT_SYMTAB:
            strings = heads[section.link][4]
            for name, _, _, where, value, _ in struct.iter_unpack("<IBBHQQ", section.data):
                symbols.append(Symbol(_text(obj, strings + name), where, value))
        elif section.kind == SHT_REL:
            entries = [
                Relocation(offset, info & 0xFFFFFFFF, info >> 32)
                for offset, info in struct.iter_unpack("<QQ", section.data)
            ]
            relocations.append((section.info, entries))
    return sections, symbols, relocations


def _text(data: bytes, start: int) -> str:
    return data[start : data.index(0, start)].decode()


@dataclass
class _Linked:
    """The text with its relocations applied, and what the loader still has to do."""

    text: bytearray
    address: int
    dynamic: list[tuple[int, int, int]]  # address, type, index of the dynamic symbol
    syscalls: list[str]

    def apply(
        self, entry: Relocation, symbol: Symbol, sections: list[Section], placed: set[int], text_section: int
    ) -> None:
        at = entry.offset
        (immediate,) = struct.unpack_from("<i", self.text, at + 4)
        if entry.kind == R_BPF_64_64:
            if symbol.section not in placed or symbol.section == text_section:
                raise LinkError(f"offset {at}: the address of {symbol.name or 'a section'} is not one of constant data")
            address = sections[symbol.section].address + symbol.value + immediate
            struct.pack_into("<I", self.text, at + 4, address)
            struct.pack_into("<I", self.text, at + 12, 0)
            self.dynamic.append((self.address + at, R_BPF_64_RELATIVE, 0))
        elif entry.kind == R_BPF_64_32 and self.text[at] == CALL:
            self.text[at + 1] = PSEUDO_CALL
            if symbol.section == UNDEFINED:
                if symbol.name not in SYSCALLS:
                    raise LinkError(f"offset {at}: {symbol.name} is neither defined nor a known syscall")
                if symbol.name not in self.syscalls:
                    self.syscalls.append(symbol.name)
                struct.pack_into("<i", self.text, at + 4, -1)
                self.dynamic.append((self.address + at, R_BPF_64_32, self.syscalls.index(symbol.name) + 1))
            elif symbol.section == text_section:
                target = symbol.value + (immediate + 1) * INSTRUCTION
                struct.pack_into("<i", self.text, at + 4, (target - at) // INSTRUCTION - 1)
            else:
                raise LinkError(f"offset {at}: call of {symbol.name}, which is no function of this program")
        else:
            raise LinkError(f"offset {at}: relocation of type {entry.kind} is not supported")


def _write(linked: _Linked, rodata: bytes, entry: int) -> bytes:
    strings = b"\0"
    symbols = bytes(24)
    for name in linked.syscalls:
        symbols += struct.pack("<IBBHQQ", len(strings), 0x10, 0, UNDEFINED, 0, 0)
        strings += name.encode() + b"\0"
    strings += bytes(-len(strings) % 8)
    relocations = b"".join(struct.pack("<QQ", at, symbol << 32 | kind) for at, kind, symbol in linked.dynamic)

    names = b"\0"
    heads = [bytes(64)]
    places: dict[str, tuple[int, int]] = {}
    body = b""

    def place(name: str, kind: int, flags: int, data: bytes, link: int = 0, entry_size: int = 0) -> None:
        nonlocal names, body
        at = linked.address + len(body)
        head = (len(names), kind, flags, at if flags else 0, at, len(data), link, 0, 8 if flags else 1, entry_size)
        heads.append(struct.pack("<IIQQQQIIQQ", *head))
        places[name] = (at, len(data))
        names += name.encode() + b"\0"
        body += data

    dynamic_size = 8 * 16
    place(".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, bytes(linked.text))
    place(".rodata", SHT_PROGBITS, SHF_ALLOC, rodata)
    dynamic_at = linked.address + len(body)
    symbols_at = dynamic_at + dynamic_size
    strings_at = symbols_at + len(symbols)
    relocations_at = strings_at + len(strings)
    tags = [
        (17, relocations_at), (18, len(relocations)), (19, 16), (6, symbols_at), (11, 24), (5, strings_at),
        (10, len(strings)), (0, 0),
    ]  # fmt: skip
    place(".dynamic", SHT_DYNAMIC, SHF_ALLOC, b"".join(struct.pack("<QQ", *tag) for tag in tags), 5, 16)
    place(".dynsym", SHT_DYNSYM, SHF_ALLOC, symbols, 5, 24)
    place(".dynstr", SHT_STRTAB, SHF_ALLOC, strings)
    place(".rel.dyn", SHT_REL, SHF_ALLOC, relocations, 4, 16)
    end = linked.address + len(body)
    section_names = names + b".shstrtab\0"
    place(".shstrtab", SHT_STRTAB, 0, section_names + bytes(-len(section_names) % 8))

    def segment(kind: int, flags: int, start: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, flags, start, start, start, size, size, 8)

    text_at, text_size = places[".text"]
    rest_at = places[".rodata"][0]
    segments = segment(PT_LOAD, 5, text_at, text_size) + segment(PT_LOAD, 4, rest_at, end - rest_at)
    segments += segment(PT_DYNAMIC, 4, dynamic_at, dynamic_size)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    table_at = linked.address + len(body)
    header = struct.pack(
        "<HHIQQQIHHHHHH", ET_DYN, EM_BPF, 1, entry, 64, table_at, 0, 64, 56, 3, 64, len(heads), len(heads) - 1
    )
    return identity + header + segments + body + b"".join(heads)
