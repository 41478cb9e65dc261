"""ClickHouse over HTTP on chdb, its engine as a Python module: statements, inserts by JSON lines, parameters, gzip,
errors with their number. One statement at a time; no users. Settings in the address are ignored.

Usage: chdb_http.py PORT FOLDER, with the password that is required in the variable PASSWORD."""

import gzip
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from chdb import session

SESSION = session.Session(sys.argv[2])
TURN = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, headers=()):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(200, b"Ok.\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.headers.get("x-clickhouse-key") != os.environ.get("PASSWORD"):
            error = b"Code: 516. DB::Exception: default: Authentication failed. (AUTHENTICATION_FAILED) (version 26.9)\n"
            return self.answer(403, error, [("X-ClickHouse-Exception-Code", "516")])
        query = parse_qs(urlsplit(self.path).query)
        statement = (query.get("query") or [""])[0]
        try:
            with TURN:
                result = self.run(query, statement, body)
            self.answer(200, result.bytes() if result is not None and result.size() else b"")
        except Exception as error:
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            headers = [("X-ClickHouse-Exception-Code", code.group(1))] if code else []
            self.answer(404 if code and code.group(1) in ("60", "81") else 400, (text + "\n").encode(), headers)

    def run(self, query, statement, body):
        for name, values in query.items():
            if name.startswith("param_"):
                value = values[0].replace("\\", "\\\\").replace("'", "\\'")
                SESSION.query(f"SET {name}='{value}'")
        if not re.search(r"(?is)^\s*insert\s.*\bformat\s+\w+\s*$", statement):
            return SESSION.query(statement + body.decode(), "TabSeparated")
        with tempfile.NamedTemporaryFile() as rows:
            rows.write(body)
            rows.flush()
            source = f"FROM INFILE '{rows.name}' FORMAT \\1"
            return SESSION.query(re.sub(r"(?is)\bformat\s+(\w+)\s*$", source, statement))


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
