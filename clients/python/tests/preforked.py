"""The application of the gunicorn test: a client that the master makes before it forks its workers."""

import json
import os

import signalbox

client = signalbox.connect(
    signalbox.Options(url=os.environ["TEST_URL"], token=os.environ["TEST_TOKEN"], secrets=True)
)
client.wait_ready()
heard = []
client.on_change(lambda event: heard.append(event.name))


def app(environ, start_response):
    status = client.status()
    body = json.dumps(
        {
            "pid": os.getpid(),
            "ready": status.ready,
            "session": status.session_id,
            "a": client.setting_int("a", 0),
            "heard": heard,
        }
    ).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
