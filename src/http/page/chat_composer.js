// Where a person of the sandbox's world writes.

import { partsOfText, same } from "./chat_model.js";
import { announce, el, setText } from "./dom.js";
import { size } from "./formats.js";
import { t } from "./texts.js";

/** The largest picture, in bytes, and how many a message may have: what a sandbox takes. */
const MAX_PICTURE = 10 * 1024 * 1024;
const MAX_PICTURES = 4;
/** How much all of them may have together: a call has at most 16 MiB, in which three bytes are four. */
const MAX_TOGETHER = 11 * 1024 * 1024;
/** How many texts that were sent can be had back. */
const MOST_SENT = 50;
/** What is taken as a picture. */
const PICTURES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
/** The longest text, in UTF-16 units. */
const MAX_TEXT = 20000;

/** A file as base64. */
function contentOf(file) {
    return new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.addEventListener("load", () => resolve(reader.result.slice(reader.result.indexOf(",") + 1)));
        reader.addEventListener("error", () => reject(reader.error));
        reader.readAsDataURL(file);
    });
}

/** The composer. `send` gets the parts of a message, and throws where it was not taken; `fail` and `clear` are for alerts. */
export function composer({ send, fail, clear }) {
    let members = [];
    let replied = null;
    let pictures = [];
    let busy = false;
    let able = false;
    /** Texts that were sent, and which of them is shown: their number, where a new one is written. */
    let sent = [];
    let shown = 0;

    const text = el("textarea", {
        id: "chat-text",
        rows: 2,
        maxLength: MAX_TEXT,
        placeholder: t("chat_write_hint"),
        "aria-label": t("chat_write"),
        on: { keydown: onKey, paste: takePasted },
    });
    const quote = el("div", { class: "draft-quote", hidden: true });
    const previews = el("ul", { class: "draft-pictures", hidden: true });
    // The button is what is seen; an own look of the field can't be had.
    const files = el("input", {
        id: "chat-files",
        type: "file",
        hidden: true,
        accept: PICTURES.join(),
        multiple: true,
        on: { change: takeChosen },
    });
    const choose = el("button", { type: "button", textContent: t("chat_add_picture"), on: { click: () => files.click() } });
    const mention = el("select", { class: "mention", "aria-label": t("chat_mention"), on: { change: mentionOne } });
    const submit = el("button", { type: "submit", class: "primary", textContent: t("chat_send") });
    const why = el("p", { class: "hint", hidden: true });
    const element = el(
        "form",
        { class: "composer", noValidate: true, on: { submit: onSubmit } },
        quote,
        previews,
        text,
        files,
        el("div", { class: "buttons" }, submit, choose, mention),
        why,
    );

    function onKey(event) {
        // While an input method is open, Enter takes its suggestion.
        if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            element.requestSubmit();
        }
        if (event.key === "Escape" && replied) replyTo(null);
        if (event.key === "ArrowUp" || event.key === "ArrowDown") goBack(event);
    }

    /** Bots are tried with the same words again and again: those that were sent come back, as in a terminal. */
    function goBack(event) {
        // What is being written is neither lost nor hard to move about in.
        if (text.value !== (sent[shown] ?? "") || event.isComposing) return;
        const to = shown + (event.key === "ArrowUp" ? -1 : 1);
        if (to < 0 || to > sent.length) return;
        event.preventDefault();
        shown = to;
        text.value = sent[shown] ?? "";
    }

    function mentionOne() {
        const name = mention.value;
        mention.value = "";
        if (name === "") return;
        text.setRangeText(`@${name} `, text.selectionStart, text.selectionEnd, "end");
        text.focus();
    }

    function takeChosen() {
        const chosen = [...files.files];
        files.value = "";
        return takePictures(chosen);
    }

    function takePasted(event) {
        const pasted = [...event.clipboardData.files].filter((file) => PICTURES.includes(file.type));
        if (pasted.length === 0) return;
        event.preventDefault();
        takePictures(pasted);
    }

    async function takePictures(chosen) {
        clear();
        for (const file of chosen) {
            const together = pictures.reduce((sum, picture) => sum + picture.size, file.size);
            if (file.size > MAX_PICTURE || together > MAX_TOGETHER) {
                fail(t("chat_picture_large", { name: file.name, most: size(MAX_PICTURE) }));
            } else if (pictures.length >= MAX_PICTURES) {
                fail(t("chat_pictures_many", { most: String(MAX_PICTURES) }));
            } else {
                try {
                    pictures.push({ name: file.name, size: file.size, url: URL.createObjectURL(file), content: await contentOf(file) });
                } catch {
                    fail(t("chat_picture_unreadable", { name: file.name }));
                }
            }
        }
        drawPictures();
        text.focus();
    }

    function drawPictures() {
        previews.hidden = pictures.length === 0;
        previews.replaceChildren(
            ...pictures.map((picture) =>
                el(
                    "li",
                    {},
                    el("img", { src: picture.url, alt: picture.name }),
                    el("button", {
                        type: "button",
                        class: "quiet",
                        textContent: t("chat_remove"),
                        "aria-label": t("chat_remove_picture", { name: picture.name }),
                        on: { click: () => removePicture(picture) },
                    }),
                ),
            ),
        );
    }

    function removePicture(picture) {
        URL.revokeObjectURL(picture.url);
        pictures = pictures.filter((other) => other !== picture);
        drawPictures();
        text.focus();
    }

    function replyTo(entry, summary = "") {
        replied = entry;
        quote.hidden = entry === null;
        quote.replaceChildren();
        if (entry === null) return;
        quote.append(
            el("span", { textContent: t("chat_replying", { name: entry.name, text: summary }) }),
            el("button", { type: "button", class: "quiet", textContent: t("cancel"), on: { click: () => replyTo(null) } }),
        );
        text.focus();
    }

    function draft() {
        const everybody = members.length > 0 ? ["all", t("chat_everybody")] : [];
        const parts = partsOfText(text.value.trimEnd(), members, everybody);
        for (const picture of pictures) parts.push({ type: "image", data: { file: `base64://${picture.content}` } });
        if (parts.length > 0 && replied) parts.unshift({ type: "reply", data: { id: String(replied.number) } });
        return parts;
    }

    function empty() {
        text.value = "";
        for (const picture of pictures) URL.revokeObjectURL(picture.url);
        pictures = [];
        drawPictures();
        replyTo(null);
    }

    async function onSubmit(event) {
        event.preventDefault();
        if (busy || !able) return;
        const parts = draft();
        if (parts.length === 0) return text.focus();
        clear();
        setBusy(true);
        try {
            const written = text.value.trimEnd();
            await send(parts);
            if (written !== "" && written !== sent.at(-1)) sent = [...sent, written].slice(-MOST_SENT);
            shown = sent.length;
            empty();
            announce(t("chat_sent"));
        } catch (problem) {
            // Where no answer came it may be there all the same: the conversation shows it then. The draft stays for the person to decide.
            fail(problem.status === 0 ? t("chat_maybe_sent") : problem.message);
        } finally {
            setBusy(false);
            text.focus();
        }
    }

    function setBusy(is) {
        busy = is;
        if (is) submit.setAttribute("aria-busy", "true");
        else submit.removeAttribute("aria-busy");
        setAble();
    }

    function setAble() {
        if (able && !busy) submit.removeAttribute("aria-disabled");
        else submit.setAttribute("aria-disabled", "true");
    }

    return {
        element,
        replyTo,
        /** Whom a text may name with an @, and why nothing can be sent, if so. */
        set({ present, person, refusal }) {
            able = refusal === null;
            setText(why, refusal ?? "");
            why.hidden = able;
            setAble();
            const now = present.filter((member) => !same(member.uid, person));
            if (JSON.stringify(now) === JSON.stringify(members) && mention.childElementCount > 0) return;
            members = now;
            mention.hidden = members.length === 0;
            mention.replaceChildren(
                el("option", { value: "", textContent: t("chat_mention") }),
                el("option", { value: t("chat_everybody"), textContent: t("chat_everybody") }),
                ...members.map((member) => {
                    const shown = member.card || member.name;
                    return el("option", { value: shown, textContent: shown });
                }),
            );
        },
        end: empty,
    };
}
