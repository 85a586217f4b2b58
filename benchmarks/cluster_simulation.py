"""Stragglers and lost nodes: how long a cluster takes for many shards, simulated, beside the arithmetic of the docs.

What is simulated is how `headstart.scale.ray_pool` works: a shard is a task on one CPU; the process that was started
hands tasks out one after the other; a shard whose node is lost begins again, at the end of the queue, on any CPU that
is free; a node that was lost is there again later. Nothing is timed: the figures follow from the seed.
"""

from __future__ import annotations

import argparse
import heapq
import math
from collections import deque
from dataclasses import dataclass, field, replace
from random import Random

from common import print_table

TRIES = 3  # of a shard, before it is searched for an image that ends processes
HOUR = 3600.0


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        shards: Number of tasks.
        seconds: Mean time of a task on one CPU of a node that is not slow.
        spread: Standard deviation of the logarithm of that time; 0 where all take the same.
        hand_out_seconds: What each task takes of the process that hands them out.
    """

    shards: int
    seconds: float
    spread: float = 0.0
    hand_out_seconds: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """What does it.

    Attributes:
        nodes: Number of machines.
        cpus: Tasks at once on each.
        slow_share: Share of nodes that are slow (rounded to whole nodes).
        slow_factor: How much longer a task takes on them.
        lost_per_hour: How often a node is lost, in an hour; a Poisson process of each.
        back_seconds: Until a node that was lost is there again.
    """

    nodes: int
    cpus: int = 1
    slow_share: float = 0.0
    slow_factor: float = 1.0
    lost_per_hour: float = 0.0
    back_seconds: float = 120.0


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        seconds: Until the last shard was written.
        useful_seconds: CPU time of the tries that gave a shard.
        wasted_seconds: CPU time of the tries that were lost with their node.
        tail_seconds: From the moment when no shard was left to hand out, to the end.
        lost_nodes: How often a node was lost.
        searched: Shards that were lost as often as they may be tried, which would then be searched by bisection.
    """

    seconds: float
    useful_seconds: float
    wasted_seconds: float
    tail_seconds: float
    lost_nodes: int
    searched: int


@dataclass
class _Node:
    """A machine: how slow it is, and the tries that run on it, by their CPU."""

    slow: float
    running: dict[int, tuple[int, float]] = field(default_factory=dict)  # CPU: number of the try, when it began


class _Run:
    """One simulation; see `simulate`."""

    def __init__(self, work: Work, cluster: Cluster, seed: int) -> None:
        self.work, self.cluster, self.random = work, cluster, Random(seed)
        slow = round(cluster.slow_share * cluster.nodes)
        self.nodes = [_Node(cluster.slow_factor if number < slow else 1.0) for number in range(cluster.nodes)]
        self.random.shuffle(self.nodes)
        self.events: list[tuple[float, int, str, int, int]] = []  # time, order, what, node, CPU or try
        self.order = 0
        self.free = deque((node, cpu) for cpu in range(cluster.cpus) for node in range(cluster.nodes))
        self.waiting = deque(range(work.shards))
        self.tries = [0] * work.shards
        self.shard_of: dict[int, int] = {}  # of a try that runs
        self.driver_free = 0.0
        self.done = self.begun = self.lost = 0
        self.useful = self.wasted = self.none_left_at = 0.0

    def finish(self) -> Outcome:
        """Play all events until each shard is done."""
        if self.cluster.lost_per_hour:
            for node in range(self.cluster.nodes):
                self._at(self._next_loss(), "loss", node, 0)
        now = 0.0
        self._hand_out(now)
        while self.done < self.work.shards:
            now, _, what, node, which = heapq.heappop(self.events)
            if what == "end":
                self._end(now, node, which)
            elif what == "loss":
                self._lose(now, node)
            else:
                self.free.extend((node, cpu) for cpu in range(self.cluster.cpus))
                self._at(now + self._next_loss(), "loss", node, 0)
            self._hand_out(now)
        searched = sum(count > TRIES for count in self.tries)
        return Outcome(now, self.useful, self.wasted, now - self.none_left_at, self.lost, searched)

    def _at(self, time: float, what: str, node: int, which: int) -> None:
        self.order += 1
        heapq.heappush(self.events, (time, self.order, what, node, which))

    def _next_loss(self) -> float:
        return self.random.expovariate(self.cluster.lost_per_hour / HOUR)

    def _hand_out(self, now: float) -> None:
        while self.waiting and self.free:
            number, cpu = self.free.popleft()
            node, shard = self.nodes[number], self.waiting.popleft()
            self.driver_free = max(now, self.driver_free) + self.work.hand_out_seconds
            self.tries[shard] += 1
            self.begun += 1
            self.shard_of[self.begun] = shard
            node.running[cpu] = (self.begun, self.driver_free)
            took = self.work.seconds * node.slow
            if self.work.spread:  # whose mean is 1
                took *= self.random.lognormvariate(-(self.work.spread**2) / 2, self.work.spread)
            self._at(self.driver_free + took, "end", number, self.begun)
            if not self.waiting:
                self.none_left_at = self.driver_free

    def _end(self, now: float, number: int, attempt: int) -> None:
        if attempt not in self.shard_of:
            return  # lost with its node before
        node = self.nodes[number]
        cpu, began = next((cpu, began) for cpu, (one, began) in node.running.items() if one == attempt)
        del node.running[cpu], self.shard_of[attempt]
        self.useful += now - began
        self.done += 1
        self.free.append((number, cpu))

    def _lose(self, now: float, number: int) -> None:
        node = self.nodes[number]
        self.free = deque(one for one in self.free if one[0] != number)
        self.lost += 1
        for attempt, began in node.running.values():
            self.wasted += max(0.0, now - began)
            self.waiting.append(self.shard_of.pop(attempt))
        node.running.clear()
        self._at(now + self.cluster.back_seconds, "back", number, 0)


def simulate(work: Work, cluster: Cluster, seed: int = 0) -> Outcome:
    """How long a cluster takes, with chance as the seed has it.

    Args:
        work: Shards, at least one.
        cluster: Nodes, at least one.
        seed: Of all that is left to chance.
    """
    return _Run(work, cluster, seed).finish()


def expected_seconds(work: Work, cluster: Cluster) -> float:
    """The arithmetic: work over speed, or what handing out takes if that is more, and the wait for the last shard.

    A node that is lost takes half a shard of each of its CPUs with it, and its time until it is back. When no shard is
    left to hand out, half of one is left to each CPU on average, and the whole of the longest to one of them, which is
    too much where some nodes are far slower: their last shard began before.
    """
    slow = round(cluster.slow_share * cluster.nodes)
    speed = cluster.cpus * (cluster.nodes - slow + slow / cluster.slow_factor)
    rate = cluster.lost_per_hour / HOUR
    share_there = 1 / (1 + rate * cluster.back_seconds)
    share_kept = 1 - rate * work.seconds / 2
    bound = max(work.seconds / (speed * share_there * share_kept), work.hand_out_seconds)
    last = (slow or cluster.nodes) * cluster.cpus
    longest = work.seconds * (cluster.slow_factor if slow else 1.0) * math.exp(work.spread * largest_of(last))
    return work.shards * bound + longest - work.seconds / 2


def largest_of(count: int) -> float:
    """About the largest of so many standard normal numbers (Cramér 1946, 28.6)."""
    if count < 3:
        return 0.5 * (count - 1)
    root = math.sqrt(2 * math.log(count))
    return root - (math.log(math.log(count)) + math.log(4 * math.pi)) / (2 * root)


# Ten million images in shards of 512, at 12 ms of CPU time each and 2.6 ms for each shard: see docs/scale.md.
TEN_MILLION = Work(19_532, 6.1, 0.3, 0.0026)
CASES = {
    "all the same": (replace(TEN_MILLION, spread=0.0), Cluster(64, 16)),
    "times that vary (spread 0.3)": (TEN_MILLION, Cluster(64, 16)),
    "one node of ten takes twice as long": (TEN_MILLION, Cluster(64, 16, 0.1, 2.0)),
    "one node of ten takes ten times as long": (TEN_MILLION, Cluster(64, 16, 0.1, 10.0)),
    "a node is lost every 10 hours": (TEN_MILLION, Cluster(64, 16, lost_per_hour=0.1)),
    "a node is lost every 15 minutes": (TEN_MILLION, Cluster(64, 16, lost_per_hour=4.0)),
}


def main() -> None:
    """Print a table of cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=TEN_MILLION.seconds, help="of a shard, on one CPU")
    parser.add_argument("--shards", type=int, default=TEN_MILLION.shards, help="512 images each: ten million images")
    parser.add_argument(
        "--hand-out-ms",
        type=float,
        default=1000 * TEN_MILLION.hand_out_seconds,
        help="of the one process that hands shards out",
    )
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    rows = []
    for name, (work, cluster) in CASES.items():
        given = replace(work, seconds=chosen.seconds, shards=chosen.shards, hand_out_seconds=chosen.hand_out_ms / 1000)
        found = simulate(given, cluster, chosen.seed)
        wasted = found.wasted_seconds / (found.useful_seconds + found.wasted_seconds)
        rows.append((
            name, f"{found.seconds:.0f}", f"{expected_seconds(given, cluster):.0f}", f"{100 * wasted:.2f} %",
            f"{found.tail_seconds:.0f}", f"{found.lost_nodes}", f"{found.searched}",
        ))  # fmt: skip
    header = ("64 nodes of 16 CPUs", "seconds", "by arithmetic", "CPU time wasted", "tail s", "nodes lost", "searched")
    print_table(header, rows)


if __name__ == "__main__":
    main()
