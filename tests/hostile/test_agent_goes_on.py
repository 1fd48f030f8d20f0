"""What one task or message does to an agent, the next one does not notice."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from discogrid.messages import CancelTasks, FollowLogs
from discogrid.types import Limits, Outcome
from discogrid_agent import service as service_module
from discogrid_agent.live_logs import LiveLogs
from discogrid_agent.log_feed import LOG_BURST_BYTES, LOG_BYTES_S_MAX
from discogrid_agent.runner import Runner
from tests.hostile.false_coordinator import CountingBox, FalseCoordinator

HARMLESS = b"(['a.txt', 'argument'], 'alpha')"


async def test_an_attempt_that_breaks_the_runner_gives_its_slot_back(
    thief: FalseCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("a bug")

    parcel = thief.parcel()
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "run", broken)
        await thief.offer(parcel)
        await thief.assign(parcel, parcel.run(0, 3))  # on two slots
        for index in range(3):
            done, _, _ = await thief.ended(parcel.run(index, index + 1))
            assert done.outcome is Outcome.BOX_FAILED
            assert "a bug" in done.reason
    assert await thief.twin() == HARMLESS


async def test_a_result_too_large_to_be_signed_is_a_limit_and_not_a_silence(
    thief: FalseCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = len((await thief.ended_twin())[1]) - 1
    monkeypatch.setattr(service_module, "ENVELOPE_BYTES_MAX", bound)
    done, envelope, _ = await thief.ended_twin()
    assert done.outcome is Outcome.LIMIT_EXCEEDED
    assert "too long to be signed" in done.reason
    assert not done.retryable
    assert 0 < len(envelope) <= bound


async def test_a_message_that_meets_a_bug_takes_no_other_with_it(
    thief: FalseCoordinator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(LiveLogs, "follow", broken)
    parcel = thief.parcel(["a.txt"])
    await thief.send(FollowLogs(attempt=parcel.run(0, 1).attempts()[0]))
    assert await thief.twin() == HARMLESS
    assert "a bug" in caplog.text


@pytest.mark.parametrize(
    ("limits", "outcome"),
    [
        (Limits(seconds=0.3), Outcome.LIMIT_EXCEEDED),
        (Limits(output_bytes=1), Outcome.LIMIT_EXCEEDED),
        (Limits(output_files=0), Outcome.LIMIT_EXCEEDED),
    ],
    ids=["time", "bytes", "files"],
)
async def test_a_task_over_its_limit_is_signed_as_that_and_the_next_one_runs(
    thief: FalseCoordinator, box: CountingBox, limits: Limits, outcome: Outcome
) -> None:
    slow = thief.put(b"import time; open('run-result/x', 'w').write('xx'); time.sleep(3600)", "canary.py")
    other: dict[str, Any] = {"script": slow} if limits.seconds < 1 else {}
    parcel = thief.parcel(["a.txt"], limits=limits, **other)
    await thief.offer(parcel)
    await thief.assign(parcel, parcel.run(0, 1))
    assert (await thief.ended(parcel.run(0, 1)))[0].outcome is outcome
    assert await thief.twin() == HARMLESS
    assert len(box.started) == 2


# Tasks that print without end.


async def followed(thief: FalseCoordinator, script: bytes, enough: Callable[[bytes], bool]) -> bytes:
    """What the thief is sent of a task's stdout, until it is enough; then the task is called off."""
    parcel = thief.parcel(["a.txt"], script=thief.put(script, "canary.py"), nonce=script[:16])
    [attempt] = parcel.run(0, 1).attempts()
    await thief.offer(parcel)
    await thief.send(FollowLogs(attempt=attempt))
    await thief.assign(parcel, parcel.run(0, 1))
    await thief.until(lambda: enough(thief.logs[attempt, "stdout"]))
    text = thief.logs[attempt, "stdout"]
    await thief.send(CancelTasks(runs=(parcel.run(0, 1),)))
    assert await thief.twin() == HARMLESS
    return text


async def test_a_task_that_prints_without_end_gets_its_rate_of_the_line_and_no_more(
    thief: FalseCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    script = b"import os\nwhile True: os.write(1, b'y' * 65536)\n"
    began = time.monotonic()
    text = await followed(thief, script, lambda sent: len(sent) > LOG_BURST_BYTES + LOG_BYTES_S_MAX // 2)
    took_s = time.monotonic() - began
    assert took_s > 0.4
    assert len(text) < LOG_BURST_BYTES + LOG_BYTES_S_MAX * took_s
    assert caplog.text.count("are left out for who follows it") == 1


async def test_an_ordinary_log_arrives_whole_while_the_task_runs(
    thief: FalseCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    script = b"import time\nfor n in range(20_000): print(n)\nprint('end', flush=True)\ntime.sleep(60)\n"
    text = await followed(thief, script, lambda sent: sent.endswith(b"end\n"))
    assert text == b"".join(b"%d\n" % number for number in range(20_000)) + b"end\n"
    assert "left out" not in caplog.text
