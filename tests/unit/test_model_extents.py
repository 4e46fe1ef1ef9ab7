"""ExtentMap against a plain list of where each byte is."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from diffkeeper.model.extents import HOLE, UNKNOWN, ExtentMap, Piece

near = st.integers(0, 30)
short = st.integers(0, 12)
steps = st.one_of(
    st.tuples(st.just("write"), near, short, st.integers(0, 3), st.integers(0, 90)),
    st.tuples(st.sampled_from(["punch", "insert_range", "collapse_range"]), near, short),
    st.tuples(st.just("truncate"), near),
    st.tuples(st.just("copy"), near, short, near),
)
_HOLE = (HOLE, 0)


def _grow(plain: list[tuple[int, int]], size: int) -> None:
    plain += [_HOLE] * (size - len(plain))


def _do(plain: list[tuple[int, int]], name: str, offset: int, length: int = 0, *more: int) -> None:
    end = offset + length
    if name == "write" and length:
        blob, start = more
        _grow(plain, end)
        plain[offset:end] = [(blob, start + at if blob else 0) for at in range(length)]
    elif name == "punch":
        plain[offset:end] = [_HOLE] * len(plain[offset:end])
    elif name == "insert_range" and offset < len(plain):
        plain[offset:offset] = [_HOLE] * length
    elif name == "collapse_range":
        del plain[offset:end]
    elif name == "truncate":
        _grow(plain, offset)
        del plain[offset:]
    elif name == "copy" and plain[offset:end]:
        part, target = plain[offset:end], more[0]
        _grow(plain, target + len(part))
        plain[target : target + len(part)] = part


def _spread(pieces: Any) -> list[tuple[int, int]]:
    return [(p.blob, p.start + at if p.blob > 0 else 0) for p in pieces for at in range(p.length)]


@settings(max_examples=200, deadline=None)
@given(st.lists(steps, max_size=12), near, near)
def test_every_byte_is_where_it_was_put(script: list[tuple[Any, ...]], offset: int, length: int) -> None:
    extents, plain = ExtentMap(), list[tuple[int, int]]()
    for name, *arguments in script:
        before, copy = list(plain), extents.copy()
        if name == "write" and arguments[2] == UNKNOWN:
            arguments[3] = 0
        if name == "copy":
            extents.paste(arguments[2], extents.slice(arguments[0], arguments[1]))
        else:
            getattr(extents, name)(*arguments)
        _do(plain, name, *arguments)
        assert _spread(copy.pieces()) == before, "a copy does not change"
    assert _spread(extents.pieces()) == plain
    assert _spread(extents.pieces(offset, length)) == plain[offset : offset + length]
    assert extents == ExtentMap(extents.size, extents.extents())
    assert extents.has_unknown == any(blob == UNKNOWN for blob, _ in plain)


def test_appends_of_one_blob_become_one_extent() -> None:
    extents = ExtentMap()
    for at in range(1000):
        extents.write(at * 16, 16, 7, 100 + at * 16)
    assert list(extents.extents()) == [Piece(0, 16_000, 7, 100)]


def test_rewriting_a_page_keeps_what_is_around_it() -> None:
    extents = ExtentMap(12_288, [(0, 12_288, 1, 0)])
    extents.write(4096, 4096, 2, 0)
    assert list(extents.extents()) == [Piece(0, 4096, 1, 0), Piece(4096, 4096, 2, 0), Piece(8192, 4096, 1, 8192)]


def test_an_unknown_file_has_no_known_blob() -> None:
    extents = ExtentMap.unknown(10)
    assert (extents.size, extents.has_unknown, extents.first_blob) == (10, True, 0)


def test_copying_a_whole_file_takes_no_time_however_many_extents_it_has() -> None:
    source, target = ExtentMap(0, [(at * 8192, 4096, 1, at * 4096) for at in range(50)]), ExtentMap(7, [(0, 7, 2, 0)])
    target.paste(0, source.slice(0, source.size))
    assert target == source
    assert target._extents is source._extents, "the list is shared"
    target.write(0, 1, 3, 0)
    assert source.first_blob == 1, "until one side changes"
