"""`python -m cyxwiz.compute.kernels.child [FD]`: the process that runs one caller's tensor operations.

Like the child of a job it confines itself before anything else, and ends at once when its channel closes. It runs one
request after the other; each is answered.
"""

from __future__ import annotations

import os
import queue
import socket
import sys
import threading
import traceback

from cyxwiz.compute.child import die, take_channel
from cyxwiz.compute.child_protocol import CHANNEL_FD, Frame, ProtocolError
from cyxwiz.compute.kernels import frames
from cyxwiz.compute.kernels.kernel import SECTION
from cyxwiz.compute.sandbox.confine import confine, limit_memory
from cyxwiz.domain.errors import Code, CyxError

_MAX_BODY = 1 << 40  # the node has its own bound on what it sends


def main(arguments: list[str]) -> None:
    confine()
    channel = take_channel(int(arguments[0]) if arguments else CHANNEL_FD)
    inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
    threading.Thread(target=_watch, args=(channel, inbox), name="watch", daemon=True).start()
    terms = inbox.get()
    os.environ["OMP_NUM_THREADS"] = str(terms["threads"])  # before NumPy is loaded
    if terms["memory_bytes"] is not None:
        limit_memory(terms["memory_bytes"])
    room = int(terms["room_bytes"])
    from cyxwiz.compute.kernels import run

    while True:
        frame = inbox.get()
        try:
            answer = frames.encode_done(run.run(frames.decode_run(frame), room))
        except CyxError as error:
            answer = frames.encode_failed(error)
        except Exception as error:
            traceback.print_exc()
            answer = frames.encode_failed(_failure(error))
        del frame
        for part in answer:
            channel.sendall(part)


def _failure(error: Exception) -> CyxError:
    text = str(error)
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in text:
        message = (
            f"The operations need more memory than they may take ({SECTION}.memory_bytes of this node): "
            "send smaller tensors."
        )
        return CyxError(Code.EXHAUSTED, message, retryable=False)
    return CyxError(Code.INTERNAL, f"The operation failed: {type(error).__name__}: {text[:500]}")


def _watch(channel: socket.socket, inbox: queue.SimpleQueue[Frame]) -> None:
    try:
        while (frame := frames.read_frame(channel, _MAX_BODY)) is not None:
            inbox.put(frame)
    except (OSError, ProtocolError, MemoryError):
        traceback.print_exc()
    die()


if __name__ == "__main__":
    main(sys.argv[1:])
