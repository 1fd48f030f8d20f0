"""How fast blobs move over CURVE on this machine, beside the bare socket in the same run.

    python benchmarks/blob_transfer.py [--blobs 32] [--mib 8]

The bare line sends the same chunks between two sockets of the same kind and throws them away: what the library costs
on top is hashing, the disk and the answers.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

import zmq

from discogrid import transport
from discogrid.blobs import BlobStore, digest_of
from discogrid.transfer import BlobClient, BlobServer
from discogrid.transfer.chunks import CHUNK_BYTES
from discogrid.types import MIB, Digest

Context = zmq.Context[zmq.Socket[bytes]]


KNOWN: set[bytes] = set()


def new_keys() -> transport.CurveKeys:
    """A fresh CURVE key pair, which the doorkeeper knows."""
    keys = transport.CurveKeys(*zmq.curve_keypair())
    KNOWN.add(keys.public)
    return keys


async def bare(context: Context, doorkeeper: transport.Doorkeeper, total: int) -> float:
    """Seconds for `total` bytes in chunks from one socket to another, 16 on their way at most."""
    server_keys, done, got = new_keys(), asyncio.get_running_loop().create_future(), 0
    chunk = os.urandom(CHUNK_BYTES)

    def on_request(batch: list[transport.Delivery]) -> None:
        for delivery in batch:
            server.send([b"header", chunk], delivery.route)

    def on_chunk(batch: list[transport.Delivery]) -> None:
        nonlocal got
        for delivery in batch:
            got += len(delivery.frames[1])
            client.send([b"more"])
        if got >= total and not done.done():
            done.set_result(None)

    limit = transport.BLOB_FRAME_BYTES_MAX
    server = transport.listen(
        context, "tcp://127.0.0.1:0", server_keys, doorkeeper, on_request, frame_bytes_max=limit
    )
    client = transport.dial(
        context, server.endpoint, new_keys(), server_keys.public, on_chunk, frame_bytes_max=limit
    )
    client.send([b"hello"])
    await asyncio.sleep(0.2)
    got, started = 0, time.perf_counter()
    for _ in range(15):
        client.send([b"more"])
    await done
    seconds = time.perf_counter() - started
    client.close(linger_ms=0)
    server.close(linger_ms=0)
    return seconds


async def measure(blobs: int, blob_bytes: int, small: int) -> None:
    """Print one line for each way."""
    context: Context = transport.new_context()
    doorkeeper = transport.Doorkeeper(context, lambda key: key.decode() if key in KNOWN else None)
    total = blobs * blob_bytes
    with tempfile.TemporaryDirectory() as folder:
        contents = [os.urandom(blob_bytes) for _ in range(blobs)]
        files: list[tuple[Path, Digest, int]] = []
        for number, content in enumerate(contents):
            path = Path(folder) / f"{number}.bin"
            path.write_bytes(content)
            files.append((path, digest_of(content), len(content)))
        keys = new_keys()
        limit = transport.BLOB_FRAME_BYTES_MAX
        server = BlobServer(
            lambda take: transport.listen(
                context, "tcp://127.0.0.1:0", keys, doorkeeper, take, frame_bytes_max=limit
            ),
            BlobStore(Path(folder) / "server"),
            may_read=lambda _peer, _digest: True,
            may_write=lambda _peer, _digest, _size: True,
        )
        client = BlobClient(
            lambda take: transport.dial(
                context, server.endpoint, new_keys(), keys.public, take, frame_bytes_max=limit
            ),
            BlobStore(Path(folder) / "client"),
        )
        await client.put(b"warm", digest_of(b"warm"), 4)

        async def timed(name: str, moves: list[object]) -> None:
            started, used = time.perf_counter(), time.process_time()
            await asyncio.gather(*moves)  # type: ignore[call-overload]
            seconds, cpu = time.perf_counter() - started, time.process_time() - used
            print(f"{name:28} {total / MIB / seconds:7.0f} MiB/s   {seconds:6.3f} s, {cpu:6.3f} s CPU")

        used = time.process_time()
        seconds = await bare(context, doorkeeper, total)
        used = time.process_time() - used
        print(f"{'bare socket':28} {total / MIB / seconds:7.0f} MiB/s   {seconds:6.3f} s, {used:6.3f} s CPU")
        await timed(f"put {blobs} x {blob_bytes / MIB:g} MiB", [client.put(*file) for file in files])
        await timed(
            f"get {blobs} x {blob_bytes / MIB:g} MiB", [client.get(digest, size) for _, digest, size in files]
        )
        tiny = [b"%d" % number * 100 for number in range(small)]
        started = time.perf_counter()
        await asyncio.gather(*(client.put(content, digest_of(content), len(content)) for content in tiny))
        middle = time.perf_counter()
        await asyncio.gather(*(client.get(digest_of(content), len(content)) for content in tiny))
        ended = time.perf_counter()
        print(f"put {small} small blobs: {(middle - started) / small * 1e3:.2f} ms each")
        print(f"get {small} small blobs: {(ended - middle) / small * 1e3:.2f} ms each")
        client.close()
        server.close()
    doorkeeper.close()
    context.destroy(linger=0)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blobs", type=int, default=32)
    parser.add_argument("--mib", type=int, default=8, help="size of each blob")
    parser.add_argument("--small", type=int, default=1000, help="how many small blobs")
    options = parser.parse_args()
    asyncio.run(measure(options.blobs, options.mib * MIB, options.small))


if __name__ == "__main__":
    main()
