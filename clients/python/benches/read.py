"""What reads cost in a hot cache: time, allocations, memory; and, with a server, the time from a commit to a callback.

    PYTHONPATH=src python benches/read.py                        # reads and memory
    PYTHONPATH=src python benches/read.py target/debug/signalbox # and a server of its own, for the callback

Each figure is the median of several runs, with the best one beside it.
"""

import gc
import pathlib
import statistics
import sys
import tempfile
import threading
import time
import timeit
import tracemalloc

from google.protobuf import json_format

from signalbox import Options, _proto, connect
from signalbox.resources import view_of
from signalbox.testing import FakeClient

RESOURCES = 10_000
RUNS = 9
LOOPS = 100_000
#: What a read may cost, in nanoseconds: the aim of the project.
LIMIT = 1_000.0

READS = (
    'client.provider("p7")',
    'client.provider("p7").spec.base_url',
    'client.api_key("p7", "main")',
    'client.api_key("p7", "main").secret()',
    'client.active_api_keys("p7")',
    "client.active_provider()",
    "client.router()",
    'client.setting_int("k7")',
    'client.setting_int("maxRetries", 3)',
    'client.setting_int("nowhere", 3)',
    'client.setting_int("k", user="u7")',
    'client.setting_duration("patience")',
    'client.setting_secret("password")',
    'client.get("settings/k7")',
    "client.snapshot()",
)


def messages(count):
    """Resources of the mixed sort that a fleet has."""
    for n in range(count // 3):
        yield {
            "name": f"providers/p{n}",
            "provider": {
                "type": "PROVIDER_TYPE_GROQ",
                "baseUrl": f"https://p{n}.example/v1",
                "models": ["a", "b", "c"],
            },
        }
        yield {"name": f"providers/p{n}/apiKeys/main", "apiKey": {"secret": {"value": "s" * 56}}}
        yield {"name": f"settings/k{n}", "setting": {"intValue": n}}
    yield {"name": "routers/default", "router": {"primary": "providers/p7"}}
    yield {"name": "users/u7/settings/k", "setting": {"intValue": 7}}
    yield {"name": "settings/password", "setting": {"secretValue": {"value": "s" * 56}}}


def filled(count):
    client = FakeClient(defaults={"max_retries": 5}, environment={"SIGNALBOX_SETTING_PATIENCE": "1.5s"})
    draft = client._draft()
    for n, message in enumerate(messages(count)):
        draft.upsert(view_of(json_format.ParseDict({**message, "updateRevision": n + 1}, _proto.Resource())))
    client._publish(draft, None)
    return client


def reads(client):
    print(
        f"reads of {len(client.snapshot())} resources, ns: median (best); bytes that stay allocated by 1,000 reads"
    )
    worst = 0.0
    for read in READS:
        timer = timeit.Timer(read, globals={"client": client})
        times = [1e9 * timer.timeit(LOOPS) / LOOPS for _ in range(RUNS)]
        print(f"  {read:44} {statistics.median(times):7.0f} ({min(times):.0f})   {allocations(read, client)}")
        worst = max(worst, statistics.median(times))
    print(f"  worst {worst:.0f}, limit {LIMIT:.0f}: {'kept' if worst <= LIMIT else 'MISSED'}")
    return worst <= LIMIT


def allocations(read, client):
    code = compile(read, "read", "eval")
    names = {"client": client}
    eval(code, names)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(1_000):
        eval(code, names)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return max(0, after - before)


def memory():
    """Of the cache itself: what is parsed on the way is gone by then."""
    filled(30)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    client = filled(RESOURCES)
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - before
    for resource in client.select():
        _ = resource.spec
    gc.collect()
    decoded = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    size = len(client.snapshot())
    print(
        f"memory of {size} resources, MiB: {held / 2**20:.1f}; with every one looked into {decoded / 2**20:.1f}"
    )


def apply():
    """One change of one resource in a full cache."""
    client = filled(RESOURCES)
    times = []
    for n in range(200):
        began = time.perf_counter()
        client.put("settings/k7", {"setting": {"intValue": n}})
        times.append(1e6 * (time.perf_counter() - began))
    print(
        f"one change applied to {RESOURCES} resources, us: p50 {statistics.median(times):.0f}, max {max(times):.0f}"
    )


def callbacks(binary, count=300):
    """From the write call, over the server's fsync and the stream, to the callback, all on this machine."""
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
    import conftest

    conftest.BINARY = str(pathlib.Path(binary).resolve())
    with tempfile.TemporaryDirectory() as folder:
        server = conftest.Server(folder)
        try:
            with connect(Options(url=server.url, token=server.token())) as client:
                client.wait_ready()
                told = threading.Event()
                client.on_change(lambda _: told.set())
                times = []
                write = server.writer()
                for n in range(count):
                    told.clear()
                    began = time.perf_counter()
                    write("settings/k", {"intValue": str(n)})
                    told.wait(10)
                    times.append(1e3 * (time.perf_counter() - began))
        finally:
            server.kill()
    times.sort()
    p50, p99 = times[count // 2], times[count * 99 // 100]
    print(f"from the write call to the callback, {count} writes, ms: p50 {p50:.2f}, p99 {p99:.2f}")


def main():
    kept = reads(filled(RESOURCES))
    memory()
    apply()
    if len(sys.argv) > 1:
        callbacks(sys.argv[1])
    sys.exit(not kept)


if __name__ == "__main__":
    main()
