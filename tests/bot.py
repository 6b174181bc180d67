#!/usr/bin/env python3
"""A bot that counts: whoever writes it a number gets the next one back, by the answer to the report.

    tests/bot.py PORT [LAST]

Start clients with post_api=http://127.0.0.1:PORT/, and write one of them a number. With two clients of this bot that are
friends they count on together, until LAST (10). Every message is printed: the client, who wrote it, and what.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

LAST = int(sys.argv[2]) if len(sys.argv) > 2 else 10


class Bot(BaseHTTPRequestHandler):
    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        client = parse_qs(urlsplit(self.path).query).get("client", ["?"])[0]
        answer = json.dumps(self.answer(client, report)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def answer(self, client, report):
        if report["post_type"] != "receive_message":
            return {}
        print(f"{client}: {report['sender']}: {report['content']}", flush=True)
        number = report["content"]
        if number.isdecimal() and int(number) < LAST:
            return {"reply": str(int(number) + 1)}
        return {}

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bot)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
