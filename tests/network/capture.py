"""Writes every frame that passes an interface to a file, its length before it, until it is told to end."""

import signal
import socket
import struct
import sys
from pathlib import Path

EVERYTHING = 0x0003
FRAME_BYTES_MAX = 1 << 16


def main() -> None:
    interface, kept = sys.argv[1:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING)) as packets:
        packets.bind((interface, EVERYTHING))
        with Path(kept).open("wb", buffering=0) as file:
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
            print("listening", flush=True)
            while True:
                frame = packets.recv(FRAME_BYTES_MAX)
                file.write(struct.pack("=I", len(frame)) + frame)


main()
