"""A worker process ends when its runner has gone, even if its work never does."""

import subprocess
import sys
import textwrap

STUCK = """
    import sys, threading, time
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main
    from pipelines import beam_patches, worker

    def run(harness):
        harness._alive = True
        time.sleep(0.5)
        harness._alive = False
        print("the runner has gone", flush=True)
        threading.Event().wait()

    sdk_worker.SdkHarness.__init__ = lambda harness: None
    sdk_worker.SdkHarness._alive = False
    sdk_worker.SdkHarness.run = run
    sdk_worker_main.main = lambda arguments: sdk_worker_main.SdkHarness().run()
    beam_patches.end_after.__defaults__ = (0.5,)
    worker.main()
"""


def test_a_worker_whose_work_never_ends_is_ended():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STUCK)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "the runner has gone\n"), done.stderr
