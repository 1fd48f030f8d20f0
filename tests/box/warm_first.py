"""A warm box that makes ready before it starts, so that already the first task of a kind starts warm."""

import asyncio
import os
from dataclasses import replace

from discogrid.errors import SandboxError
from discogrid_agent.sandbox.box import Boxed, BoxEnd, Scene
from discogrid_agent.warm.warm_box import WarmBox


class WarmFirst(WarmBox):
    """See Box."""

    def start(self, scene: Scene) -> "Later":
        self._cold.check_mounts(scene)
        return Later(self, replace(scene, stdout=os.dup(scene.stdout), stderr=os.dup(scene.stderr)))

    def start_now(self, scene: Scene) -> Boxed:
        return super().start(scene)


class Later:
    """See Boxed: a task that starts a moment later."""

    def __init__(self, box: WarmFirst, scene: Scene) -> None:
        self.ended: asyncio.Future[BoxEnd] = asyncio.get_running_loop().create_future()
        self._boxed: Boxed | None = None
        self._killed = False
        self._task = asyncio.ensure_future(self._run(box, scene))

    async def _run(self, box: WarmFirst, scene: Scene) -> None:
        try:
            await box.prepare(scene)
            self._boxed = box.start_now(scene)
        except SandboxError:
            self.ended.set_result(BoxEnd(ran=False, exit=None, seconds=0.0))
            return
        finally:
            os.close(scene.stdout)
            os.close(scene.stderr)
        if self._killed:
            self._boxed.kill()
        self.ended.set_result(await self._boxed.ended)

    def processes(self) -> list[int]:
        return self._boxed.processes() if self._boxed else []

    def shared_bytes(self) -> int:
        return self._boxed.shared_bytes() if self._boxed else 0

    def kill(self) -> None:
        self._killed = True
        if self._boxed is not None:
            self._boxed.kill()
