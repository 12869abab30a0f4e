"""A service under load whose processes are killed at random; nothing that it answers may be wrong.

Callers ask for what they know the answer to: features, activations, steered text, whole and streamed. An
answer is right, or it says that there is none now (a problem 429 or 503, a connection that breaks, a
stream that stops before its end). Jobs are submitted under keys, again until they are acknowledged.
"""

import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psutil

from app.contract.bundled import BUNDLED_MODEL, BUNDLED_SAES
from tests.flow.service import Service

PROCESSES = {"app": "app.cli.main", "live": "worker.live.main", "jobs": "worker.jobs.main"}
SAE = BUNDLED_SAES[0]
STUCK_S = 240.0
"""Seconds in which at least one more of the jobs must be done."""
SUBMIT_S = 4.0
_STEER = {
    "model": BUNDLED_MODEL,
    "prompt": "The old sailor",
    "max_new_tokens": 24,
    "steering": [{"sae": SAE, "feature": 12, "strength": 1.5}],
}
Ask = Callable[[httpx.Client], httpx.Response]
QUESTIONS: dict[str, Ask] = {
    "lookup": lambda client: client.get(f"/v1/models/{BUNDLED_MODEL}/saes/{SAE}/features/12"),
    "page": lambda client: client.get(f"/models/{BUNDLED_MODEL}/saes/{SAE}/features/40"),
    "activations": lambda client: client.post(
        "/v1/activations",
        json={"model": BUNDLED_MODEL, "saes": [SAE], "texts": ["The old sailor"], "top_k": 4},
    ),
    "steer": lambda client: client.post("/v1/steer", json=_STEER),
    "stream": lambda client: client.post("/v1/steer", json=_STEER | {"stream": True}),
}


@dataclass
class Load:
    """Callers of a service, and what they were told."""

    service: Service
    told: Counter[str] = field(default_factory=Counter)
    """Questions by how they ended: `steer right`, `steer none`."""
    wrong: list[str] = field(default_factory=list)
    jobs: dict[str, str] = field(default_factory=dict)
    """Job ids that were acknowledged, by the key that they were submitted under."""
    _over: threading.Event = field(default_factory=threading.Event)
    _right: dict[str, Any] = field(default_factory=dict)

    def learn(self) -> None:
        """The right answers, from a service that nothing happens to."""
        with self._client() as client:
            for name, ask in QUESTIONS.items():
                self._right[name] = _content(ask(client).raise_for_status())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Callers ask again and again while this is open."""
        works = [lambda name=name: self._ask_on(name) for name in QUESTIONS]
        threads = [threading.Thread(target=work) for work in (*works, self._submit_on)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def ask(self, name: str) -> bool:
        """Ask once; whether there was an answer."""
        try:
            with self._client() as client:
                answer = QUESTIONS[name](client)
        except httpx.TransportError:
            return self._note(name, False)
        if answer.status_code in (429, 503):
            return self._note(name, False)
        if answer.status_code != 200:
            self.wrong.append(f"{name}: {answer.status_code} {answer.text[:300]}")
            return False
        content = _content(answer)
        if content is None:
            return self._note(name, False)
        if content != self._right[name]:
            self.wrong.append(f"{name}: {str(content)[:300]} is not {str(self._right[name])[:300]}")
        return self._note(name, True)

    def lost(self) -> list[str]:
        """Jobs that were acknowledged and do not come to their end, or came twice."""
        left, deadline = dict(self.jobs), time.monotonic() + STUCK_S
        with self._client() as client:
            while left and time.monotonic() < deadline:
                for key, job in list(left.items()):
                    if client.get(f"/v1/jobs/{job}").raise_for_status().json()["state"] == "done":
                        del left[key]
                        deadline = time.monotonic() + STUCK_S
                time.sleep(0.2)
        return [f"{key}: {job}" for key, job in left.items()]

    def _note(self, name: str, answered: bool) -> bool:
        self.told[f"{name} {'right' if answered else 'none'}"] += 1
        return answered

    def _ask_on(self, name: str) -> None:
        while not self._over.is_set():
            if not self.ask(name):
                time.sleep(0.05)

    def _submit_on(self) -> None:
        body = {"kind": "load", "model": BUNDLED_MODEL, "path": f"bundled:{BUNDLED_MODEL}"}
        for number in itertools.count():
            key = f"fault-{os.getpid()}-{id(self)}-{number}"
            while not self._over.is_set() and not self._submit(key, body):
                time.sleep(0.1)
            if self._over.wait(SUBMIT_S):
                return

    def _submit(self, key: str, body: dict[str, Any]) -> bool:
        """Whether it was acknowledged; under the same key it is the same job, however often asked."""
        try:
            with self._client() as client:
                answer = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            return False
        if answer.status_code in (429, 503):
            return False
        if answer.status_code != 202:
            self.wrong.append(f"job: {answer.status_code} {answer.text[:300]}")
            return False
        self.jobs[key] = answer.json()["id"]
        return True

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.service.url, timeout=60, trust_env=False)


def _content(answer: httpx.Response) -> Any:
    """What must be the same each time; None of a stream that broke off."""
    if "html" in answer.headers["content-type"]:
        return answer.text
    if "event-stream" in answer.headers["content-type"]:
        _, done, data = answer.text.rstrip().partition("event: done\ndata: ")
        return _steady(json.loads(data)) if done else None
    return _steady(answer.json())


def _steady(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if name != "timings"}


def processes(service: Service) -> dict[str, psutil.Process]:
    """The parts of a service that run now, by name, and the supervisor as `up`."""
    assert service.process
    up = psutil.Process(service.process.pid)
    found = {"up": up}
    for child in up.children(recursive=True):
        try:
            line = " ".join(child.cmdline())
        except psutil.Error:
            continue
        found |= {name: child for name, module in PROCESSES.items() if module in line}
    return found


def kill(service: Service, name: str) -> None:
    """End a part at once, and wait until the service is whole again and says so."""
    victim = processes(service).get(name)
    if victim is None:  # it is just being started again
        return
    os.kill(victim.pid, signal.SIGKILL)
    if name == "up":
        service.stop(signal.SIGKILL)
        service.start()
    else:
        victim.wait(30)
    service.wait_ready()


def rounds(service: Service, n: int, seed: int) -> Load:
    """Kill `n` times at random while callers ask, and check what they were told."""
    drawn, load = random.Random(seed), Load(service)
    victims = (name for _ in itertools.count() for name in drawn.sample([*PROCESSES, "up"], 4))
    load.learn()
    with load.running():
        for name in itertools.islice(victims, n):
            time.sleep(drawn.random())
            kill(service, name)
            # Whoever says that it is ready, answers.
            load.wrong += [f"no {what} after {name}" for what in QUESTIONS if not load.ask(what)]
    return load
