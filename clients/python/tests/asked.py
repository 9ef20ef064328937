"""A worker that says how it is whenever it is asked: a line comes in, a line of JSON goes out.

What it says was read after it was asked, so whoever asks knows the earliest moment that an answer can be of. Run by the tests
of the service, beside a worker in Rust. It ends with its input.
"""

import json
import logging
import os
import sys

import signalbox


def main():
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    options = signalbox.Options.from_environment(
        secrets=True,
        progress_interval=1.0,
        staleness=signalbox.Staleness(bound=float(os.environ["TEST_BOUND"])),
        worker_id="python",
    )
    with signalbox.connect(options) as client:
        for _ in sys.stdin:
            status, snapshot = client.status(), client.snapshot()
            said = {
                "ready": status.ready,
                "age": status.confirmed_age,
                "revision": snapshot.revision,
                "digest": snapshot.digest.hex(),
            }
            print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
