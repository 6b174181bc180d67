// The chat page of an account in the sandbox: a person of its world writes, and sees what the account and its bot do.

import * as api from "./api.js";
import { composer } from "./chat_composer.js";
import { entryLine, summary } from "./chat_message.js";
import { chatModel, names, same } from "./chat_model.js";
import { alertBox, eachFrame, el, setText } from "./dom.js";
import { framesPanel } from "./frames_panel.js";
import { accountAddress } from "./list.js";
import * as store from "./store.js";
import { openStream } from "./stream.js";
import { t } from "./texts.js";

/** How close to the end counts as being there, in pixels: browsers round. */
const CLOSE = 24;
/** Changes of the world come in bursts; it is asked for once after all of them. */
const ASK_AFTER = 300;
/** How often it is asked for besides: who has a client by now is in no frame. And while no bot is there. In milliseconds. */
const ASK_EVERY = 10000;
const ASK_ALONE = 1000;

/** What `Conversation with` has for the account itself, among the uids of groups. */
const WITH_BOT = "";

/** What stands before a choice in which the bot has said something that was not looked at. */
const UNREAD = "● ";

/** Sets the choices of a field, and keeps what is chosen if it is still there; at first that is `wanted`. */
function setChoices(select, choices, wanted) {
    const now = JSON.stringify(choices);
    if (select.dataset.choices === now) return;
    const chosen = select.dataset.choices === undefined ? wanted : select.value;
    select.dataset.choices = now;
    select.replaceChildren(...choices.map(([value, textContent]) => el("option", { value, textContent })));
    if (choices.some(([value]) => value === chosen)) select.value = chosen;
}

/** Who wrote where in this tab, for a page that is loaded again. Browsers may refuse to keep it. */
function remembered(name) {
    try {
        return JSON.parse(sessionStorage.getItem(`chat ${name}`)) ?? {};
    } catch {
        return {};
    }
}

function remember(name, chosen) {
    try {
        sessionStorage.setItem(`chat ${name}`, JSON.stringify(chosen));
    } catch {
        // It is a convenience.
    }
}

/** The address of an account for bots. */
function botAddress(name) {
    const url = api.address(`/clients/${encodeURIComponent(name)}/onebot/v11/ws`);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    return url.href;
}

/** The view. `canChange` says whether the caller may speak for a person. */
export function chatView({ name, canChange }) {
    const model = chatModel();
    let world = null;
    let trouble = null;
    let lost = false;
    let atEnd = true;
    let ended = false;
    let stream = null;
    let asking = null;
    let asked = 0;
    const before = remembered(name);
    /** Where the bot has said something since this page was opened that was not looked at: see `keyOf`. */
    const unread = new Set();
    const opened = Math.floor(api.now());

    const heading = el("h1", { id: "heading", tabIndex: -1, textContent: t("chat_title", { name }) });
    const alerts = alertBox();
    const note = el("p", { class: "card note", role: "status" });
    const person = el("select", { id: "chat-person", on: { change: chosen } });
    const place = el("select", { id: "chat-place", on: { change: chosen } });
    const poke = canChange
        ? el("button", { type: "button", textContent: t("chat_poke"), on: { click: () => act("poke", inPlace()) } })
        : null;
    const alone = el("p", { class: "hint alone", role: "status" });
    const list = el("ol");
    const box = el("div", { class: "chat-box", tabIndex: 0, role: "log", "aria-label": t("chat_conversation") }, list);
    const none = el("p", { class: "muted none", textContent: t("chat_none") });
    const write = canChange ? composer({ send, fail: alerts.show, clear: alerts.clear }) : null;
    const readOnly = canChange ? null : el("p", { class: "hint", textContent: t("chat_read_only") });
    const field = (label, select) => el("div", { class: "field" }, el("label", { for: select.id, textContent: label }), select);
    const frames = framesPanel();
    const present = el(
        "div",
        { class: "chat", hidden: true },
        el(
            "section",
            { class: "card chat-panel", "aria-label": t("chat_conversation") },
            el("div", { class: "chat-top" }, field(t("chat_you_are"), person), field(t("chat_place"), place), poke),
            alone,
            el("div", { class: "chat-frame" }, box, none),
            write?.element ?? readOnly,
        ),
        frames.element,
    );
    const element = el(
        "section",
        {},
        el("a", { class: "back", href: accountAddress(name), textContent: t("chat_back") }),
        el("div", { class: "top" }, heading),
        alerts.element,
        note,
        present,
    );

    let top = 0;
    box.addEventListener("scroll", () => {
        const isThere = box.scrollHeight - box.scrollTop - box.clientHeight < CLOSE;
        // Only those who scroll up leave the end. A picture that comes, or a quote below, moves it away just as well.
        atEnd = isThere || (atEnd && box.scrollTop >= top);
        top = box.scrollTop;
    });

    const toEnd = () => {
        if (atEnd) box.scrollTop = box.scrollHeight;
    };
    const sizes = new ResizeObserver(toEnd);
    for (const sized of [box, list]) sizes.observe(sized);

    const group = () => (place.value === WITH_BOT ? null : place.value);
    const inPlace = () => (group() === null ? {} : { group_id: group() });
    const groupNow = () => world?.groups.find((known) => known.uid === group()) ?? null;

    function send(parts) {
        return api.asPerson(name, person.value, "say", { ...inPlace(), message: parts });
    }

    async function act(what, params) {
        alerts.clear();
        try {
            await api.asPerson(name, person.value, what, params);
        } catch (problem) {
            alerts.show(problem.status === 0 ? t("chat_maybe_done") : problem.message);
        }
    }

    function chosen() {
        atEnd = true;
        write?.replyTo(null);
        draw();
        remember(name, { person: person.value, place: place.value });
    }

    /** Where a message of the bot belongs: a group, or a person. */
    const keyOf = (frame) => (frame.message_type === "group" ? `group ${frame.group_id}` : `person ${frame.target_id}`);
    const keyShown = () => (group() === null ? `person ${person.value}` : `group ${group()}`);

    /** Why the person can't speak. */
    function refusal() {
        if (trouble || !world?.online) return t("chat_offline");
        const speaks = world.people.find((known) => known.uid === person.value)?.speaks;
        if (speaks === undefined) return t("chat_nobody");
        return speaks === "client" ? t("chat_has_client") : null;
    }

    function drawChoices() {
        const friends = world.people.filter((known) => known.friend || world.groups.some((one) => isIn(one, known.uid)));
        // Those who have a client of their own last: they speak for themselves.
        const ready = friends.filter((known) => known.speaks !== "client");
        const people = [...ready, ...friends.filter((known) => known.speaks === "client")];
        unread.delete(keyShown());
        const mark = (key) => (unread.has(key) ? UNREAD : "");
        // What was said to the person who is played is marked at the place.
        const personMark = (uid) => (uid === person.value ? "" : mark(`person ${uid}`));
        const personText = ({ name, uid }) => personMark(uid) + t("chat_person", { name, uid });
        setChoices(person, people.map((known) => [known.uid, personText(known)]), before.person);
        const there = world.groups.filter((one) => isIn(one, person.value) && isIn(one, world.self.uid));
        const isFriend = world.people.find((known) => known.uid === person.value)?.friend;
        const botText = mark(`person ${person.value}`) + t("chat_with_bot", { name: world.self.name });
        const bot = isFriend ? [[WITH_BOT, botText]] : [];
        const groupText = ({ name, uid }) => mark(`group ${uid}`) + t("chat_in_group", { name });
        setChoices(place, [...bot, ...there.map((one) => [one.uid, groupText(one)])], before.place);
    }

    const isIn = (one, uid) => one.members.some((member) => same(member.uid, uid));

    /** What is there to be said instead of the chat, or above it. */
    function noteText() {
        const account = store.get(name);
        if (!account) return store.isComplete() ? t("no_account", { name }) : t("chat_loading");
        if (account.backend && account.backend !== "sandbox") return t("chat_no_sandbox");
        if (trouble) return trouble;
        if (!world) return t("chat_loading");
        return lost ? t("chat_lost") : "";
    }

    let shown = [];

    const draw = eachFrame(() => {
        if (ended) return;
        const says = noteText();
        setText(note, says);
        note.hidden = says === "";
        present.hidden = !world;
        if (!world) return;
        drawChoices();
        const refused = refusal();
        setText(alone, world.applications === 0 ? t("chat_alone", { address: botAddress(name) }) : "");
        alone.hidden = world.applications !== 0;
        write?.set({ present: groupNow()?.members ?? [], person: person.value, refusal: refused });
        if (poke) {
            if (refused) poke.setAttribute("aria-disabled", "true");
            else poke.removeAttribute("aria-disabled");
        }
        drawEntries(refused);
    });

    function drawEntries(refused) {
        const known = names(world);
        const context = {
            account: name,
            bot: world.self.uid,
            person: person.value,
            names: known,
            find: model.find,
            reply: canChange && !refused ? (entry) => write.replyTo(entry, summary(entry, known)) : null,
            recall: canChange && !refused ? (entry) => act("recall", { message_id: entry.number }) : null,
        };
        const whole = JSON.stringify([person.value, place.value, refused, world.self, world.people, groupNow()?.members]);
        const fresh = model.of({ group: group(), person: person.value }).map((entry) => ({
            entry,
            // A line is drawn anew only if something of it changes: so it keeps the focus, and is not read out again.
            state: JSON.stringify([whole, entry.recalled, [...(entry.reactions ?? [])]]),
        }));
        const before = new Map(shown.map((line) => [line.entry, line]));
        shown = fresh.map(({ entry, state }) => {
            const line = before.get(entry);
            if (line?.state === state) return line;
            return { entry, state, element: entryLine(entry, context) };
        });
        const stay = new Set(shown.map((line) => line.element));
        for (const element of [...list.children]) if (!stay.has(element)) element.remove();
        shown.forEach((line, at) => {
            if (list.children[at] !== line.element) list.insertBefore(line.element, list.children[at] ?? null);
        });
        none.hidden = shown.length > 0;
        toEnd();
    }

    async function ask() {
        clearTimeout(asking);
        asking = null;
        asked = Date.now();
        try {
            world = await api.sandboxWorld(name);
            trouble = null;
        } catch (problem) {
            if (problem.status === 401) return;
            trouble = problem.status === 0 ? null : t("chat_not_there", { why: problem.message });
        }
        if (!ended) draw();
    }

    function askSoon() {
        asking ??= setTimeout(ask, ASK_AFTER);
    }

    function took(kind, data, { lastEventId, data: text }) {
        const how = model.take(kind, Number(lastEventId), text, data);
        if (how === "known") return;
        if (how === "restart") frames.clear();
        // What the account wrote is in no frame of its own: an action and its answer tell it.
        if (kind !== "sent") frames.add(kind, data);
        const { post_type: type } = data.frame ?? {};
        const isLive = data.time >= opened;
        if (kind === "sent" && data.frame && isLive && keyOf(data.frame) !== keyShown()) unread.add(keyOf(data.frame));
        if (kind === "event" && (type === "notice" || type === "request")) askSoon();
        draw();
    }

    function open() {
        if (stream) return;
        const listen = (kind) => [kind, (data, event) => took(kind, data, event)];
        stream = openStream(api.sandboxAddress(name, "frames"), {
            opened: () => {
                lost = false;
                ask();
            },
            lost: () => {
                lost = true;
                draw();
            },
            // A controller that asks for a token, or an account that is gone, is told by this call, and not by a stream.
            before: ask,
            events: {
                ...Object.fromEntries(["event", "action", "answer", "sent"].map(listen)),
                missed: ({ count }) => frames.miss(Number(count) || 0),
            },
        });
    }

    function close() {
        stream?.close();
        stream = null;
    }

    /** Browsers allow six connections to a server over all tabs, and each stream takes one. */
    function visible() {
        if (document.hidden) close();
        else open();
    }

    document.addEventListener("visibilitychange", visible);
    const unsubscribe = store.subscribe((changed) => {
        if (changed.has(name)) askSoon();
        draw();
    });
    const timer = setInterval(() => {
        const isDue = world?.applications === 0 || Date.now() - asked >= ASK_EVERY;
        if (isDue && !document.hidden) askSoon();
    }, ASK_ALONE);
    ask();
    visible();
    draw();
    return {
        element,
        heading,
        title: t("chat_title", { name }),
        end() {
            ended = true;
            close();
            unsubscribe();
            clearInterval(timer);
            sizes.disconnect();
            clearTimeout(asking);
            document.removeEventListener("visibilitychange", visible);
            write?.end();
        },
    };
}
