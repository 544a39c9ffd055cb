"""TensorBoard events, read as TensorBoard would: records with their lengths, and protocol buffers."""

import struct

from tensorboardX.proto.event_pb2 import Event


def scalars(folder):
    """``{run: {metric: [(step, value), ...]}}`` in the order of the files."""
    found = {}
    for file in sorted(folder.rglob("events.out.*")):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event, content = Event.FromString(content[12 : 12 + length]), content[16 + length :]
            for value in event.summary.value:
                run = found.setdefault(str(file.parent.relative_to(folder)), {})
                run.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found
