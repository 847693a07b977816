#!/usr/bin/env python3
"""A stand-in for podman and docker: it has no containers, and runs programs right here.

It takes the words that edgeq gives (image inspect, run, rm), notes each call as a line of JSON in
$ENGINE_STANDIN_LOG, and plays what $ENGINE_STANDIN says:

    none      no image is here
    down      there is no daemon
    hang      the program in the container never ends
    STATUS    a number: what `run` ends with
    anything else, or nothing: the program is run in the mounted folder, found in $ENGINE_STANDIN_BIN

Standard library only.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

DIGEST = os.environ.get("ENGINE_STANDIN_DIGEST", "a" * 64)


def main() -> int:
    words, plays = sys.argv[1:], os.environ.get("ENGINE_STANDIN", "")
    with Path(os.environ["ENGINE_STANDIN_LOG"]).open("a") as log:
        log.write(json.dumps([Path(sys.argv[0]).name, *words]) + "\n")
    if plays == "down":
        return say("Cannot connect to the daemon of this stand-in. Is it running?", 1)
    if words[:2] == ["image", "inspect"]:
        return say(f"no such image: {words[-1]}", 1) if plays == "none" else say(DIGEST, 0)
    if words[0] == "rm":
        return 0
    if plays == "hang":
        time.sleep(600)
    if plays.isdigit():
        return say("this is a stand-in, and fails as it was told", int(plays))
    return here(words)


def here(words: list[str]) -> int:
    """Run the program in the folder that would have been mounted."""
    given = dict(word.removeprefix("--").partition("=")[::2] for word in words if "=" in word)
    folder = given["mount"].partition("src=")[2].partition(",")[0]
    program = Path(os.environ["ENGINE_STANDIN_BIN"]) / given["entrypoint"]
    image = next(i for i, word in enumerate(words) if word.startswith("sha256:"))
    return subprocess.run([program, *words[image + 1:]], cwd=folder, check=False).returncode


def say(text: str, status: int) -> int:
    sys.stdout.write(f"{text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
