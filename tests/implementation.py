#!/usr/bin/env python3
"""A program that holds an account, for tests: it plays the part of an implementation, with scans, kicks and losses on demand.

    tests/implementation.py KIND PORT HOME RUNTIME TOKEN [BEAT]

KIND is llbot, napcat, yogurt or command: how its login can be asked about. What happens to it is a word in the file HOME/event:

    code        a login code waits to be scanned (so it begins without a saved login)
    expired     the code has expired, and no other one follows
    confirming  it was scanned
    online      logged in; the login is saved, and the next start begins with it
    offline     no connection to the network
    kicked      the network has ended the login
    mute        it takes connections and answers nothing
    flood       a thousand messages
    crash       it ends
    lie NAME    from now on its answers are: deep (a million brackets), huge (more than anyone takes), endless, name (megabytes of
                a name, with what terminals obey), other (of another account), redirect URL (of its web page); `lie` alone ends that
    count       the number of calls and questions so far is written to HOME/calls

A heartbeat comes with each change and twice a second, so that no test waits for one. With HEARTBEATS=configured in the environment
it comes each BEAT seconds and at no other time, as those of the real programs do, and twice a second where there is no BEAT.

The API is OneBot v11 by WebSocket on PORT, but for yogurt Milky, by HTTP and a stream of events. Needs nothing but Python.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND, PORT, HOME, RUNTIME, TOKEN = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
AS_CONFIGURED = os.environ.get("HEARTBEATS") == "configured"
BEAT = float(sys.argv[6]) if AS_CONFIGURED and len(sys.argv) > 6 else 0.5
UIN, NAME = 10001, "小红"
CODE = {"llbot": "temp/login-qrcode.png", "napcat": "cache/qrcode.png"}.get(KIND, "qrcode.png")
LOGIN = {"llbot": "data/qq-session-10001.json", "napcat": ".config/QQ"}.get(KIND, "session-store.json")


def png():
    """The smallest image there is, another one each time."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    note = chunk(b"tEXt", b"at\0" + str(time.time_ns()).encode())
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + note + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


class Account:
    """Where the login stands."""

    def __init__(self):
        self.connections = []
        self.lock = threading.Lock()
        self.was_online = False
        self.calls = 0
        self.state = None
        self.lie = ""
        self.become("online" if os.path.exists(os.path.join(HOME, LOGIN)) else "code")

    def become(self, state):
        if state.startswith("lie"):
            self.lie = state[4:]
            return
        code = os.path.join(RUNTIME, CODE)
        login = os.path.join(HOME, LOGIN)
        if state == "code":
            os.makedirs(os.path.dirname(code), exist_ok=True)
            with open(code + ".new", "wb") as image:
                image.write(png())
            os.replace(code + ".new", code)
        elif state == "expired":
            os.utime(code, (time.time() - 3600, time.time() - 3600))
        elif state == "online":
            os.makedirs(os.path.dirname(login), exist_ok=True)
            with open(login, "w") as saved:
                saved.write("{}")
            self.was_online = True
        elif state == "kicked":
            os.unlink(login)
        elif state == "crash":
            os._exit(3)
        elif state == "flood":
            for number in range(1000):
                self.tell(message(number))
            return
        elif state == "count":
            with open(os.path.join(HOME, "calls.new"), "w") as counted:
                counted.write(str(self.calls))
            os.replace(os.path.join(HOME, "calls.new"), os.path.join(HOME, "calls"))
            return
        self.state = state
        print(f"login: {state}", flush=True)
        if state != "mute" and not AS_CONFIGURED:
            self.tell(heartbeat(state))
        if state == "kicked" and KIND == "yogurt":
            self.tell({"time": int(time.time()), "self_id": UIN, "event_type": "bot_offline", "data": {"reason": "你的账号在别处登录"}})
        if state == "kicked" and KIND == "napcat":
            self.tell({"post_type": "notice", "notice_type": "bot_offline", "tag": "被挤下线",
                       "message": "你的账号在别处登录", "user_id": UIN, "self_id": UIN, "time": int(time.time())})

    def tell(self, event):
        if (KIND == "yogurt") != ("event_type" in event):
            return
        with self.lock:
            for connection in list(self.connections):
                try:
                    connection.sendall(frame(json.dumps(event)))
                except OSError:
                    self.connections.remove(connection)


def heartbeat(state):
    return {"post_type": "meta_event", "meta_event_type": "heartbeat", "interval": 500, "time": int(time.time()),
            "self_id": UIN, "status": {"online": state == "online", "good": state == "online"}}


def message(number):
    return {"post_type": "message", "message_type": "private", "sub_type": "friend", "message_id": number + 1, "user_id": 7,
            "self_id": UIN, "time": int(time.time()), "raw_message": f"flood {number}", "font": 0,
            "message": [{"type": "text", "data": {"text": f"flood {number}"}}], "sender": {"user_id": 7, "nickname": "friend"}}


def frame(text, opcode=1):
    data = text.encode() if isinstance(text, str) else text
    length = len(data)
    if length < 126:
        head = struct.pack(">BB", 0x80 | opcode, length)
    elif length < 65536:
        head = struct.pack(">BBH", 0x80 | opcode, 126, length)
    else:
        head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
    return head + data


def read_frame(stream):
    first = stream.read(2)
    if len(first) < 2:
        return None
    length = first[1] & 127
    if length == 126:
        length = struct.unpack(">H", stream.read(2))[0]
    elif length == 127:
        length = struct.unpack(">Q", stream.read(8))[0]
    mask = stream.read(4)
    data = bytes(byte ^ mask[at % 4] for at, byte in enumerate(stream.read(length)))
    return first[0] & 15, data


def uin():
    return 20002 if account.lie == "other" else UIN


def name():
    return "\x1b[2J\x1b]0;\x07" + "小" * 1_000_000 if account.lie == "name" else NAME


def answer_to(call):
    """The frame that answers a call."""
    echo = call.get("echo")
    if account.lie == "deep":
        return frame('{"status": "ok", "retcode": 0, "echo": ' + json.dumps(echo) + ', "data": ' + "[" * 1_000_000)
    if account.lie == "huge":
        return frame(b"x" * (40 << 20))
    return frame(json.dumps({**onebot(call["action"]), "echo": echo}))


def send_endless(connection):
    try:
        while True:
            connection.sendall(b"x" * 65536)
    except OSError:
        connection.close()


def onebot(action):
    if account.state != "online":
        return {"status": "failed", "retcode": 1404, "data": None, "message": "not logged in"}
    data = {
        "get_login_info": {"user_id": uin(), "nickname": name()},
        "get_status": {"online": True, "good": True},
        "get_version_info": {"app_name": "tests", "app_version": "1", "protocol_version": "v11"},
        "get_friend_list": [{"user_id": 7, "nickname": "friend", "remark": ""}],
        "get_group_list": [],
        "get_stranger_info": {"user_id": UIN, "nickname": NAME},
        "send_private_msg": {"message_id": 1},
    }.get(action)
    if data is None:
        return {"status": "failed", "retcode": 1404, "data": None, "message": "unknown action"}
    return {"status": "ok", "retcode": 0, "data": data}


def milky(action):
    if account.state != "online":
        return {"status": "failed", "retcode": -403, "message": "Bot is not logged in"}
    data = {
        "get_login_info": {"uin": uin(), "nickname": name()},
        "get_user_profile": {"nickname": NAME, "qid": "", "age": 0, "sex": "unknown", "remark": "", "bio": "", "level": 1,
                             "country": "", "city": "", "school": ""},
        "get_friend_list": {"friends": [{"user_id": 10007, "nickname": "friend", "remark": "", "sex": "unknown", "qid": "",
                                         "category": {"category_id": 0, "category_name": "我的好友"}}]},
        "get_group_list": {"groups": []},
        "send_private_message": {"message_seq": 1, "time": int(time.time())},
    }.get(action)
    if data is None:
        return {"status": "failed", "retcode": -404, "message": "unknown call"}
    return {"status": "ok", "retcode": 0, "data": data}


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        key = self.headers.get("Sec-WebSocket-Key")
        path, _, query = self.path.partition("?")
        if not key or KIND == "yogurt" and path != "/event":
            return self.answer(404, {})
        if not account.was_online and KIND != "yogurt":
            self.close_connection = True
            return self.connection.close()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}" and query != f"access_token={TOKEN}":
            return self.answer(401, {})
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        self.send_response(101)
        for name, value in [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept.decode())]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        lifecycle = {"post_type": "meta_event", "meta_event_type": "lifecycle", "sub_type": "connect", "self_id": UIN,
                     "time": int(time.time())}
        with account.lock:
            account.connections.append(self.connection)
            if KIND != "yogurt":
                self.connection.sendall(frame(json.dumps(lifecycle)))
        while True:
            got = read_frame(self.rfile)
            if got is None or got[0] == 8:
                return
            opcode, data = got
            with account.lock:
                if opcode == 9:
                    self.connection.sendall(frame(data, 10))
                elif opcode == 1 and account.state != "mute":
                    account.calls += 1
                    self.connection.sendall(answer_to(json.loads(data)))

    def do_POST(self):
        account.calls += 1
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        while account.state == "mute":
            time.sleep(0.05)
        if self.server.server_port == PORT:
            if KIND != "yogurt" or not self.path.startswith("/api/"):
                return self.answer(404, {})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.answer(401, {})
            return self.answer(200, milky(self.path.removeprefix("/api/")))
        if account.lie.startswith("redirect "):
            self.send_response(307)
            self.send_header("Location", account.lie.split(" ")[1])
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if self.path == "/api/auth/login":
            good = hashlib.sha256(f"{TOKEN}.napcat".encode()).hexdigest()
            if body.get("hash") != good:
                return self.answer(200, {"code": -1, "message": "token is invalid"})
            return self.answer(200, {"code": 0, "message": "success", "data": {"Credential": "credential"}})
        if self.headers.get("Authorization") != "Bearer credential":
            return self.answer(200, {"code": -1, "message": "Unauthorized"})
        if self.path == "/api/QQLogin/CheckLoginStatus":
            known = account.was_online
            code = "https://txz.qq.com/p?k=x" if account.state == "code" else ""
            return self.answer(200, {"code": 0, "message": "success", "data": {
                "isLogin": account.state == "online", "isOffline": known and account.state in ("offline", "kicked"),
                "qrcodeurl": code, "loginError": ""}})
        if self.path == "/api/QQLogin/GetQQLoginInfo":
            return self.answer(200, {"code": 0, "message": "success", "data": {"uin": str(UIN), "nick": NAME}})
        return self.answer(404, {})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def answer_on_socket():
    path = os.path.join(RUNTIME, "login.socket")
    if os.path.exists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=answer_line, args=[connection], daemon=True).start()


def answer_line(connection):
    line = connection.makefile().readline()
    account.calls += 1
    while account.state == "mute":
        time.sleep(0.05)
    # As LLBot does: it says that it is logged in while it is only offline, and shows a code after a kick.
    state = {"code": "need_qrcode", "kicked": "need_qrcode", "expired": "expired", "confirming": "waiting_confirm"}
    data = {"state": state.get(account.state, "logged_in")}
    if account.lie == "endless":
        return send_endless(connection)
    if account.lie == "deep":
        connection.sendall(b"[" * 1_000_000 + b"\n")
        return connection.close()
    if data["state"] == "logged_in":
        data.update(uin=str(uin()), nickname=name()[:100_000])
    answer = {"type": "response", "id": json.loads(line)["id"], "data": data}
    connection.sendall((json.dumps(answer) + "\n").encode())
    connection.close()


def beat():
    while True:
        time.sleep(BEAT)
        if account.state != "mute":
            account.tell(heartbeat(account.state))


event = os.path.join(HOME, "event")
if os.path.exists(event):
    os.unlink(event)
account = Account()
threads = [Server(("127.0.0.1", PORT), Api).serve_forever, beat]
if KIND == "napcat":
    threads.append(Server(("127.0.0.1", PORT + 1), Api).serve_forever)
if KIND == "llbot":
    threads.append(answer_on_socket)
for thread in threads:
    threading.Thread(target=thread, daemon=True).start()
print("up", flush=True)
while True:
    time.sleep(0.02)
    try:
        with open(event) as file:
            word = file.read().strip()
    except FileNotFoundError:
        continue
    # The test writes it under another name and moves it here, so it is complete.
    os.unlink(event)
    account.become(word)
