"""The memory plan of firmware, and what of a graph becomes a step, an alias, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import operator, tensor, written
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import Refused
from edgeq.firmware.arena import Buffer, bound, drawn, packed, planned
from edgeq.firmware.c_text import identifier
from edgeq.firmware.kernel import Input, Kernel, Output, Routine, Scratch
from edgeq.firmware.network import Provider, network
from edgeq.firmware.source import Pool, Program, sources
from edgeq.graph import parse

COPY = Routine("copy", "const int8_t *in, int8_t *out", "void @NAME@(const int8_t *in, int8_t *out);\n")


def provider(scratch=0, over_read=0, in_place=()):
    """Every operator by the same kernel, which takes so much."""
    def kernel(_):
        return Kernel(COPY, (Input(), Output(), Scratch()), scratch, over_read, in_place)

    return Provider("same", dict.fromkeys(("RELU", "ADD", "CONV_2D", "SPLIT"), kernel))


def grown(*operators, sizes, outputs="out"):
    """A graph of int8 vectors of the `sizes` by name, one scale for all."""
    tensors = [tensor(name, (1, size), "INT8", scale=0.1) for name, size in sizes.items()]
    return parse(written(tensors, [operator(*each) for each in operators], outputs=outputs), "graph")


def planned_of(graph, **what):
    made = network(graph, [provider(**what)])
    return made, planned(made)


BUFFERS = st.lists(st.tuples(st.integers(1, 500), st.integers(0, 12), st.integers(0, 5)),
                   min_size=1, max_size=14)


@given(BUFFERS)
@settings(deadline=None, max_examples=60)
def test_buffers_that_are_held_together_never_overlap(drawn_buffers):
    buffers = [Buffer(str(i), size, first, first + held)
               for i, (size, first, held) in enumerate(drawn_buffers)]
    places = packed(buffers)
    for i, one in enumerate(buffers):
        assert places[i] % 8 == 0
        for j, other in enumerate(buffers[:i]):
            if one.meets(other):
                assert places[i] + one.size <= places[j] or places[j] + other.size <= places[i]


def test_no_plan_is_below_the_bound_and_a_chain_reaches_it():
    buffers = [Buffer(str(i), size, i, i + 1) for i, size in enumerate((800, 1600, 400, 1600, 80))]
    places = packed(buffers)
    assert max(p + b.size for p, b in zip(places, buffers, strict=True)) == bound(buffers) == 2400


def test_a_residual_graph_needs_what_lives_at_the_same_time():
    graph = grown(("RELU", "in", "a"), ("RELU", "a", "b"), ("ADD", "a b", "out"),
                  sizes={"in": 80, "a": 160, "b": 160, "out": 160})
    assert planned_of(graph)[1].arena == 480
    assert planned_of(graph, in_place=(0,))[1].arena == 320  # out in place of a, b beside it


def test_input_and_output_lie_in_the_arena_and_scratch_lives_for_a_step():
    graph = grown(("RELU", "in", "a"), ("RELU", "a", "out"), sizes={"in": 400, "a": 80, "out": 400})
    made, plan = planned_of(graph, scratch=48, over_read=15)
    assert plan.bound == 480
    assert plan.arena == 528  # the scratch beside; what is read on behind a tensor is there anyway
    assert {*plan.scratch} == {0, 1}
    text = drawn(plan, made.steps)
    assert "arena 528 bytes; tensors alone need 480" in text
    assert text.count("RELU") >= 4


def test_an_alias_takes_no_memory_and_no_step():
    graph = grown(("RESHAPE", "in", "a"), ("RELU", "a", "b"), ("SQUEEZE", "b", "out"),
                  sizes={"in": 64, "a": 64, "b": 64, "out": 64})
    made, plan = planned_of(graph)
    assert [step.operation.name for step in made.steps] == ["RELU"]
    assert plan.arena == 128
    assert plan.tensors[graph.outputs[0]] == plan.tensors[2]


def test_every_operator_without_a_kernel_is_named_with_its_index():
    graph = grown(("RELU", "in", "a"), ("GATHER", "a", "b"), ("TILE", "b", "out"),
                  sizes={"in": 8, "a": 8, "b": 8, "out": 8})
    with pytest.raises(Refused, match=r"operator 1 \(GATHER\).*operator 2 \(TILE\)"):
        network(graph, [provider()])


def test_what_no_firmware_is_made_of_is_refused():
    floats = parse(written([tensor("in", (1, 8)), tensor("out", (1, 8))],
                           [operator("RELU", "in", "out")]), "floats")
    with pytest.raises(Refused, match="nothing in it is quantized"):
        network(floats, [provider()])
    two = grown(("SPLIT", "in", "a b"), sizes={"in": 8, "a": 4, "b": 4}, outputs="a b")
    with pytest.raises(Refused, match="it has 2 outputs, and firmware takes one"):
        network(two, [provider()])


def test_equal_routines_and_constants_are_emitted_once():
    pool = Pool("net")
    assert pool.routine(COPY) == pool.routine(Routine(COPY.stem, COPY.parameters, COPY.c)) == "net_copy_0"
    assert pool.constant("w", np.array([1, 2], np.int8)) == pool.constant("v", np.array([[1], [2]], np.int8))
    assert pool.constant("w", np.array([1, 2], np.int16)) == "net_w_2"


def test_no_two_names_become_the_same_identifier():
    names = ["vww-96", "vww_96", "vww.96", "vww96", "96", "n96", "a-_b", "a_-b", "a.b", "a_-_b", "a-d"]
    spelled = [identifier(name) for name in names]
    assert len({*spelled}) == len(names)
    assert all(each.isidentifier() for each in spelled)
    assert spelled[0] == "vww_96"


def test_the_same_network_gives_the_same_text():
    graph = grown(("RELU", "in", "out"), sizes={"in": 8, "out": 8})
    made, plan = planned_of(graph)
    texts = sources(Program("net", made, plan))
    assert texts == sources(Program("net", made, plan))
    assert "void net_invoke(const int8_t *in, int8_t *out);" in texts["net.h"]
