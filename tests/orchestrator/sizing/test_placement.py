"""Who goes where: shares of GPUs, seats of CPU solvers, shares of the work."""

from dataclasses import replace

import pytest

from orchestrator.cluster.nodes import Node
from orchestrator.console.errors import UserError
from orchestrator.dispatch.pace import Pace
from orchestrator.sizing.placement import place, place_judge, room_for_solvers, seat


def cluster(*gpus, cpus=8, draining=()):
    """A node for each number of GPUs."""
    return [Node(f"node-{i}", cpus, float(n), is_draining=i in draining) for i, n in enumerate(gpus)]


@pytest.mark.parametrize(
    "gpus, solvers, share",
    [((0,), 1, 0), ((1,), 1, 0.6), ((2,), 1, 1), ((1, 1), 1, 1), ((8,), 7, 1), ((0, 4, 4), 7, 1)],
)
def test_each_gpu_gets_a_solver_and_one_the_verifier(gpus, solvers, share):
    placement = place(cluster(*gpus))
    assert (placement.num_solvers, placement.solver_gpus) == (solvers, share)
    assert placement.device == ("cuda" if share else "cpu")


@pytest.mark.parametrize(
    "gpus, share, room",
    [((1,), 0.6, 1), ((1, 1), 0.6, 2), ((1, 1, 1), 0.3, 8), ((), 1, 0), ((3, 1), 1, 3)],
)
def test_room_is_counted_by_whole_gpus_of_a_node(gpus, share, room):
    placement = place(cluster(1, 1, 1), solver_gpus=share, is_fixed=False)
    small = place(cluster(1), solver_gpus=share, is_fixed=False)
    assert room_for_solvers(cluster(*gpus), small if share < 1 else placement) == room


def test_more_solvers_than_gpus_are_refused_where_the_cluster_is_fixed_and_wait_where_it_is_not():
    with pytest.raises(UserError, match="--solvers 4 x --solver-gpus 1 and 1 for the verifier: the cluster has 2 GPUs"):
        place(cluster(2), num_solvers=4)
    assert place(cluster(2), num_solvers=4, is_fixed=False).num_solvers == 4


def test_a_solver_is_given_no_second_card_that_it_would_leave_idle():
    with pytest.raises(UserError, match="--solver-gpus 2: a solver computes on one card, so a second would lie idle"):
        place(cluster(8), solver_gpus=2)


@pytest.mark.parametrize(
    ("gpus", "asked", "company"),
    [
        ((0,), {}, [(1, True)]),
        ((0, 0), {"num_solvers": 5}, [(3, True)]),
        ((1,), {}, [(1, True)]),
        ((1,), {"solver_gpus": 0.3}, [(2, True)]),
        ((2,), {}, [(0, True), (1, False)]),
        ((2,), {"solver_gpus": 0.5}, [(0, True), (2, False)]),
        ((8,), {}, [(0, True), (1, False)]),
    ],
)
def test_who_shares_a_card_follows_from_the_shares(gpus, asked, company):
    assert place(cluster(*gpus), **asked).company(len(gpus)) == company


def test_a_judge_has_its_card_for_itself():
    assert place_judge(1).company(1) == place_judge(0).company(1) == [(0, True)]


def test_what_a_solver_is_told_of_its_room_has_a_bound_on_a_card_alone():
    found = {"table_positions": 1000, "solver_bytes": 10**9, "served_length": 256}
    assert replace(place(cluster(1)), **found).solver_room.num_bytes == 10**9
    assert replace(place(cluster(0)), **found).solver_room.num_bytes == 0
    assert replace(place(cluster(0)), **found).solver_room.served_length == 256


def test_a_gpu_share_is_waited_for_where_no_gpu_is_up_yet():
    with pytest.raises(UserError, match="the cluster has 0 GPUs"):
        place(cluster(0), solver_gpus=1)
    placement = place(cluster(0), solver_gpus=1, is_fixed=False)
    assert (placement.device, placement.num_solvers) == ("cuda", 1)


def test_cpu_solvers_are_spread_over_the_nodes_that_have_processors_and_share_them():
    nodes = [Node("head", 0, 0, False), *cluster(0, 0, 0, draining=[1])]
    seats = [seat(index, 3, nodes) for index in range(3)]
    assert [s.node_id for s in seats] == ["node-0", "node-2", "node-0"]
    assert [s.num_threads for s in seats] == [4, 8, 4]


@pytest.mark.parametrize(
    ("gpus", "asked", "expected"),
    [
        ((0,), {"num_cpu_solvers": 3}, 3),
        ((0,), {"num_cpu_solvers": 0}, 1),
        ((0,), {"num_cpu_solvers": 3, "num_solvers": 2}, 2),
        ((2,), {"num_cpu_solvers": 3, "solver_gpus": 0}, 3),
        ((2,), {"num_cpu_solvers": 3}, 1),
    ],
)
def test_a_command_says_how_many_solvers_it_takes_without_gpus(gpus, asked, expected):
    assert place(cluster(*gpus), **asked).num_solvers == expected


def test_a_seat_has_a_thread_where_no_processor_is_offered():
    assert seat(0, 1, [Node("head", 0, 0, False)]).num_threads == 1


def test_work_is_shared_by_what_was_measured():
    pace = Pace()
    assert pace.share("a", ["a", "b"]) == 0.5, "nobody is measured yet"
    pace.measure("a", 900, 1)
    assert pace.share("a", ["a", "b"]) == 0.5, "who is not measured is like the others"
    pace.measure("b", 100, 1)
    assert pace.share("a", ["a", "b"]) == pytest.approx(0.9)
    assert sum(pace.share(name, "abc") for name in "abc") == pytest.approx(1)
    pace.measure("b", 0, 1)
    pace.forget("a")
    assert pace.share("b", ["b"]) == 1 and pace.share("a", ["a", "b"]) == 0.5
