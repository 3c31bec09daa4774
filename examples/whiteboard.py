"""Two processes draw on one whiteboard, a workspace: `python examples/whiteboard.py [url]`, while the server runs.

Each is a client of its own. Both hear every stroke in one order, as deltas, and so end with the same picture.
"""

import random
import subprocess
import sys
from pathlib import Path
from typing import Any

# A checkout is not installed; with `pip install 'mintflow-realtime[server]'` this line goes.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import jsonpatch  # noqa: E402

from mintflow_realtime.errors import RealtimeError  # noqa: E402
from mintflow_realtime.testing import RealtimeClient  # noqa: E402

NAMESPACE = "/workspaces"
BOARD = "whiteboard"
WIDTH, HEIGHT, STROKES = 24, 6, 8
SEED = {"Ann": 1, "Bob": 2}


class Artist:
    """One client: `state` is the board as the deltas so far have made it."""

    def __init__(self, url: str, name: str, mark: str) -> None:
        self.name, self.mark = name, mark
        self.client = RealtimeClient(url, NAMESPACE)
        joined = self.ask("join_workspace", userId=name.lower(), userName=name, deltas=True)["workspace"]
        self.state, self.version = joined["state"], joined["version"]

    def ask(self, command: str, **payload: Any) -> Any:
        try:
            return self.client.call(command, {"workspaceId": BOARD, **payload})
        except RealtimeError as error:
            raise SystemExit(f"{command}: {error.message}") from None

    def draw(self, column: int, row: int) -> int:
        """Put this artist's mark on a cell nobody has painted, or over the other's; return the version."""
        patch = [{"op": "add", "path": f"/{column},{row}", "value": self.mark}]
        return int(self.ask("update_workspace", patch=patch)["version"])

    def follow(self, version: int) -> None:
        """Take in the strokes, each as it comes, until the board is at `version`."""
        while self.version < version:
            delta = self.client.wait_for("workspace_updated", 10, lambda event: event["version"] == self.version + 1)
            self.state = jsonpatch.apply_patch(self.state, delta["patch"])
            self.version = delta["version"]

    def picture(self) -> str:
        rows = ("".join(self.state.get(f"{column},{row}", ".") for column in range(WIDTH)) for row in range(HEIGHT))
        return "\n".join(rows)


def paint(url: str, name: str, mark: str, until: int) -> None:
    """Draw some strokes, wait for the board's version `until`, and print what this process sees then."""
    artist, chance = Artist(url, name, mark), random.Random(SEED[name])
    for _ in range(STROKES):
        artist.draw(chance.randrange(WIDTH), chance.randrange(HEIGHT))
    artist.follow(until)
    print(f"{name} sees version {artist.version - (until - 2 * STROKES)}:\n{artist.picture()}", flush=True)
    artist.client.close()


def main() -> int:
    """Wipe the board, let both draw at once, and compare what they see; return 0 where it is the same."""
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000"
    wiper = Artist(url, "Ann", " ")
    version = wiper.ask("update_workspace", state={}, partial=False)["version"]
    command = [sys.executable, __file__, url]
    artists = [
        subprocess.Popen([*command, name, mark, str(version + 2 * STROKES)], stdout=subprocess.PIPE, text=True)
        for name, mark in (("Ann", "a"), ("Bob", "b"))
    ]
    seen = [artist.communicate(timeout=60)[0] for artist in artists]
    wiper.client.close()
    print("".join(seen), end="")
    same = len({text.partition("\n")[2] for text in seen}) == 1
    print("Both see the same." if same else "They differ.")
    return 0 if same else 1


if __name__ == "__main__":
    if len(sys.argv) == 5:
        url, user, colour = sys.argv[1:4]
        paint(url, user, colour, until=int(sys.argv[4]))
    else:
        raise SystemExit(main())
