// A message as a chat program shows it. What a program has sent becomes text only, and pictures come from the sandbox alone.

import * as api from "./api.js";
import { same } from "./chat_model.js";
import { el } from "./dom.js";
import { fullTime, time } from "./formats.js";
import * as store from "./store.js";
import { t } from "./texts.js";

/** Where clients keep the files of messages. */
const FILE = /^http:\/\/127\.0\.0\.1:(\d+)\/sandbox\/file\/([0-9a-f]{64}(?:\.[a-z0-9]+)?)$/;
/** How much of a quoted message is shown, in characters. */
const QUOTED = 80;
const COLOURS = 6;

/** The address of a file by which the page may reach it: each client is asked through the controller. */
function fileAddress(name, url) {
    const [, port, file] = FILE.exec(url ?? "") ?? [];
    if (!file) return null;
    const owner = [...store.all().values()].find((account) => String(account.client.port) === port);
    return api.sandboxAddress(owner?.name ?? name, `file/${file}`);
}

/** A part in words, for quotes and for what can't be shown. */
function inWords(part, group, names) {
    const data = part.data ?? {};
    switch (part.type) {
        case "text":
            return String(data.text ?? "");
        case "at":
            return data.qq === "all" ? `@${t("chat_everybody")}` : `@${names.of(data.qq, group)}`;
        case "image":
            return t("chat_word_image");
        case "face":
            return t("chat_word_face", { id: data.id ?? "" });
        case "record":
            return t("chat_word_record");
        case "video":
            return t("chat_word_video");
        case "file":
            return t("chat_word_file", { name: data.name ?? data.file ?? "" });
        case "forward":
            return t("chat_word_forward");
        case "dice":
        case "rps":
            return t(`chat_word_${part.type}`, { result: data.result ?? "" });
        case "reply":
            return "";
        default:
            return `[${part.type}]`;
    }
}

/** A message in one line. */
export function summary(entry, names) {
    if (entry.recalled) return t("chat_recalled");
    const all = entry.parts.map((part) => inWords(part, entry.group, names)).join("").trim();
    const signs = [...all.replace(/\s+/g, " ")];
    return signs.length > QUOTED ? `${signs.slice(0, QUOTED).join("")}…` : signs.join("");
}

function quote(part, { names, find }) {
    const quoted = find(Number(part.data?.id));
    const text = quoted ? t("chat_quote", { name: quoted.name, text: summary(quoted, names) }) : t("chat_quote_gone");
    return el("blockquote", { textContent: text });
}

function picture(part, account) {
    const address = fileAddress(account, part.data?.url);
    if (!address) return el("span", { class: "word", textContent: t("chat_word_image") });
    const image = el("img", { alt: t("chat_picture"), src: address.href, loading: "lazy" });
    // It is shown small; in a tab of its own it has its size.
    const link = el("a", { href: address.href, target: "_blank", rel: "noopener" }, image);
    image.addEventListener("error", () => link.replaceWith(el("span", { class: "word", textContent: t("chat_picture_gone") })));
    return link;
}

function shownPart(part, entry, context) {
    if (part.type === "reply") return quote(part, context);
    if (part.type === "image") return picture(part, context.account);
    const text = inWords(part, entry.group, context.names);
    if (part.type === "text") return el("span", { textContent: text });
    if (part.type === "at") return el("span", { class: "at", textContent: text });
    const address = fileAddress(context.account, part.data?.url);
    if (address) return el("a", { href: address.href, download: "", textContent: text });
    return el("span", { class: "word", textContent: text });
}

/** A notice as a line of its own. */
function noticeLine(entry, names) {
    const values = { who: names.of(entry.who, entry.group), whom: names.of(entry.whom, entry.group) };
    return el(
        "li",
        { class: "said-notice" },
        el("span", { textContent: t(`chat_notice_${entry.notice}`, values), title: fullTime(entry.time) }),
    );
}

/**
 * One entry of a conversation. `context`: the account, the bot's uid, the person who is played, `names`, `find`, and what the
 * buttons do, which are not there for callers who only read.
 */
export function entryLine(entry, context) {
    if (entry.notice) return noticeLine(entry, context.names);
    const own = same(entry.author, context.person);
    const isBot = same(entry.author, context.bot);
    const content = el("div", { class: "bubble" }, ...entry.parts.map((part) => shownPart(part, entry, context)));
    const reactions = [...entry.reactions].map(([emoji, count]) => t("chat_reaction", { emoji, count: String(count) }));
    const buttons = [];
    const button = (key, act) =>
        buttons.push(
            el("button", {
                type: "button",
                class: "quiet",
                textContent: t(key),
                "aria-label": t("chat_of_message", { what: t(key), name: entry.name, text: summary(entry, context.names) }),
                on: { click: () => act(entry) },
            }),
        );
    if (context.reply && !entry.recalled) button("chat_reply", context.reply);
    if (context.recall && own && !entry.recalled) button("chat_recall", context.recall);
    return el(
        "li",
        { class: `said ${own ? "own" : ""} ${entry.recalled ? "recalled" : ""}` },
        el("span", {
            class: `face face-${Number(entry.author) % COLOURS}`,
            "aria-hidden": "true",
            textContent: [...entry.name][0] ?? "?",
        }),
        el(
            "div",
            { class: "saying" },
            el(
                "p",
                { class: "byline" },
                el("span", { class: "speaker", textContent: entry.name }),
                isBot ? el("span", { class: "tag", textContent: t("chat_bot") }) : null,
                el("time", { textContent: time(entry.time), title: fullTime(entry.time) }),
            ),
            entry.recalled ? el("del", {}, content) : content,
            entry.recalled ? el("p", { class: "hint", textContent: t("chat_recalled") }) : null,
            reactions.length > 0 ? el("p", { class: "hint", textContent: reactions.join(" ") }) : null,
            buttons.length > 0 ? el("div", { class: "message-buttons" }, ...buttons) : null,
        ),
    );
}
