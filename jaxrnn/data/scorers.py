"""Rewards of molecules by several processes, because RDKit keeps Python's lock: threads would take turns.

``python -m jaxrnn.data.scorers qed`` answers each line of SMILES with a line of JSON, their scores by SMILES.
"""

import atexit
import contextlib
import functools
import json
import subprocess
import sys
import zlib
from collections.abc import Sequence

from jaxrnn.data.molecule_scores import score

_FEWEST = 50
"""Molecules for which another process pays."""


def score_all(smiles: Sequence[str], reward: str, processes: int) -> list[float]:
    """`molecule_scores.score` of each molecule, by this process and at most ``processes - 1`` others.

    The others start when they are first needed, and end with this process, however it ends.
    """
    others = [start(reward, number) for number in range(min(processes, len(smiles) // _FEWEST) - 1)]
    parts: list[list[str]] = [[] for _ in range(len(others) + 1)]
    for text in smiles:  # The same molecule always goes to the same process, which remembers its score.
        parts[zlib.crc32(text.encode()) % len(parts)].append(text)
    for other, part in zip(others, parts[1:], strict=True):
        assert other.stdin
        with contextlib.suppress(OSError):
            other.stdin.write(" ".join(part) + "\n")
            other.stdin.flush()
    found = {text: score(text, reward) for text in parts[0]}
    for other in others:
        assert other.stdout
        found |= json.loads(other.stdout.readline() or "{}")
    # A process that was killed has no answer.
    return [found[text] if text in found else score(text, reward) for text in smiles]


@functools.cache
def start(reward: str, number: int) -> subprocess.Popen[str]:
    """A process that scores molecules, the same one for the same arguments."""
    del number
    command = [sys.executable, "-m", __name__, reward]
    # In a session of its own: a signal to stop is for the training, which first ends its batch.
    found = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    atexit.register(found.communicate)  # It closes the input, and so ends the process.
    return found


def main(reward: str) -> None:
    """Answers lines until there are no more."""
    for line in sys.stdin:
        try:
            found = {text: score(text, reward) for text in line.split()}
        except ValueError:  # The process that asks will find it too, and say where.
            found = {}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1])
