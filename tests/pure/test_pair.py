"""Scheduler and agents over a bad network, played by seeds: longer games than Hypothesis affords."""

from random import Random

import pytest

from discogrid_agent.events import StopMode
from tests.pure.test_pair_rules import NAMES, PairRules

MOVES = ["submit", "up", "up", "down", "down", "meddle", "cut", "crash", "stop", "work", "work", "wait"]


@pytest.mark.parametrize("first", range(0, 120, 20))
def test_every_job_ends_whatever_the_network_did(first: int) -> None:
    for seed in range(first, first + 20):
        random = Random(seed)
        game = PairRules()
        for _ in range(80):
            move(game, random)
        game.teardown()


def move(game: PairRules, random: Random) -> None:
    name = random.choice(NAMES)
    match random.choice(MOVES):
        case "submit":
            game.submit(
                tasks=random.randint(1, 6), cpus=random.choice([1, 2]), gigabytes=random.choice([0, 5])
            )
        case "up":
            game.deliver_up(count=random.randint(1, 10))
        case "down":
            game.deliver_down(name=name, count=random.randint(1, 10))
        case "meddle":
            for queue in (game.up, game.down[name]):
                if queue and random.random() < 0.5:
                    queue.append(random.choice(list(queue)))  # type: ignore[arg-type]  # of the queue's own kind
                elif queue:
                    del queue[random.randrange(len(queue))]
        case "cut":
            game.cut(name=name)
        case "crash":
            game.crash(name=name, sure=random.randint(0, 3))
        case "stop":
            game.stop(name=name, mode=random.choice(list(StopMode)), sure=random.randint(0, 3))
        case "work":
            game.work(name=name, luck=random.randint(0, 9))
        case _:
            game.wait(seconds=random.choice([0.3, 2.0, 2.0, 11.0, 16.0]))
