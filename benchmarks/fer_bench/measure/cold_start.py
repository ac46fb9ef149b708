"""How long a fresh process takes to its first answer.

Nothing of the process is warm, but its files are in the operating system's cache: the run that
starts it has used the same ones. What the very first start after a boot adds is the disk's.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from fer_bench.results.result import ColdStart
from fer_sdk.errors import FerError

_TIMEOUT = 120.0

# The child works by itself: whatever this package imports must not count.
_CHILD = """
import time
began = time.perf_counter_ns()
import json, sys
asked = json.loads(sys.argv[1])
before = time.perf_counter_ns()
from fer_sdk import FerPipeline
imported = time.perf_counter_ns()
pipeline = FerPipeline(**asked["pipeline"])
opened = time.perf_counter_ns()
import numpy
image = numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8).reshape(asked["shape"])
read = time.perf_counter_ns()
pipeline.predict(image)
first = time.perf_counter_ns()
pipeline.predict(image)
second = time.perf_counter_ns()
peak = None
try:
    # ru_maxrss would start at the parent's size, which a child inherits on Linux.
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1]) * 1024
except OSError:
    if sys.platform == "darwin":
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
info = pipeline.info
pipeline.close()
times = [began, before, imported, opened, read, first, second]
ran = [info.device, info.models[0].precision, info.detector, info.threads]
print(json.dumps([times, peak, ran]))
"""


class ColdStartError(FerError, RuntimeError):
    """The fresh process did not give an answer."""


def measure_cold_start(image: npt.NDArray[np.uint8], pipeline: Mapping[str, object]) -> ColdStart:
    """Start a fresh Python, open a pipeline and predict twice.

    Args:
        image: decoded BGR ``[H, W, 3]``; handing it over does not count.
        pipeline: arguments of ``FerPipeline``; must be JSON values.

    Raises:
        ColdStartError: the process failed; has its last line of errors.
    """
    asked = json.dumps({"pipeline": dict(pipeline), "shape": image.shape})
    # Without -P a file named like a module in the current folder would be imported instead.
    command = [sys.executable, "-P", "-c", _CHILD, asked]
    started = time.perf_counter_ns()
    try:
        done = subprocess.run(
            command,
            input=image.tobytes(),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ColdStartError(f"a fresh process gave no answer in {_TIMEOUT:.0f} s") from error
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
        raise ColdStartError(f"a fresh process failed with {done.returncode}: {last[0]}")
    times, peak, (device, precision, detector, threads) = json.loads(done.stdout.splitlines()[-1])
    began, before, imported, opened, read, first, second = times
    return ColdStart(
        device=device,
        precision=precision,
        detector=detector,
        threads=threads,
        # The finest clock counts from the same moment in every process of a machine.
        interpreter_ms=(began - started) / 1e6,
        import_ms=(imported - before) / 1e6,
        open_ms=(opened - imported) / 1e6,
        first_call_ms=(first - read) / 1e6,
        second_call_ms=(second - first) / 1e6,
        to_first_result_ms=(first - started - (read - opened)) / 1e6,
        peak_rss_bytes=peak,
    )
