"""Which processors (logical CPUs) a job gets as its own.

The rule of choice, in the order in which it counts:

1. A CPU for each processor asked for, or none at all; none that is taken.
2. Whole cores before hyperthreads: while there are enough cores on which nothing runs, a job gets one CPU of each.
   When there are not, it fills up those that it has with their other hyperthreads, before it comes beside a neighbour.
3. One NUMA node where it fits: the one that it leaves least of, so that others stay whole for wider jobs. A job that
   fits into none gets most of it from the emptiest ones.
4. The lowest numbers.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple


class Cpu(NamedTuple):
    """A logical CPU: its number, its core (unique over packages), and the NUMA node whose memory is near."""

    number: int
    core: int
    node: int


def are_alike(cpus: Sequence[Cpu]) -> bool:
    """Is each a core of its own, and no memory nearer to one than to another? Then any are as good as others."""
    return len({cpu.core for cpu in cpus}) == len(cpus) and len({cpu.node for cpu in cpus}) <= 1


def choose(cpus: Sequence[Cpu], taken: Container[int], width: int) -> tuple[int, ...]:
    """The CPUs for a job `width` wide, ascending; () when fewer are free. `cpus` are in the order of their numbers."""
    whole, second, beside = _free(cpus, taken)
    if width <= _count(whole):
        return tuple(sorted(_pick(whole, width)))
    if width > _count(whole) + _count(second) + _count(beside):
        return ()
    nodes = {}
    for node in {*whole, *second, *beside}:
        own, near = whole.get(node, []) + second.get(node, []), beside.get(node, [])
        if len(own) + len(near) >= width:
            nodes[node] = own, near
    if nodes:
        best = min(nodes, key=lambda node: (max(0, width - len(nodes[node][0])), sum(map(len, nodes[node])), node))
        own, near = nodes[best]
        return tuple(sorted((own + near)[:width]))
    chosen: list[int] = []
    for kind in (whole, second, beside):
        chosen += _pick(kind, min(width - len(chosen), _count(kind)))
    return tuple(sorted(chosen))


_ByNode = Mapping[int, list[int]]


def _free(cpus: Sequence[Cpu], taken: Container[int]) -> tuple[_ByNode, _ByNode, _ByNode]:
    """The free CPUs of each node: one of each idle core, the other ones of idle cores, those of cores in use."""
    used = {core for number, core, _ in cpus if number in taken}
    whole: dict[int, list[int]] = {}
    second: dict[int, list[int]] = {}
    beside: dict[int, list[int]] = {}
    seen: set[int] = set()
    for number, core, node in cpus:
        if core not in used:
            kind = second if core in seen else whole
            seen.add(core)
        elif number not in taken:
            kind = beside
        else:
            continue
        if node in kind:
            kind[node].append(number)
        else:
            kind[node] = [number]
    return whole, second, beside


def _count(kind: _ByNode) -> int:
    return sum(map(len, kind.values()))


def _pick(kind: _ByNode, width: int) -> list[int]:
    """So many of these CPUs, of as few nodes as possible; there must be enough."""
    left = dict(kind)
    chosen: list[int] = []
    while len(chosen) < width:
        wanted = width - len(chosen)
        enough = [node for node in left if len(left[node]) >= wanted]
        if enough:
            node = min(enough, key=lambda node: (len(left[node]), node))
        else:
            node = max(left, key=lambda node: (len(left[node]), -node))
        chosen += left.pop(node)[:wanted]
    return chosen
