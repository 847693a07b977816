"""Stand-in for Vela. Takes its command line and does what $VELA_STANDIN says instead of compiling."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

sys.stdout.write("stand-in for Vela\n")
sys.stdout.flush()
model = Path(sys.argv[1])
folder = Path(sys.argv[sys.argv.index("--output-dir") + 1])
program, summary = folder / f"{model.stem}_vela.tflite", folder / f"{model.stem}_summary_Standin.csv"
SPLIT = "CPU operators = 0 (0.0%)\nNPU operators = 3 (100.0%)"
TABLE = ("sram_memory_used,dram_memory_used,on_chip_flash_memory_used,off_chip_flash_memory_used,"
         "cycles_total,inference_time\n1,0,0,2,300,0.001\n")


def finish(said: str = SPLIT, table: bytes = TABLE.encode(), compiled: bytes | None = None) -> None:
    """End as Vela does: a program, a table, and the split on the screen."""
    folder.mkdir()
    shutil.copyfile(model, program) if compiled is None else program.write_bytes(compiled)
    summary.write_bytes(table)
    sys.stdout.write(said)


match os.environ["VELA_STANDIN"]:
    case "works":
        finish()
    case "crashes":
        os.kill(os.getpid(), signal.SIGFPE)
    case "hangs":
        time.sleep(600)
    case "fails":
        sys.exit("no such accelerator")
    case "prints garbage":
        sys.stdout.buffer.write(bytes(range(256)))
    case "writes no split":
        finish(said="all is well")
    case "writes an empty table":
        finish(table=b"")
    case "writes a table of garbage":
        finish(table=bytes(range(256)) * 4)
    case "writes a table of words":
        finish(table=TABLE.replace("300", "many").encode())
    case "writes a table without cycles":
        finish(table=TABLE.replace("cycles_total", "cycles").encode())
    case "writes a program of garbage":
        finish(compiled=bytes(range(256)))
