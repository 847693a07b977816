"""The memory plan: where each tensor lies in the one arena, and why it is as large as it is.

Tensors share memory where their lifetimes do not meet; an operator that may write in place of its
input does; scratch lives for one step alone. Packing is a strip packing with fixed columns: orders
of placement are tried until the lower bound is met (A. Zhang et al., "Minimalloc", ASPLOS 2023, has
the problem and its hardness).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edgeq.firmware.network import Network, Step

ALIGNMENT = 8
ATTEMPTS = 2000
WIDTH = 56  # columns of the drawing
MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Buffer:
    """Memory that is held from the beginning of step `first` to the end of step `last`.

    `slack` are bytes behind its end that may be read: they need to exist, and hold nothing.
    """

    name: str
    size: int
    first: int
    last: int
    slack: int = 0

    def meets(self, other: Buffer) -> bool:
        """Whether both are held at the same time."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Plan:
    """Where everything lies: offsets of tensors by index, and of the scratch memory of steps.

    `arena` is its size; `bound` the largest sum of tensors that live at the same time, below which
    no plan can be; all in bytes.
    """

    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    tensors: Mapping[int, int]
    scratch: Mapping[int, int]
    arena: int
    bound: int


def planned(network: Network) -> Plan:
    """The plan of a network's memory."""
    tensors, members = _tensors(network)
    scratch = {i: Buffer(f"scratch of {step.label}", step.kernel.scratch, i, i)
               for i, step in enumerate(network.steps) if step.kernel.scratch}
    buffers = (*tensors.values(), *scratch.values())
    offsets = packed(buffers)
    places = dict(zip([*tensors, *((None, i) for i in scratch)], offsets, strict=True))
    arena = max((offset + buffer.size + buffer.slack
                 for buffer, offset in zip(buffers, offsets, strict=True)), default=0)
    return Plan(buffers, offsets, {tensor: places[host] for tensor, host in members.items()},
                {i: places[None, i] for i in scratch}, _aligned(arena), bound(tensors.values()))


def bound(buffers: Iterable[Buffer]) -> int:
    """The largest sum of `buffers` that are held at the same time (bytes)."""
    held = [*buffers]
    return max((sum(each.size for each in held if each.first <= step <= each.last)
                for step in {buffer.first for buffer in held}), default=0)


def fullest(plan: Plan) -> list[Buffer]:
    """What is held at the step that holds most, the largest first."""
    held = [[each for each in plan.buffers if each.first <= step <= each.last]
            for step in {buffer.first for buffer in plan.buffers}]
    most = max(held, key=lambda each: sum(buffer.size for buffer in each), default=[])
    return sorted(most, key=lambda buffer: -buffer.size)


def packed(buffers: Sequence[Buffer]) -> tuple[int, ...]:
    """Offsets at which no two `buffers` that are held at the same time overlap.

    Several orders of placement are tried, then random changes of the best; the same every time.
    """
    least = bound([replace(buffer, size=_aligned(buffer.size)) for buffer in buffers])
    best = min(_orders(buffers), key=lambda order: _height(buffers, _placed(buffers, order)))
    height = _height(buffers, _placed(buffers, best))
    chance = random.Random(0)  # noqa: S311 (no secret: the same plan every time)
    for _ in range(ATTEMPTS if len(buffers) > 1 else 0):
        if height <= least:
            break
        order = _changed(best, chance)
        if (found := _height(buffers, _placed(buffers, order))) <= height:
            best, height = order, found
    return _placed(buffers, best)


def as_json(plan: Plan, steps: int) -> dict[str, object]:
    """The plan of a program of so many `steps` as plain data: edgeq-arena/1."""
    return {"schema": "edgeq-arena/1", "arena_bytes": plan.arena, "steps": steps,
            "buffers": [{"name": buffer.name, "offset": offset, "bytes": buffer.size,
                         "first": buffer.first, "last": buffer.last}
                        for buffer, offset in zip(plan.buffers, plan.offsets, strict=True)]}


def drawn(plan: Plan, steps: Sequence[Step]) -> str:
    """The plan as text: a line a step, the arena from left to right, a letter a buffer."""
    marks = {i: MARKS[i % len(MARKS)] for i in range(len(plan.buffers))}
    scale = WIDTH / max(1, plan.arena)
    lines = [f"arena {plan.arena} bytes; tensors alone need {plan.bound}", ""]
    for number, step in enumerate(steps):
        row, held = ["."] * WIDTH, 0
        for i, (buffer, offset) in enumerate(zip(plan.buffers, plan.offsets, strict=True)):
            if buffer.first <= number <= buffer.last:
                held += buffer.size
                begin, end = int(offset * scale), int((offset + buffer.size) * scale)
                row[begin: max(begin + 1, end)] = marks[i] * max(1, end - begin)
        lines.append(f"{step.label:24} {held:8}  |{''.join(row[:WIDTH])}|")
    lines += ["", *(f"{marks[i]}  {offset:8} + {buffer.size:<8} {buffer.name}"
                    for i, (buffer, offset) in enumerate(zip(plan.buffers, plan.offsets, strict=True)))]
    return "\n".join(lines) + "\n"


Host = int | tuple[None, int]


def _tensors(network: Network) -> tuple[dict[Host, Buffer], dict[int, Host]]:
    """The memory of tensors by the tensor that it is named for, and which tensors lie in it."""
    spans = _spans(network)
    hosts: dict[int, int] = {}
    for number, step in enumerate(network.steps):
        taken = _taken(network, step, number, spans)
        if taken is not None:
            sink = network.root(step.operation.sink.index)
            hosts[sink] = host = hosts.get(taken, taken)
            spans[host] = replace(spans[host], last=spans[sink].last,
                                  slack=max(spans[host].slack, spans[sink].slack))
    buffers: dict[Host, Buffer] = {root: span for root, span in spans.items() if root not in hosts}
    members: dict[int, Host] = {tensor: hosts.get(network.root(tensor), network.root(tensor))
                                for tensor in [*spans, *network.roots]
                                if network.root(tensor) in spans}
    return buffers, members


def _spans(network: Network) -> dict[int, Buffer]:
    """How long each tensor that is not a constant, and no alias, has to be kept."""
    graph, end = network.graph, max(0, len(network.steps) - 1)
    spans = {i: _span(network, i, 0) for i in graph.inputs}
    for number, step in enumerate(network.steps):
        for tensor in step.operation.outputs:
            spans[tensor.index] = _span(network, tensor.index, number)
        for read in step.operation.operator.inputs:
            root = network.root(read)
            if root in spans:
                spans[root] = replace(spans[root], last=number,
                                      slack=max(spans[root].slack, step.kernel.over_read))
    for output in graph.outputs:
        if (root := network.root(output)) in spans:
            spans[root] = replace(spans[root], last=end)
    return spans


def _span(network: Network, tensor: int, step: int) -> Buffer:
    writers = network.graph.producers()
    name = f"output of {writers[tensor].index} {writers[tensor].name}" if tensor in writers else "input"
    return Buffer(name, network.size(tensor), step, step)


def _taken(network: Network, step: Step, number: int, spans: Mapping[int, Buffer]) -> int | None:
    """The input in whose place the output of `step` is written; None where it needs its own."""
    sink = network.root(step.operation.sink.index)
    kept = {network.root(output) for output in network.graph.outputs}
    for place in step.kernel.in_place:
        root = network.root(step.operation.input(place).index)
        if root in spans and root not in kept:
            span = spans[root]
            if span.last == number and span.size == spans[sink].size:
                return root
    return None


def _orders(buffers: Sequence[Buffer]) -> Iterator[list[int]]:
    """Orders of placement that often do: the largest first, the longest held, by time and backwards."""
    keys: tuple[Callable[[Buffer], tuple[int, int]], ...] = (
        lambda buffer: (-buffer.size, buffer.first),
        lambda buffer: (-buffer.size * (buffer.last - buffer.first + 1), buffer.first),
        lambda buffer: (buffer.first, -buffer.size),
        lambda buffer: (-buffer.last, -buffer.size))
    for key in keys:
        order = sorted((key(buffer), i) for i, buffer in enumerate(buffers))
        yield [i for _, i in order]


def _placed(buffers: Sequence[Buffer], order: Sequence[int]) -> tuple[int, ...]:
    """Each buffer, in `order`, at the lowest place where it meets no other that is placed."""
    offsets = [0] * len(buffers)
    placed: list[int] = []
    for i in order:
        taken = sorted((offsets[j], offsets[j] + buffers[j].size)
                       for j in placed if buffers[i].meets(buffers[j]))
        place = 0
        for begin, end in taken:
            if place + buffers[i].size <= begin:
                break
            place = max(place, _aligned(end))
        offsets[i] = place
        placed.append(i)
    return tuple(offsets)


def _height(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + buffer.size for buffer, offset in zip(buffers, offsets, strict=True)), default=0)


def _changed(order: Sequence[int], chance: random.Random) -> list[int]:
    """`order` with one buffer moved to another place in it."""
    changed = [*order]
    moved = changed.pop(chance.randrange(len(changed)))
    changed.insert(chance.randrange(len(changed) + 1), moved)
    return changed


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
