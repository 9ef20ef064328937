"""The examples, as a reader runs them."""

import json
import os
import pathlib
import subprocess
import sys

from test_executor import Speaker, good

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def test_the_worker_answers_with_what_is_configured(server):
    speaker = Speaker()
    server.put(
        "providers/openai",
        provider={"type": "PROVIDER_TYPE_OPENAI", "baseUrl": f"{speaker.url}/a", "defaultModel": "gpt-x"},
    )
    server.put("providers/openai/apiKeys/prod", apiKey={"secret": {"value": "sk-canary-1"}})
    server.put("routers/default", router={"primary": "providers/openai", "retries": {"maxRetries": 0}})
    server.put("settings/max_tokens", setting={"intValue": "77"})
    status, body = good()
    speaker.lay("a", (status, body), (401, b"{}"))
    environment = {
        **os.environ,
        "SIGNALBOX_URL": server.url,
        "SIGNALBOX_TOKEN": server.token(),
        "SIGNALBOX_SETTING_TONE": "kind",
    }
    try:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "worker.py"],
            input="Hello\nAnd now\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        speaker.close()
    assert done.stdout.strip() and done.stdout.count("\n") == 1, done.stdout
    assert "no answer: no provider has answered: openai: authentication" in done.stderr, done.stderr
    assert "canary" not in done.stdout + done.stderr
    (_, _, headers, first), _ = speaker.heard
    assert headers["Authorization"] == "Bearer sk-canary-1"
    assert "Be kind." in json.dumps(first) and 77 in first.values()


def test_the_worker_answers_while_the_service_is_down():
    speaker = Speaker()
    speaker.lay("a", good())
    kept = {name: text for name, text in os.environ.items() if not name.endswith("_API_KEY")}
    environment = {
        **kept,
        "SIGNALBOX_URL": "http://127.0.0.1:1",
        "SIGNALBOX_TOKEN": "none",
        "MISTRAL_API_KEY": "sk-canary-2",
        "MISTRAL_BASE_URL": f"{speaker.url}/a",
        "SIGNALBOX_SETTING_MODEL": "small",
    }
    try:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "worker.py"],
            input="Hello\n",
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        speaker.close()
    assert done.stdout.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    assert "answered by mistral, small at revision 0" in done.stderr, done.stderr
