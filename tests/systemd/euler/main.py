#!/usr/bin/env python3
"""Runs euler-onebot, which is a library, in the working directory; with the argument `sign PORT` the service that it needs.

Its packages are in /opt/euler, where tests/systemd/euler.rs makes them visible.
"""

import asyncio
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, "/opt/euler")


class Signatures(BaseHTTPRequestHandler):
    """Signs nothing: without a network no packet leaves. With no answer from here the program ends by itself."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"code": 0, "value": {"sec_sign": "00", "sec_token": "00", "sec_extra": "00"}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if sys.argv[1:2] == ["sign"]:
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Signatures).serve_forever()

from euleronebot.hyperogger import Logger  # noqa: E402

# The modules after this one take the logger when they are imported.
Logger.create("euler", "INFO", False)

from euleronebot.onebot import Adapter  # noqa: E402
from euleronebot.protocol import LagrangeProtocol, appconfig  # noqa: E402


class Told(Adapter):
    """Prints which connection was told what: a client closes it as soon as a call is refused, and comes again later."""

    seen = []

    async def trigger(self, event):
        client = self.connector.active_websocket_servers.get("root")
        # Fails where the client has closed it.
        await super().trigger(event)
        if client is not None:
            if client not in self.seen:
                self.seen.append(client)
            print(f"told connection {len(self.seen)}: {event.model_dump_json()}", flush=True)


asyncio.run(LagrangeProtocol(Told(appconfig.connections)).run())
