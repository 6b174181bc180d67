"""A bot for NoneBot, as its tutorial has one. NoneBot reads from the environment how it connects (DRIVER, HOST, PORT, ONEBOT_…).

It says in lines of JSON what happens to it; tests/it/bots reads them.
"""

import base64
import json

import nonebot
from nonebot import on_message, on_request
from nonebot.adapters.onebot.v11 import Adapter, Bot, FriendRequestEvent, GroupMessageEvent, MessageEvent, MessageSegment

# A GIF of one pixel.
PICTURE = base64.b64decode("R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs=")

nonebot.init()
driver = nonebot.get_driver()
driver.register_adapter(Adapter)


def tell(what, bot, **more):
    print(json.dumps({"what": what, "self": bot.self_id, **more}, ensure_ascii=False, default=str), flush=True)


@driver.on_bot_connect
async def connected(bot: Bot):
    tell("connected", bot, login=await bot.get_login_info())


@driver.on_bot_disconnect
async def disconnected(bot: Bot):
    tell("disconnected", bot)


messages = on_message()


@messages.handle()
async def answer(bot: Bot, event: MessageEvent):
    words = event.get_plaintext()
    group = event.group_id if isinstance(event, GroupMessageEvent) else None
    tell("heard", bot, words=words, user=event.user_id, group=group, id=event.message_id, name=event.sender.nickname,
         to_me=event.is_tome(), kinds=[segment.type for segment in event.original_message])
    if words == "ping":
        # Its answer to the event itself.
        sent = await bot.send(event, "pong [nonebot] & co")
        tell("answered", bot, id=sent["message_id"])
    elif words == "quote":
        sent = await bot.send(event, MessageSegment.text("你说了"), reply_message=True, at_sender=True)
        tell("answered", bot, id=sent["message_id"])
    elif words == "picture":
        sent = await bot.send(event, MessageSegment.image(PICTURE))
        tell("answered", bot, id=sent["message_id"])
    elif words == "recall":
        sent = await bot.send(event, "oops")
        await bot.delete_msg(message_id=sent["message_id"])
        tell("recalled", bot)
    elif words == "look":
        tell("saw", bot, friends=await bot.get_friend_list(), groups=await bot.get_group_list(),
             members=await bot.get_group_member_list(group_id=group) if group else None,
             status=await bot.get_status(), version=await bot.get_version_info())


requests = on_request()


@requests.handle()
async def approve(bot: Bot, event: FriendRequestEvent):
    await event.approve(bot)
    tell("approved", bot, user=event.user_id, comment=event.comment)


if __name__ == "__main__":
    nonebot.run()
