#!/usr/bin/env python3
"""A stand-in for Google's edgetpu_compiler: it compiles nothing, and says so in its output.

It takes the true command line (-s, -o DIR, -v, MODEL), replays what the compiler once printed, and
puts a file that somebody else compiled where the compiler would put its own. What it plays:

    EDGETPU_STANDIN           the name of a log below tests/data/edgetpu_logs, or one of:
                              crash (SIGSEGV), hang, garbage (a file that is no model), nothing (no file)
    EDGETPU_STANDIN_COMPILED  the file to pass off as its own

Standard library only.
"""

import argparse
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

LOGS = Path(__file__).resolve().parent.parent / "data" / "edgetpu_logs"
VERSION = "Edge TPU Compiler version 16.0.384591198"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("-s", "--show_operations", action="store_true")
    parser.add_argument("-o", "--out_dir", type=Path, default=Path())
    parser.add_argument("-v", "--version", action="store_true")
    parser.add_argument("model", type=Path, nargs="?")
    given = parser.parse_args()
    if given.version:
        say(VERSION)
        return 0
    plays = os.environ.get("EDGETPU_STANDIN", "full_v16")
    say(f"this is a stand-in for edgetpu_compiler, not the compiler; it plays {plays}")
    if not given.model.is_file():
        say(f"Invalid model: {given.model}")
        return 1
    log = (LOGS / f"{plays}.log").read_text() if (LOGS / f"{plays}.log").exists() else VERSION
    say(log)
    misbehave(plays)
    if plays.startswith("fail"):
        return 1
    if plays in ("garbage", "nothing"):
        say("Model compiled successfully in 1 ms.")
    compiled = given.out_dir / f"{given.model.stem}_edgetpu.tflite"
    if plays == "garbage":
        compiled.write_bytes(b"this is no model")
    elif plays != "nothing":
        shutil.copyfile(os.environ["EDGETPU_STANDIN_COMPILED"], compiled)
    return 0


def say(text: str) -> None:
    """Print at once: a crash must not take what was said before it along."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def misbehave(plays: str) -> None:
    if plays == "crash":
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signal.SIGSEGV)
    if plays == "hang":
        time.sleep(600)


if __name__ == "__main__":
    sys.exit(main())
