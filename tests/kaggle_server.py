"""A server on this machine that plays Kaggle to kagglehub and Kaggle's own program.

It gives good answers and bad. As a program this file is Kaggle's, sent to the address in
FAKE_KAGGLE.
"""

import json
import os
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN, USER, KEY = (
    "KGAT_0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "ada-l",
    "f0e1d2c3b4a5968778695a4b3c2d1e0f",
)
RULES = "You must accept this competition's rules before you'll be able to download files."
ALLOWANCE = "Submission not allowed: Your team has used its daily Submission allowance (10) today."
PAGE = b"<!DOCTYPE html>\n<html><body>Too many requests</body></html>\n"
PIECE = 1 << 14


class FakeKaggle(ThreadingHTTPServer):
    """What it has and how it answers can be changed while it runs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}  # slug -> zip
        self.answer: dict[str, str] = {}  # method -> what is wrong with it
        self.calls: list[tuple[str, str]] = []  # (method, authorization)
        self.uploads: dict[str, bytes] = {}  # token -> content
        self.sent: list[dict] = []  # submissions
        self.slow = 0.0  # seconds between two pieces of a download
        self.downloads: list[tuple[str, str]] = []  # (slug, range)
        self.bytes_out = 0
        self.busy = 0  # downloads going on

    def handle_error(self, *_: object) -> None:
        """A client that was killed hangs up, and that is no news."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeKaggle

    def log_message(self, *_: object) -> None:
        pass

    def reply(self, status: int, content: bytes, kind: str = "application/json", **more: str):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in more.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def say(self, **fields: object) -> None:
        self.reply(200, json.dumps(fields).encode())

    def refuse(self, status: int, message: str) -> None:
        self.reply(status, json.dumps({"code": status, "message": message}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        method = self.path.rsplit("/", 1)[-1]
        self.server.calls.append((method, self.headers.get("Authorization", "")))
        wrong = self.server.answer.get(method) or self.server.answer.get("*")
        if wrong:
            self.misbehave(wrong)
        else:
            getattr(self, f"on_{method}")(body)

    def misbehave(self, wrong: str) -> None:
        if wrong == "page":
            self.reply(200, PAGE, "text/html")
        elif wrong == "hang up":
            self.close_connection = True
            self.connection.close()
        else:
            status, _, message = wrong.partition(" ")
            if message:
                self.refuse(int(status), message)
            else:
                self.reply(int(status), b"no", "text/plain")

    def on_IntrospectToken(self, body: dict) -> None:
        good = body["token"] == TOKEN
        self.say(active=good, username=USER if good else "")

    def on_DownloadDataFiles(self, body: dict) -> None:
        slug = body["competitionName"]
        if slug not in self.server.files:
            self.refuse(404, "Not found")
            return
        self.reply(302, b"", Location=f"{self.server.address}/{slug}.zip?X-Goog-Signature=secret")

    def on_StartSubmissionUpload(self, body: dict) -> None:
        token = f"upload-{len(self.server.uploads) + 1}"
        self.say(token=token, createUrl=f"{self.server.address}/upload/{token}")

    def on_CreateSubmission(self, body: dict) -> None:
        self.server.sent.append(body)
        self.say(message=f"Successfully submitted to {body['competitionName']}", ref=7)

    def on_GetSubmissionLimits(self, body: dict) -> None:
        self.say(numAllowedNow=9)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if "upload" in self.server.answer:
            self.reply(403, b"no")
            return
        self.server.uploads[self.path.rsplit("/", 1)[-1]] = content
        self.reply(200, b"{}")

    def do_GET(self) -> None:
        slug = Path(self.path.partition("?")[0]).stem
        asked, wrong = self.headers.get("Range", ""), self.server.answer.get("file", "")
        self.server.downloads.append((slug, asked))
        if wrong and wrong != "half":
            self.misbehave(wrong)
            return
        content = self.server.files[slug]
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{zlib.crc32(content)}"')
        self.send_header("Last-Modified", formatdate(1_700_000_000, usegmt=True))
        self.end_headers()
        self.close_connection = wrong == "half"
        self.server.busy += 1
        try:
            self.pour(content[begin : len(content) // (2 if wrong == "half" else 1)])
        finally:
            self.server.busy -= 1

    def pour(self, content: bytes) -> None:
        for place in range(0, len(content), PIECE):
            self.wfile.write(content[place : place + PIECE])
            self.server.bytes_out += len(content[place : place + PIECE])
            time.sleep(self.server.slow)


@contextmanager
def playing() -> Iterator[FakeKaggle]:
    server = FakeKaggle()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def redirect() -> None:
    """Send what this process asks of Kaggle to the address in FAKE_KAGGLE."""
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = os.environ["FAKE_KAGGLE"]


def be_the_client() -> None:
    """Kaggle's program, without its waits between two attempts."""
    redirect()
    time.sleep = lambda seconds: None
    from kaggle.cli import main

    main()


if __name__ == "__main__":
    be_the_client()
