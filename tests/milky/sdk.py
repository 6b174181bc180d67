"""Drives the tests' server of Milky by milky-python-sdk, whose models fail where an answer or an event is not as they have it.

    sdk.py URL TOKEN

It makes each call that the client makes, then takes the events of the test in each way that the SDK has, one after the other.
"""

import asyncio
import faulthandler
import sys

from milky import EventType, MilkyBot, MilkyClient
from milky.client import MilkyError, MilkyHttpError
from milky.models import (
    FaceSegment, FaceSegmentData, FriendMessage, GroupMessage, MentionAllSegment, MentionSegment, MessageEvent, MilkyEvent,
    OutgoingFaceSegment, OutgoingTextSegment, ReplySegment, Role, Sex, TempMessage, TextSegment, TextSegmentData)

# What waits for ever says where.
faulthandler.dump_traceback_later(300, exit=True)
URL, TOKEN = sys.argv[1:]
NOTICES = [EventType.GROUP_MEMBER_INCREASE, EventType.GROUP_MEMBER_DECREASE, EventType.GROUP_ADMIN_CHANGE,
           EventType.GROUP_NAME_CHANGE, EventType.GROUP_FILE_UPLOAD, EventType.BOT_OFFLINE]
LAST = EventType.BOT_OFFLINE


def same(is_, wanted):
    assert is_ == wanted, f"{is_!r} instead of {wanted!r}"


def refused(error, call, *parameters):
    try:
        call(*parameters)
    except Exception as refusal:
        same((type(refusal), getattr(refusal, "status_code", None)), error)
        return
    raise AssertionError(f"{call} was not refused")


def call(client):
    login = client.get_login_info()
    same((login.uin, login.nickname), (10000, "机器人"))
    profile = client.get_user_profile(99)
    same((profile.nickname, profile.sex, profile.age, profile.qid), ("陌生99", Sex.MALE, 1, ""))
    friends = client.get_friend_list()
    same([(it.user_id, it.nickname, it.remark, it.category.category_name) for it in friends],
         [(7, "小红", "红红", "我的好友"), (8, "李雷", "", "同学")])
    groups = client.get_group_list(no_cache=True)
    same([(it.group_id, it.group_name, it.member_count, it.max_member_count) for it in groups],
         [(5, "五群", 5, 200), (6, "六群", 2, 500)])
    members = client.get_group_member_list(5)
    same([(it.user_id, it.role) for it in members],
         [(10000, Role.ADMIN), (7, Role.MEMBER), (9, Role.OWNER), (11, Role.ADMIN), (12, Role.MEMBER)])
    member = client.get_group_member_info(5, 7)
    same(member, members[1])
    same((member.card, member.level, member.sex, member.join_time, member.last_sent_time),
         ("红", 3, Sex.FEMALE, 1_500_000_000, 1_600_000_000))
    message = [OutgoingTextSegment(data=TextSegmentData(text="你好")), OutgoingFaceSegment(data=FaceSegmentData(face_id="14"))]
    for send, to in [(client.send_private_message, 7), (client.send_group_message, 5)]:
        sent = send(to, message)
        same((sent.message_seq, sent.time), (2_000_000_001, 1_700_000_000))
    client.set_group_member_mute(5, 12, 600)
    client.kick_group_member(5, 12, reject_add_request=True)
    # One who is no member.
    refused((MilkyError, None), client.get_group_member_info, 5, 99)


def check(events):
    """These are all that the test tells, in its order."""
    friend, group, temporary, *notices = events
    same([it.event_type for it in notices], NOTICES)
    same([type(it.data) for it in (friend, group, temporary)], [FriendMessage, GroupMessage, TempMessage])
    same((friend.data.peer_id, friend.data.sender_id, friend.data.friend.remark), (7, 7, "红红"))
    same((group.data.peer_id, group.data.group.group_name, group.data.group_member.role), (5, "五群", Role.OWNER))
    same((temporary.data.peer_id, temporary.data.group.group_id), (12, 5))
    same([type(it) for it in friend.data.segments],
         [ReplySegment, MentionSegment, MentionAllSegment, FaceSegment, TextSegment])
    same((friend.data.segments[1].data.user_id, friend.data.segments[3].data.face_id), (8, "14"))
    same(group.to_text(add_sender=True), "[群主]: 一")
    data = {it.event_type: it.data for it in notices}
    same(data[EventType.GROUP_ADMIN_CHANGE], {"group_id": 5, "user_id": 12, "operator_id": 9, "is_set": True})
    same(data[EventType.GROUP_NAME_CHANGE]["new_group_name"], "新名")
    same(data[EventType.GROUP_FILE_UPLOAD]["file_name"], "f.txt")
    same(data[EventType.BOT_OFFLINE], {"reason": "被挤下线"})


def typed(event):
    is_message = event["event_type"] == EventType.MESSAGE_RECEIVE
    return (MessageEvent if is_message else MilkyEvent).model_validate(event)


class Enough(Exception):
    pass


def by_web_socket(client):
    events = []

    def take(event):
        events.append(typed(event))
        if events[-1].event_type == LAST:
            raise Enough

    try:
        client.events_ws(take)
    except Enough:
        check(events)
        return
    raise AssertionError("the connection was closed")


def by_sse(client):
    events = []
    for event in client.events_sse():
        events.append(typed(event))
        if events[-1].event_type == LAST:
            check(events)
            return
    raise AssertionError("the connection was closed")


async def by_bot():
    """The SDK's framework, which has its own way to call and to read events."""
    bot, events, ended = MilkyBot(URL, TOKEN), [], asyncio.Event()

    async def take(event):
        events.append(event)
        if event.event_type == LAST:
            ended.set()

    for kind in EventType:
        bot.on(kind)(take)
    running = asyncio.ensure_future(bot.run())
    await asyncio.wait([running, asyncio.ensure_future(ended.wait())], return_when=asyncio.FIRST_COMPLETED)
    check(events)
    same(bot.bot_id, 10000)
    running.cancel()


with MilkyClient(URL, TOKEN) as client:
    call(client)
    for token in ["falsch", None]:
        stranger = MilkyClient(URL, token)
        refused((MilkyHttpError, 401), stranger.get_login_info)
        refused((MilkyHttpError, 401), lambda: next(stranger.events_sse()))
        # The exception is that of the library for WebSockets.
        reasons = []
        stranger.events_ws(lambda _: None, reasons.append)
        same([it.response.status_code for it in reasons], [401])
    by_web_socket(client)
    by_sse(client)
    asyncio.run(by_bot())
