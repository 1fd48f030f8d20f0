"""The timer for a machine's deadline: it rings when that is due, however it was moved before."""

import asyncio

from discogrid.alarm import Alarm

FAR_S = 3600.0


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_a_deadline_that_comes_nearer_is_the_one_that_counts() -> None:
    rung: list[None] = []
    alarm = Alarm(lambda: rung.append(None))
    now = asyncio.get_running_loop().time()
    alarm.set(now + FAR_S)
    alarm.set(now)
    await turns()
    assert rung == [None]


async def test_a_deadline_that_is_put_off_is_rung_for_once_and_may_be_set_anew() -> None:
    rung: list[None] = []
    alarm = Alarm(lambda: rung.append(None))
    now = asyncio.get_running_loop().time()
    alarm.set(now)
    alarm.set(now + FAR_S)
    alarm.set(None)
    await turns()
    assert rung == [None]
    alarm.set(now)
    await turns()
    assert rung == [None, None]


async def test_what_was_cancelled_does_not_ring() -> None:
    rung: list[None] = []
    alarm = Alarm(lambda: rung.append(None))
    alarm.set(asyncio.get_running_loop().time())
    alarm.cancel()
    await turns()
    assert not rung
