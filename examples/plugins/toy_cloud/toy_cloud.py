"""A toy cloud: an HTTP server that sells machines, which are processes of this computer, queues, and a store of files.

It behaves like a cloud where that matters to a provider: requests are idempotent by token, a machine is queued before
it starts, a zone may be sold out, an account has a quota, listings have pages, machines are reclaimed after a notice,
leases of messages expire, files are read by signed addresses. Nothing outlives the server. Standard library only.

    python3 toy_cloud.py --port 8080 --token secret
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hmac
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

ZONES = {"zone-a": True, "zone-b": True, "zone-c": False}
"""Whether each zone has machines; the last is sold out."""
TYPES = {"small": (1, 4.0), "large": (2, 8.0)}
"""Number of CPUs and memory in GB."""
PRICES = {"small": "0.05", "large": "0.11"}
SPOT_SHARE = "0.4"
QUOTA = 12
PAGE = 4
QUEUED_SECONDS = 0.3
NOTICE_SECONDS = 3.0
MAX_BODY = 64 * 1024


class RefusedError(Exception):
    """An answer with an error.

    Args:
        code: Name of the error in the answer.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Machines:
    """Machines by id. Thread-safe."""

    def __init__(self, url: str, folder: Path) -> None:
        self.by_id: dict[str, dict[str, Any]] = {}
        self._url, self._folder = url, folder
        self._lock = threading.RLock()
        threading.Thread(target=self._supervise, daemon=True).start()

    def create(self, wanted: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            for machine in self.by_id.values():
                if wanted["token"] and machine["token"] == wanted["token"]:
                    return machine
            if wanted["type"] not in TYPES or wanted["zone"] not in ZONES:
                raise RefusedError(400, "Invalid", f"there is no {wanted['type']} in {wanted['zone']}")
            if not ZONES[wanted["zone"]]:
                raise RefusedError(409, "OutOfCapacity", f"no {wanted['type']} machine is left in {wanted['zone']}")
            if sum(machine["ended"] is None for machine in self.by_id.values()) >= QUOTA:
                raise RefusedError(403, "QuotaExceeded", f"the account may have {QUOTA} machines")
            machine = {
                "id": f"m-{len(self.by_id):06d}",
                "created": time.time(),
                "started": None,
                "ended": None,
                "reason": "waits for a host",
                "notice": None,
                "credential": secrets.token_hex(16),
                "process": None,
                **{key: wanted[key] for key in ("token", "type", "zone", "spot", "labels", "script", "max_seconds")},
            }
            self.by_id[machine["id"]] = machine
            return machine

    def end(self, machine_id: str, reason: str) -> None:
        with self._lock:
            machine = self.find(machine_id)
            if machine["ended"] is None:
                machine["ended"], machine["reason"] = time.time(), reason
                if machine["process"] is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(machine["process"].pid, signal.SIGKILL)
                    machine["process"].wait()

    def find(self, machine_id: str) -> dict[str, Any]:
        if machine_id not in self.by_id:
            raise RefusedError(404, "NotFound", f"there is no machine {machine_id}")
        return self.by_id[machine_id]

    def of_credential(self, credential: str) -> dict[str, Any] | None:
        found = [machine for machine in list(self.by_id.values()) if machine["credential"] == credential]
        return found[0] if found else None

    def console(self, machine_id: str) -> Path:
        return self._folder / f"{self.find(machine_id)['id']}.log"

    def _start(self, machine: dict[str, Any]) -> None:
        script = self._folder / machine["id"]
        script.write_text(machine["script"], encoding="utf-8")
        script.chmod(0o700)
        machine["process"] = subprocess.Popen(
            [str(script)],
            # A machine has nothing of its buyer's environment.
            env={"PATH": os.environ["PATH"], "TOY_CLOUD_URL": self._url, "TOY_CLOUD_MACHINE": machine["credential"]},
            stdin=subprocess.DEVNULL,
            stdout=self.console(machine["id"]).open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        machine["started"], machine["reason"] = time.time(), ""

    def _supervise(self) -> None:
        while True:
            time.sleep(0.05)
            for machine in list(self.by_id.values()):
                with self._lock:
                    self._look_after(machine, time.time())

    def _look_after(self, machine: dict[str, Any], now: float) -> None:
        if machine["ended"] is not None:
            return
        if machine["started"] is None:
            if now - machine["created"] >= QUEUED_SECONDS:
                self._start(machine)
        elif machine["process"].poll() is not None:
            self.end(machine["id"], f"its script ended with exit code {machine['process'].returncode}")
        elif machine["max_seconds"] is not None and now - machine["started"] >= machine["max_seconds"]:
            self.end(machine["id"], "its maximum lifetime is over")
        elif machine["notice"] is not None and now >= machine["notice"]:
            self.end(machine["id"], "it was reclaimed")


class Queues:
    """Messages of queues by name. Thread-safe."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[str, dict[str, Any]]] = {}
        self._changed = threading.Condition()

    def create(self, name: str) -> None:
        with self._changed:
            self._by_name.setdefault(name, {})

    def delete(self, name: str) -> None:
        with self._changed:
            self._by_name.pop(name, None)

    def purge(self, name: str) -> None:
        with self._changed:
            self._find(name).clear()

    def depth(self, name: str) -> dict[str, int]:
        with self._changed:
            leased = [message["receipt"] and message["visible"] > time.time() for message in self._find(name).values()]
            return {"visible": leased.count(False) + leased.count(""), "leased": leased.count(True)}

    def send(self, name: str, bodies: list[str], delay: float) -> dict[str, str]:
        """Return the refused messages by index, each with the reason."""
        with self._changed:
            messages, refused = self._find(name), {}
            for index, body in enumerate(bodies):
                if len(base64.b64decode(body)) > MAX_BODY:
                    refused[str(index)] = f"the message has more than {MAX_BODY} bytes"
                    continue
                visible = time.time() + delay
                messages[secrets.token_hex(8)] = {"body": body, "visible": visible, "receipt": "", "count": 0}
            self._changed.notify_all()
            return refused

    def receive(self, name: str, count: int, lease: float, wait: float) -> list[dict[str, Any]]:
        deadline = time.time() + wait
        with self._changed:
            while True:
                now = time.time()
                ready = [message for message in self._find(name).values() if message["visible"] <= now][:count]
                if ready or now >= deadline:
                    break
                self._changed.wait(min(0.05, deadline - now))
            for message in ready:
                message |= {"visible": now + lease, "receipt": secrets.token_hex(8), "count": message["count"] + 1}
            return [{key: message[key] for key in ("body", "receipt", "count")} for message in ready]

    def settle(self, name: str, leases: dict[str, float | None]) -> list[str]:
        """Set what is left of each lease; None deletes its message. Return the receipts of lost leases."""
        with self._changed:
            messages, now = self._find(name), time.time()
            held = {message["receipt"]: key for key, message in messages.items() if message["visible"] > now}
            for receipt, seconds in leases.items():
                if receipt not in held:
                    continue
                if seconds is None:
                    del messages[held[receipt]]
                else:
                    # A returned message has no lease, so its receipt ends, too.
                    kept = receipt if seconds > 0 else ""
                    messages[held[receipt]] |= {"visible": now + seconds, "receipt": kept}
            self._changed.notify_all()
            return [receipt for receipt in leases if receipt not in held]

    def _find(self, name: str) -> dict[str, dict[str, Any]]:
        if name not in self._by_name:
            raise RefusedError(404, "NotFound", f"there is no queue {name}")
        return self._by_name[name]


class Files:
    """Files by path, written by the account, and read with a signature of the account's token."""

    def __init__(self, token: str) -> None:
        self.by_path: dict[str, bytes] = {}
        self.seconds_ahead = 0.0
        """Seconds by which the clock of the store is ahead."""
        self._token = token

    def answer(self, method: str, target: str, content: bytes, credential: str) -> bytes:
        path, _, query = target.partition("?")
        if credential != self._token:
            self._verify(path, {name: values[0] for name, values in parse_qs(query).items()})
        if method == "POST" and credential == self._token:
            self.by_path[unquote(path)] = content
            return b""
        if method != "GET" or unquote(path) not in self.by_path:
            raise RefusedError(404, "NotFound", f"there is no file {unquote(path)}")
        return self.by_path[unquote(path)]

    def _verify(self, path: str, query: dict[str, str]) -> None:
        end = query.get("end", "0")
        signature = hmac.digest(self._token.encode(), f"{path}?{end}".encode(), "sha256").hex()
        if not hmac.compare_digest(signature, query.get("signature", "")):
            raise RefusedError(403, "Forbidden", "the signature is wrong")
        if time.time() + self.seconds_ahead > float(end):
            raise RefusedError(403, "Forbidden", "the address has expired")


class ToyCloud:
    """The server. Close it to end all machines.

    Args:
        port: Port on the loopback interface; 0 for a free one.
    """

    def __init__(self, *, port: int = 0, token: str = "secret") -> None:
        self.token = token
        self._folder = tempfile.TemporaryDirectory(prefix="toy-cloud-")
        self._server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (_Handler,), {"cloud": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.machines = Machines(self.url, Path(self._folder.name))
        self.queues = Queues()
        self.files = Files(token)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for machine_id in list(self.machines.by_id):
            self.machines.end(machine_id, "the cloud has closed")
        self._folder.cleanup()

    def answer(self, method: str, path: str, body: dict[str, Any], credential: str) -> Any:
        """Return the answer to a request, or raise a refusal."""
        machine = self.machines.of_credential(credential)
        if credential != self.token and (machine is None or not path.startswith(("/metadata", "/queues/"))):
            raise RefusedError(401, "Unauthorized", "the token is unknown")
        _, kind, *rest = (unquote(part) for part in path.split("/"))
        handler = getattr(self, f"_{method.lower()}_{kind}", None)
        if handler is None:
            raise RefusedError(404, "NotFound", f"there is no {method} {path}")
        return handler(machine, body, *rest) if kind == "metadata" else handler(body, *rest)

    def _get_account(self, body: dict[str, Any]) -> Any:
        used = sum(machine["ended"] is None for machine in list(self.machines.by_id.values()))
        return {"name": "alice", "quota": QUOTA, "used": used}

    def _get_offers(self, body: dict[str, Any]) -> Any:
        types = {name: {"cpus": cpus, "memory_gb": memory} for name, (cpus, memory) in TYPES.items()}
        return {"zones": list(ZONES), "types": types, "prices": PRICES, "spot_share": SPOT_SHARE}

    def _get_metadata(self, machine: dict[str, Any] | None, body: dict[str, Any]) -> Any:
        if machine is None:
            raise RefusedError(404, "NotFound", "this is no machine")
        return {key: machine[key] for key in ("id", "zone", "type", "notice")}

    def _get_machines(self, body: dict[str, Any], machine_id: str = "", part: str = "") -> Any:
        if part == "console":
            console = self.machines.console(machine_id)
            return {"text": console.read_bytes().decode("utf-8", "replace") if console.exists() else ""}
        later = sorted(key for key in self.machines.by_id if key > body.get("after", ""))
        hidden = ("process", "script", "credential")
        page = [{k: v for k, v in self.machines.by_id[key].items() if k not in hidden} for key in later[:PAGE]]
        return {"machines": page, "more": len(later) > PAGE}

    def _post_machines(self, body: dict[str, Any], machine_id: str = "", part: str = "") -> Any:
        if part == "reclaim":
            self.machines.find(machine_id)["notice"] = time.time() + NOTICE_SECONDS
            return {}
        machine = self.machines.create(body)
        return {key: value for key, value in machine.items() if key not in ("process", "script", "credential")}

    def _delete_machines(self, body: dict[str, Any], machine_id: str) -> Any:
        self.machines.end(machine_id, "it was terminated")
        return {}

    def _put_queues(self, body: dict[str, Any], name: str) -> Any:
        return self.queues.create(name)

    def _delete_queues(self, body: dict[str, Any], name: str, part: str = "") -> Any:
        return self.queues.purge(name) if part == "messages" else self.queues.delete(name)

    def _get_queues(self, body: dict[str, Any], name: str) -> Any:
        return self.queues.depth(name)

    def _post_queues(self, body: dict[str, Any], name: str, part: str) -> Any:
        return getattr(self.queues, part)(name, **body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    cloud: ToyCloud

    def _serve(self) -> None:
        content = self._body()
        credential = re.sub("^Bearer ", "", self.headers.get("Authorization", ""))
        status = 200
        try:
            if self.path.startswith("/files/"):
                found = self.cloud.files.answer(self.command, self.path, content, credential)
            else:
                answer = self.cloud.answer(self.command, self.path, json.loads(content or b"{}"), credential)
                found = json.dumps(answer).encode()
        except RefusedError as refusal:
            status, found = refusal.status, json.dumps({"code": refusal.code, "message": str(refusal)}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing."""


for _method in ("GET", "POST", "PUT", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._serve)


def main() -> None:
    parser = argparse.ArgumentParser(description="A toy cloud on this computer.")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--token", default="secret")
    options = parser.parse_args()
    cloud = ToyCloud(port=options.port, token=options.token)
    print(f"toy cloud at {cloud.url}; end it with Ctrl-C", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cloud.close()


if __name__ == "__main__":
    main()
