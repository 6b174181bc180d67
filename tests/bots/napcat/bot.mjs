// A bot for node-napcat-ts, as its documentation has one; URL is where it connects, ACCESS_TOKEN its token. It says in lines of
// JSON what happens to it; tests/it/bots reads them.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

// What is imported is where NODE_PATH says, which only require() heeds.
const found = createRequire(import.meta.url).resolve('node-napcat-ts')
const { NCWebsocket, Structs } = await import(pathToFileURL(found))

const napcat = new NCWebsocket({
  baseUrl: process.env.URL,
  accessToken: process.env.ACCESS_TOKEN ?? '',
  throwPromise: true,
  reconnection: { enable: true, attempts: 1000, delay: 200 },
})

// A GIF of one pixel.
const picture = 'R0lGODlhAQABAAAAACwAAAAAAQABAAACAkwBADs='
let self
const tell = (what, more) => console.log(JSON.stringify({ what, self: String(self), ...more }))
process.on('unhandledRejection', (error) => tell('failed', { why: JSON.stringify(error?.stack ?? error) }))

napcat.on('socket.close', () => tell('disconnected', {}))
napcat.on('meta_event.lifecycle', async (event) => {
  self = event.self_id
  tell('connected', { sub_type: event.sub_type, login: await napcat.get_login_info() })
})
napcat.on('message', async (event) => {
  const words = event.message.map((segment) => segment.data.text ?? '').join('')
  const to = event.message_type === 'group' ? { group_id: event.group_id } : { user_id: event.user_id }
  tell('heard', {
    words, user: event.user_id, group: event.group_id ?? null, id: event.message_id, name: event.sender.nickname,
    kinds: event.message.map((segment) => segment.type),
  })
  if (words === 'ping') {
    const sent = await event.quick_action([Structs.text('pong [napcat] & co')])
    tell('answered', { id: sent?.message_id ?? null })
  } else if (words === 'picture') {
    const sent = await napcat.send_msg({ ...to, message: [Structs.image('base64://' + picture)] })
    tell('answered', { id: sent.message_id })
  } else if (words === 'recall') {
    const sent = await napcat.send_msg({ ...to, message: [Structs.text('oops')] })
    await napcat.delete_msg({ message_id: sent.message_id })
    tell('recalled', {})
  } else if (words === 'quote') {
    const message = [Structs.reply(event.message_id), Structs.text('你说了')]
    const sent = await napcat.send_msg({ ...to, message })
    tell('answered', { id: sent.message_id })
  } else if (words === 'look') {
    tell('saw', {
      friends: await napcat.get_friend_list(),
      groups: await napcat.get_group_list(),
      members: event.group_id ? await napcat.get_group_member_list({ group_id: event.group_id }) : null,
      status: await napcat.get_status(),
      version: await napcat.get_version_info(),
    })
  }
})
napcat.on('request.friend', async (event) => {
  await event.quick_action(true)
  tell('approved', { user: event.user_id, comment: event.comment })
})
await napcat.connect()
