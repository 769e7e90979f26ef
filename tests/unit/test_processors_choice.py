"""Which processors a job gets for itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qm.judgement.processors import Cpu, are_alike, choose

# Two nodes of four cores of two hyperthreads each: CPUs 0 to 3 and 8 to 11 are on node 0, 8 is the second of core 0.
SERVER = [Cpu(number, number % 8, number % 8 // 4) for number in range(16)]


def test_a_job_gets_whole_cores_of_one_node() -> None:
    assert choose(SERVER, set(), 1) == (0,)
    assert choose(SERVER, set(), 4) == (0, 1, 2, 3)


def test_a_job_leaves_a_core_that_is_in_use_alone() -> None:
    assert choose(SERVER, {0, 9}, 2) == (2, 3)


def test_the_node_that_is_left_least_of_is_chosen() -> None:
    assert choose(SERVER, {4, 5}, 2) == (6, 7)
    assert choose(SERVER, {4, 5}, 3) == (0, 1, 2)


def test_a_job_wider_than_the_cores_of_a_node_gets_whole_ones_of_both() -> None:
    assert choose(SERVER, set(), 6) == (0, 1, 2, 3, 4, 5)


def test_without_enough_whole_cores_a_job_shares_its_own_before_a_neighbours() -> None:
    assert choose(SERVER, {0, 1, 2, 3, 4, 5, 6}, 2) == (7, 15)


def test_a_job_that_has_to_share_stays_on_one_node_where_it_fits() -> None:
    assert choose(SERVER, {0, 1, 4, 5, 6, 7}, 4) == (2, 3, 10, 11)


def test_a_job_that_fits_into_no_node_gets_all_whole_cores_first() -> None:
    assert choose(SERVER, set(), 9) == (*range(8), 8)
    assert choose(SERVER, set(), 16) == tuple(range(16))


def test_a_job_gets_all_that_it_asks_for_or_nothing() -> None:
    assert choose(SERVER, {3}, 16) == ()
    assert choose([], set(), 1) == ()


CPUS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1)), max_size=24).map(
    lambda cores: [Cpu(number, core + 8 * node, node) for number, (core, node) in enumerate(cores)]
)


@given(CPUS, st.sets(st.integers(0, 23)), st.integers(1, 24))
def test_the_choice_is_free_wide_enough_and_as_good_as_it_can_be(cpus: list[Cpu], taken: set[int], width: int) -> None:
    chosen = choose(cpus, taken, width)
    free = [cpu for cpu in cpus if cpu.number not in taken]
    if len(free) < width:
        assert chosen == ()
        return
    assert len(set(chosen)) == len(chosen) == width
    assert list(chosen) == sorted(chosen)
    assert not taken & set(chosen)
    used = {cpu.core for cpu in cpus if cpu.number in taken}
    idle = {cpu.core: cpu.node for cpu in free if cpu.core not in used}
    mine = [cpu for cpu in cpus if cpu.number in chosen]
    nodes = {cpu.node for cpu in mine}
    if len(idle) >= width:
        assert len({cpu.core for cpu in mine} - used) == width, "each has a core of its own"
        if any(sum(its == node for its in idle.values()) >= width for node in idle.values()):
            assert len(nodes) == 1
    elif any(sum(cpu.node == node for cpu in free) >= width for node in (0, 1)):
        assert len(nodes) == 1
    else:
        assert {cpu.core for cpu in mine} >= set(idle)


def test_cpus_are_alike_where_none_shares_a_core_and_all_have_one_memory() -> None:
    assert are_alike([Cpu(0, 0, 0), Cpu(3, 1, 0)]) and are_alike([])
    assert not are_alike([Cpu(0, 0, 0), Cpu(1, 0, 0)])
    assert not are_alike([Cpu(0, 0, 0), Cpu(1, 1, 1)])
