// The conversations that the frames of an account tell of. Nothing of the page is touched here.

/** How many messages and notices are kept over all conversations. */
const MOST = 1000;
/** How many frames are known by their number. The client shows its last 256 to whoever begins to look. */
const KNOWN = 600;

/** Uids come as texts and as numbers. */
export const same = (one, other) => Number(one) === Number(other);

/** The number of a message that a `reply` names, or that an event is about. */
const numberOf = (value) => Number(value ?? Number.NaN);

/** The parts of a message, which may come as one. */
function partsOf(message) {
    if (Array.isArray(message)) return message.filter((part) => part && typeof part === "object");
    return message === undefined || message === null ? [] : [{ type: "text", data: { text: String(message) } }];
}

/** The notices that a conversation shows: where they belong, what they say. */
const NOTICES = {
    poke: (event) => ({ who: event.user_id, whom: event.target_id }),
    group_increase: (event) => ({ who: event.user_id, whom: event.operator_id }),
    group_decrease: (event) => ({ who: event.user_id, whom: event.operator_id }),
    ban: (event) => ({ who: event.operator_id, whom: event.user_id }),
    lift_ban: (event) => ({ who: event.operator_id, whom: event.user_id }),
};

/** Which of the above a notice is. */
function kindOfNotice(event) {
    if (event.notice_type === "notify") return event.sub_type;
    return event.notice_type === "group_ban" ? event.sub_type : event.notice_type;
}

/** The conversations. */
export function chatModel() {
    let entries = [];
    const known = new Map();
    let last = 0;

    function keep(entry) {
        entries.push(entry);
        if (entries.length > MOST) entries = entries.slice(-MOST);
    }

    const find = (number) => entries.findLast((entry) => entry.number === number) ?? null;

    function message(event) {
        keep({
            number: numberOf(event.message_id),
            time: event.time,
            group: event.message_type === "group" ? event.group_id : null,
            // With whom, in a conversation of two.
            with: event.message_type === "group" ? null : (event.target_id ?? event.user_id),
            author: event.user_id,
            name: event.sender?.card || event.sender?.nickname || String(event.user_id),
            parts: partsOf(event.message),
            recalled: false,
            reactions: new Map(),
        });
    }

    function notice(event) {
        if (event.notice_type === "group_recall" || event.notice_type === "friend_recall") {
            const taken = find(numberOf(event.message_id));
            if (taken) taken.recalled = true;
            return;
        }
        if (event.notice_type === "group_msg_emoji_like") {
            const liked = find(numberOf(event.message_id));
            for (const like of liked ? (event.likes ?? []) : []) {
                if (like.count > 0) liked.reactions.set(String(like.emoji_id), like.count);
                else liked.reactions.delete(String(like.emoji_id));
            }
            return;
        }
        const kind = kindOfNotice(event);
        if (!Object.hasOwn(NOTICES, kind)) return;
        const { who, whom } = NOTICES[kind](event);
        const group = event.group_id ?? null;
        // A poke between two is in their conversation, whichever of them began.
        const others = [who, whom].filter((uid) => !same(uid, event.self_id));
        keep({ notice: kind, time: event.time, group, with: group === null ? (others[0] ?? who) : null, who, whom });
    }

    return {
        /**
         * Takes a frame in. Its `id` counts up from 1 while the client runs. Returns "known" for one that was here already, "new", or
         * "restart" for the first one of a client that was started anew, of which nothing before is left.
         */
        take(kind, id, text, data) {
            if (known.get(id) === text) return "known";
            const restart = id <= last;
            if (restart) {
                known.clear();
                entries = [];
            }
            last = id;
            known.set(id, text);
            if (known.size > KNOWN) known.delete(known.keys().next().value);
            const event = data.frame;
            if (event && kind === "sent") message(event);
            if (event && kind === "event") {
                if (event.post_type === "message") message(event);
                if (event.post_type === "notice") notice(event);
            }
            return restart ? "restart" : "new";
        },
        /** What is in a conversation: in a group, or of the account with a person. */
        of({ group, person }) {
            if (group !== null) return entries.filter((entry) => entry.group !== null && same(entry.group, group));
            return entries.filter((entry) => entry.group === null && same(entry.with, person));
        },
        find,
    };
}

/** The names of people and members, as chats show them. */
export function names(world) {
    const of = (uid, group) => {
        const there = world?.groups.find((known) => group !== null && same(known.uid, group));
        const member = there?.members.find((known) => same(known.uid, uid));
        const person = [world?.self, ...(world?.people ?? [])].find((known) => known && same(known.uid, uid));
        return member?.card || member?.name || person?.name || String(uid);
    };
    return { of };
}

/**
 * A text as parts of a message: each @ that is followed by the name of one of `members` becomes an `at`. `everybody` is what stands
 * for all members.
 */
export function partsOfText(text, members, everybody) {
    const targets = [
        ...everybody.map((name) => [name, "all"]),
        ...members.flatMap((member) => [member.card, member.name].filter(Boolean).map((name) => [name, String(member.uid)])),
    ];
    // The longest first: one name may begin with another one.
    targets.sort(([one], [other]) => other.length - one.length);
    const parts = [];
    let plain = "";
    const flush = () => {
        if (plain !== "") parts.push({ type: "text", data: { text: plain } });
        plain = "";
    };
    let at = 0;
    while (at < text.length) {
        const found = text[at] === "@" ? targets.find(([name]) => text.startsWith(name, at + 1)) : null;
        if (found) {
            flush();
            parts.push({ type: "at", data: { qq: found[1] } });
            at += 1 + found[0].length;
        } else {
            plain += text[at];
            at += 1;
        }
    }
    flush();
    return parts;
}
