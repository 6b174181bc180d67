// A bot for Koishi, as its documentation has one. ONEBOT is the configuration of the adapter in JSON, PORT where Koishi's server
// listens for reverse WebSockets and posts. It says in lines of JSON what happens to it; tests/it/bots reads them.
import { createRequire } from 'node:module'

// What is imported is where NODE_PATH says, which only this heeds.
const require = createRequire(import.meta.url)
const { Context, h, Logger } = require('koishi')
const server = require('@koishijs/plugin-server')
const http = require('@koishijs/plugin-http')
const onebot = require('koishi-plugin-adapter-onebot')

Logger.targets.length = 0
const log = { colors: 0, print: (text) => console.error(text) }
Logger.targets.push(log)

// A GIF of one pixel.
const picture = 'R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs='
const tell = (what, bot, more) => console.log(JSON.stringify({ what, self: bot.selfId, ...more }))

const app = new Context()
app.plugin(http.default ?? http)
if (process.env.PORT) app.plugin(server.default ?? server, { host: '127.0.0.1', port: Number(process.env.PORT) })
app.plugin(onebot.default ?? onebot, JSON.parse(process.env.ONEBOT))

app.on('bot-status-updated', (bot) => {
  // 1: online.
  tell(bot.status === 1 ? 'connected' : 'disconnected', bot, { login: bot.user, error: bot.error?.message })
})

app.on('message', async (session) => {
  const texts = session.elements.filter((element) => element.type === 'text')
  // The adapter puts a space before a picture.
  const words = texts.map((element) => element.attrs.content).join('').trim()
  const group = session.isDirect ? null : session.guildId
  tell('heard', session.bot, { words, user: session.userId, group, id: session.messageId, name: session.author?.name,
    kinds: session.elements.map((element) => element.type) })
  if (words === 'ping') {
    const ids = await session.send('pong [koishi] & co')
    tell('answered', session.bot, { id: ids[0] })
  } else if (words === 'quote') {
    const ids = await session.send([h('quote', { id: session.messageId }), h.text('你说了')])
    tell('answered', session.bot, { id: ids[0] })
  } else if (words === 'picture') {
    const ids = await session.send(h.image(Buffer.from(picture, 'base64'), 'image/gif'))
    tell('answered', session.bot, { id: ids[0] })
  } else if (words === 'recall') {
    const ids = await session.send('oops')
    await session.bot.deleteMessage(session.channelId, ids[0])
    tell('recalled', session.bot, {})
  } else if (words === 'look') {
    const { bot } = session
    tell('saw', bot, {
      friends: (await bot.getFriendList()).data,
      groups: (await bot.getGuildList()).data,
      members: group ? (await bot.getGuildMemberList(group)).data : null,
      status: await bot.internal.getStatus(),
      version: await bot.internal.getVersionInfo(),
    })
  }
})

app.on('friend-request', async (session) => {
  await session.bot.handleFriendRequest(session.messageId, true)
  tell('approved', session.bot, { user: session.userId, comment: session.content })
})

// What a framework complains of fails the test.
process.on('unhandledRejection', (error) => console.log(JSON.stringify({ what: 'failed', why: String(error?.stack ?? error) })))
await app.start()
