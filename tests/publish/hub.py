"""A fake Hugging Face hub with the part of its HTTP API that uploads and downloads use."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SHA = "a" * 40  # of the only commit


class Hub(ThreadingHTTPServer):
    """A local server of repositories, each a dict of files by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.visibility: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *arguments: object) -> None:
        print(format % arguments)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _send(self, content: object, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        print(self.command, self.path)
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.server.files:
                return self._send({}, 404, X_Error_Code="RepoNotFound")
            if parts[4] == "tree":
                files = sorted(self.server.files[name].items())
                tree = [{"type": "file", "path": p, "size": len(c), "oid": SHA} for p, c in files]
                return self._send(tree)
            return self._send({"id": name, "sha": SHA, "siblings": []})
        name, path = "/".join(parts[:2]), "/".join(parts[4:])
        content = self.server.files.get(name, {}).get(path)
        if content is None:
            return self._send({}, 404, X_Error_Code="EntryNotFound")
        etag = hashlib.sha256(content).hexdigest()
        return self._send(content, ETag=f'"{etag}"', X_Repo_Commit=SHA)

    def do_POST(self) -> None:
        path, body = self.path, self._body()
        print("POST", path, body[:300])
        if path == "/api/repos/create":
            request = json.loads(body)
            name = f"{request['organization']}/{request['name']}"
            self.server.files.setdefault(name, {})
            self.server.visibility[name] = request["visibility"]
            return self._send({"url": f"{self.server.address}/{name}", "id": name})
        if path == "/api/validate-yaml":
            return self._send({"errors": [], "warnings": []})
        if "/preupload/" in path:
            # The real hub asks for large files in another way than in the commit itself.
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._send({"files": files})
        if "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            for line in map(json.loads, body.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[name][value["path"]] = base64.b64decode(value["content"])
            address = f"{self.server.address}/{name}/commit/{SHA}"
            return self._send({"commitUrl": address, "commitOid": SHA})
        return self._send({}, 404)
