"""A bot for aiocqhttp, as its documentation has one: it serves WebSockets at /ws/ and posts at / on the port in PORT.

It says in lines of JSON what happens to it; tests/it/bots reads them. API_ROOT is where it calls actions by HTTP.
"""

import json
import os

from aiocqhttp import CQHttp, Event, MessageSegment

# A GIF of one pixel.
PICTURE = "R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs="

bot = CQHttp(api_root=os.environ.get("API_ROOT"), access_token=os.environ.get("ACCESS_TOKEN"), secret=os.environ.get("SECRET"))


def tell(what, event, **more):
    print(json.dumps({"what": what, "self": str(event.self_id), **more}, ensure_ascii=False), flush=True)


@bot.on_meta_event("lifecycle")
async def connected(event: Event):
    # By HTTP with one account there is no need to say which.
    tell("connected", event, sub_type=event.sub_type, login=await bot.get_login_info(self_id=event.self_id))


@bot.on_message
async def answer(event: Event):
    words = "".join(segment["data"]["text"] for segment in event.message if segment["type"] == "text")
    tell("heard", event, words=words, user=event.user_id, group=event.group_id, id=event.message_id,
         name=event.sender["nickname"], kinds=[segment["type"] for segment in event.message])
    if words == "ping":
        sent = await bot.send(event, "pong [aiocqhttp] & co")
        tell("answered", event, id=sent["message_id"])
    elif words == "quick":
        # A quick operation, which goes out as the answer to the post, or as an action on a WebSocket.
        return {"reply": "quickly", "at_sender": False}
    elif words == "quote":
        sent = await bot.send(event, MessageSegment.reply(event.message_id) + MessageSegment.text("你说了"))
        tell("answered", event, id=sent["message_id"])
    elif words == "picture":
        sent = await bot.send(event, MessageSegment.image("base64://" + PICTURE))
        tell("answered", event, id=sent["message_id"])
    elif words == "recall":
        sent = await bot.send(event, "oops")
        await bot.delete_msg(message_id=sent["message_id"], self_id=event.self_id)
        tell("recalled", event)
    elif words == "look":
        own = {"self_id": event.self_id}
        members = await bot.get_group_member_list(group_id=event.group_id, **own) if event.group_id else None
        tell("saw", event, friends=await bot.get_friend_list(**own), groups=await bot.get_group_list(**own), members=members,
             status=await bot.get_status(**own), version=await bot.get_version_info(**own))


@bot.on_request("friend")
async def approve(event: Event):
    tell("approved", event, user=event.user_id, comment=event.comment)
    return {"approve": True}


bot.run(host="127.0.0.1", port=int(os.environ["PORT"]))
