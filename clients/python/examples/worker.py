"""A worker to copy: it answers questions with whatever model is configured now, and is never restarted for a change.

    pip install 'CHECKOUT/clients/python[cache,executor,prometheus]'
    SIGNALBOX_URL=http://127.0.0.1:50051 SIGNALBOX_TOKEN_FILE=worker.token python worker.py <questions.txt

A token: signalbox token create --role worker --selector 'providers/*' --selector 'routers/*' --selector 'settings/*' --secrets
"""

import logging
import signal
import sys
import threading

import signalbox
from signalbox.executor import Executor
from signalbox.prometheus import Metrics

log = logging.getLogger("worker")


def answer(client, executor, question):
    # One state for one piece of work: what is read of it belongs together, whatever changes meanwhile.
    snapshot = client.snapshot()
    limit = snapshot.setting_int("max_tokens", 512)
    tone = snapshot.setting_str("tone", "short and plain")
    messages = [{"role": "system", "content": f"Be {tone}."}, {"role": "user", "content": question}]
    # None: the provider's own default. Out of the environment alone not every provider has one: SIGNALBOX_SETTING_MODEL names it.
    model = snapshot.setting_str("model", "") or None
    completion = executor.complete(messages, model, generation_params={"max_tokens": limit})
    log.info("answered by %s, %s at revision %d", completion.provider, completion.model, completion.revision)
    return completion.text


def main():
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    stopping = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stopping.set())
    with signalbox.connect(secrets=True, metrics=Metrics()) as client, Executor(client) as executor:
        client.on_change(lambda event: log.info("%s %s", event.kind, event.name), "routers/*")
        try:
            client.wait_ready()
        except signalbox.NotReadyError as error:
            # The client goes on trying. Until then calls go by the providers' own variables, GROQ_API_KEY and so on.
            log.warning("%s", error)
        for question in sys.stdin:
            if stopping.is_set():
                break
            try:
                print(answer(client, executor, question.strip()), flush=True)
            except signalbox.SignalboxError as error:
                # It says which provider failed how, and shows no key.
                log.error("no answer: %s", error)


if __name__ == "__main__":
    main()
