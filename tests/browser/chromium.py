"""Debian's Chromium, installed or only unpacked, driven by playwright-core in a script of its own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.servers import ROOT

UNPACKED = ROOT / ".make" / "debian"
_UNPACKED_BINARY = UNPACKED / "usr" / "lib" / "chromium" / "chromium"
SCRIPTS = ROOT / "tests" / "browser"


def installed() -> str:
    """Return the browser's path; without one, or without playwright-core, a test is skipped, but fails in CI."""
    found = shutil.which("chromium") or (str(_UNPACKED_BINARY) if _UNPACKED_BINARY.exists() else None)
    missing = [name for name in ("node",) if shutil.which(name) is None]
    missing += [name for name in ("playwright-core", "axe-core") if not (ROOT / "node_modules" / name).is_dir()]
    missing += [] if found else ["chromium"]
    if missing or found is None:
        sentence = f"{', '.join(missing)} is missing: run `make setup`"
        if os.environ.get("CI"):
            pytest.fail(sentence)
        pytest.skip(sentence)
    return found


def environment(binary: str, directory: Path) -> dict[str, str]:
    """Return what the browser needs to find its libraries and fonts where Debian's packages were only unpacked."""
    if binary != str(_UNPACKED_BINARY):
        return {}
    libraries = next((UNPACKED / "usr" / "lib").glob("*-linux-gnu*"))
    fonts = directory / "fonts.conf"
    fonts.write_text(
        f"<fontconfig><dir>{UNPACKED}/usr/share/fonts</dir><dir>/usr/share/fonts</dir>"
        f"<cachedir>{directory}/fonts</cachedir></fontconfig>"
    )
    # PulseAudio's has a folder of its own, which it finds only where it was installed.
    places = (libraries, libraries / "pulseaudio", UNPACKED / "lib" / libraries.name)
    return {"LD_LIBRARY_PATH": ":".join(map(str, places)), "FONTCONFIG_FILE": str(fonts)}


def run_page(script: str, *args: str, seconds: float = 100.0, **env: str) -> str:
    """Run `tests/browser/{script}` and return what it printed; raise AssertionError where it failed."""
    binary = installed()
    node = shutil.which("node")
    assert node is not None
    with tempfile.TemporaryDirectory(prefix="mf-page-") as directory:
        place = Path(directory)
        told = {"CHROMIUM": binary, "PICTURES": os.environ.get("PICTURES", ""), "HOME": directory, **env}
        process = subprocess.Popen(
            [node, str(SCRIPTS / script), *args],
            cwd=ROOT,
            env={**os.environ, **told, **environment(binary, place)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The script closes its browser on this.
            process.terminate()
            output, _ = process.communicate(timeout=10)
            raise AssertionError(f"not within {seconds} s: {output}") from None
    assert process.returncode == 0, output
    return output
