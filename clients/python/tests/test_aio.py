"""The client for asyncio."""

import asyncio

import pytest

import signalbox
from signalbox import aio


def options(server, **changes):
    return signalbox.Options(url=server.url, token=server.token(), secrets=True, **changes)


def test_changes_are_iterated_over(shared):
    async def run():
        async with aio.connect(options(shared)) as client:
            await client.wait_ready()
            changes = client.changes()
            revision = await asyncio.to_thread(shared.put, "settings/aio", setting={"intValue": "1"})
            await client.wait_revision(revision)
            assert client.setting_int("aio") == 1
            first = await asyncio.wait_for(changes.__anext__(), 10)
            assert (first.events[0].name, first.snapshot.revision) == ("settings/aio", revision)
            await client.clear_cache()
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(changes.__anext__(), 0.05)
            await asyncio.to_thread(shared.delete, "settings/aio")
            second = await asyncio.wait_for(changes.__anext__(), 10)
            assert second.events[0].kind == "deleted", "nothing is lost with a wait that was given up"
        assert [each async for each in changes] == []

    asyncio.run(run())


def test_waits_end_with_their_time(shared):
    async def run():
        nobody = aio.connect(signalbox.Options(url="http://127.0.0.1:1"))
        with pytest.raises(signalbox.NotReadyError):
            await nobody.wait_ready(timeout=0.2)
        with pytest.raises(signalbox.RevisionNotReachedError):
            await nobody.wait_revision(1, timeout=0.05)
        await nobody.close()

    asyncio.run(run())


def test_a_wait_can_be_cancelled(shared):
    async def run():
        async with aio.connect(signalbox.Options(url="http://127.0.0.1:1")) as nobody:
            waiting = asyncio.create_task(nobody.wait_ready(timeout=60))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not nobody._state._watchers

    asyncio.run(run())


def test_an_iterator_outlives_its_loop_without_harm(shared):
    client = signalbox.connect(options(shared))
    try:
        wrapped = aio.AsyncClient(client)

        async def begin():
            return wrapped.changes()

        kept = asyncio.run(begin())
        revision = shared.put("settings/loop", setting={"intValue": "1"})
        client.wait_revision(revision)
        assert kept._subscription.closed
    finally:
        client.close()


def test_regression_a_loop_that_was_closed_in_the_middle_of_a_wait_broke_the_stream(shared):
    with signalbox.connect(options(shared)) as client:
        client.wait_ready()
        loop = asyncio.new_event_loop()
        left = loop.create_task(aio.AsyncClient(client).wait_revision(10**9, timeout=600))
        loop.call_later(0.05, loop.stop)
        loop.run_forever()
        loop.close()
        session = client.status().session_id
        for value in ("1", "2"):
            client.wait_revision(shared.put("settings/left", setting={"intValue": value}))
        assert (client.status().session_id, client.status().last_error) == (session, None)
        assert not left.done()
        left._log_destroy_pending = False


def test_a_callback_that_is_a_coroutine_is_refused(shared):
    async def call(_):
        pass

    with signalbox.connect(options(shared)) as client, pytest.raises(TypeError, match=r"changes\(\)"):
        client.on_change(call)
