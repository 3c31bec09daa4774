"""A flow with four steps on real files, published as it runs: `python examples/run_flow.py [folder] [--fail]`.

It counts the words of a folder's text files, packs them, takes their checksums, and compares the archive with those.
Run it from the project's folder while the server runs there; any process may publish so, with `Emitter` alone.
"""

import argparse
import collections
import hashlib
import re
import secrets
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mintflow_realtime.emitter import Emitter
from mintflow_realtime.protocol.errors import RealtimeError

ROOT = Path(__file__).resolve().parent.parent
TENANT, FLOW = "default", "wordcount"
SUFFIXES = {".py", ".lua", ".md", ".mjs", ".toml", ".txt"}
SKIPPED = {".git", ".venv", "node_modules", "data"}


class Run:
    """One run of the flow: what each step does, and what it says meanwhile."""

    def __init__(self, emit: Emitter, folder: Path, work: Path, pause: float, fail: bool) -> None:
        self.id = time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(2)
        self._emit, self._folder, self._archive = emit, folder, work / "texts.tar.gz"
        self._pause, self._fail = pause, fail
        self._node = ""
        self._files: list[Path] = []
        self._sums: dict[str, str] = {}

    def perform(self) -> bool:
        """Run the steps in order, up to the first that fails; return whether all went well."""
        steps: list[Callable[[], None]] = [self.count, self.pack, self.sum_up, self.verify]
        flows = self._emit.flows
        flows.started(TENANT, FLOW, self.id, data={"folder": self._folder.name})
        for done, step in enumerate(steps, 1):
            self._node = step.__name__.replace("_", "-")
            flows.node_started(TENANT, FLOW, self.id, self._node)
            # Only so that somebody can watch: the steps themselves take some milliseconds.
            time.sleep(self._pause)
            try:
                step()
            except (OSError, tarfile.TarError, EOFError, ValueError) as error:
                self.say("error", str(error), exception=type(error).__name__)
                flows.node_failed(TENANT, FLOW, self.id, self._node, str(error))
                flows.failed(TENANT, FLOW, self.id, f"{self._node}: {error}")
                return False
            flows.node_completed(TENANT, FLOW, self.id, self._node)
            flows.progress(TENANT, FLOW, self.id, 100 * done / len(steps))
        flows.completed(TENANT, FLOW, self.id, data={"files": len(self._files)})
        return True

    def say(self, level: str, message: str, **metadata: object) -> None:
        """Publish one log record of the current step."""
        self._emit.logs.append(
            TENANT, flow_id=FLOW, run_id=self.id, node_id=self._node, level=level, message=message, metadata=metadata
        )

    def count(self) -> None:
        found = (path for path in sorted(self._folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file())
        self._files = [path for path in found if not SKIPPED.intersection(path.relative_to(self._folder).parts)]
        if not self._files:
            raise ValueError(f"there are no text files in {self._folder.name}")
        words: collections.Counter[str] = collections.Counter()
        for path in self._files:
            words.update(re.findall(r"[a-z]{4,}", path.read_text(errors="replace").lower()))
        self.say("info", f"{words.total()} words in {len(self._files)} files", files=len(self._files))
        self.say("debug", "most often: " + ", ".join(word for word, _ in words.most_common(5)))

    def pack(self) -> None:
        with tarfile.open(self._archive, "w:gz") as archive:
            for path in self._files:
                archive.add(path, str(path.relative_to(self._folder)))
        before = sum(path.stat().st_size for path in self._files)
        after = self._archive.stat().st_size
        self.say("info", f"packed {before} bytes into {after}", before=before, after=after)
        if self._fail:
            packed = bytearray(self._archive.read_bytes())
            packed[len(packed) // 2] ^= 0xFF
            self._archive.write_bytes(packed)
            self.say("warn", f"flipped byte {len(packed) // 2} of the archive, as --fail asks")

    def sum_up(self) -> None:
        for path in self._files:
            self._sums[str(path.relative_to(self._folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.say("info", f"{len(self._sums)} SHA-256 sums taken")

    def verify(self) -> None:
        try:
            with tarfile.open(self._archive, "r:gz") as archive:
                for name, expected in self._sums.items():
                    member = archive.extractfile(name)
                    if member is None or hashlib.sha256(member.read()).hexdigest() != expected:
                        raise ValueError(f"{name} differs from its archived copy")
        except (OSError, EOFError, KeyError, tarfile.TarError, ValueError, zlib.error) as error:
            raise ValueError(f"the archive is damaged: {error}") from error
        self.say("info", f"all {len(self._sums)} files are in the archive, unchanged")


def main() -> int:
    """Run the flow once; return 0 where it completed, 1 where it failed, 2 where it could not be published."""
    parser = argparse.ArgumentParser(description="Run a flow on real files and publish it as it runs.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="whose text files are taken (this project)")
    parser.add_argument("--fail", action="store_true", help="damage the archive, so that the last step fails")
    parser.add_argument("--pause", type=float, default=0.7, help="seconds before each step (0.7)")
    options = parser.parse_args()
    with Emitter() as emit, tempfile.TemporaryDirectory() as work:
        run = Run(emit, options.folder.resolve(), Path(work), options.pause, options.fail)
        try:
            completed = run.perform()
        except RealtimeError as error:
            print(f"not published: {error} Does the server run (make run)?", file=sys.stderr)
            return 2
    print(f"run {run.id} of {FLOW} {'completed' if completed else 'failed'}")
    return 0 if completed else 1


if __name__ == "__main__":
    raise SystemExit(main())
