// The frames of OneBot that went to applications and came from them.

import { eachFrame, el, setText } from "./dom.js";
import { count, fullTime, timeOfDay } from "./formats.js";
import { t } from "./texts.js";

/** How many are kept. */
const MOST = 400;
/** How close to the end counts as being there, in pixels: browsers round. */
const CLOSE = 24;

/** How much of a message is shown before a frame is opened, in UTF-16 units. */
const MOST_GIST = 200;

const KINDS = ["event", "action", "answer"];

/** What a frame is about, in the words of the protocol. */
function headline(kind, frame) {
    if (!frame) return "";
    if (kind === "event") {
        return [frame.post_type, frame[`${frame.post_type}_type`], frame.sub_type].filter((word) => typeof word === "string").join(".");
    }
    const outcome = kind === "answer" ? ` ${frame.status ?? ""} ${frame.retcode ?? ""}` : "";
    return `${frame.action ?? ""}${outcome}`;
}

/** What a frame says, cut: a message, or what went wrong. */
function gist(kind, frame) {
    if (!frame) return "";
    const said = { event: frame.message, action: frame.params?.message, answer: frame.wording ?? frame.message }[kind];
    const parts = Array.isArray(said) ? said : [said];
    const words = parts.map((part) => (typeof part === "object" ? (part?.data?.text ?? `[${part?.type}]`) : (part ?? "")));
    return words.join("").replace(/\s+/g, " ").slice(0, MOST_GIST);
}

function line({ kind, data }) {
    // Data of programs becomes text only.
    const content = data.frame ? JSON.stringify(data.frame, null, 2) : t("chat_frame_too_long", { bytes: count(data.too_long ?? 0) });
    const element = el(
        "li",
        { class: `frame ${kind}` },
        el(
            "details",
            {},
            el(
                "summary",
                {},
                el("time", { textContent: timeOfDay(data.time), title: fullTime(data.time) }),
                el("span", { class: "kind", textContent: t(`chat_frame_${kind}`) }),
                el("span", { class: "what", textContent: headline(kind, data.frame) }),
                el("span", { class: "gist", textContent: gist(kind, data.frame) }),
            ),
            el("pre", { textContent: content }),
        ),
    );
    return { element, kind, words: `${kind} ${content}`.toLowerCase() };
}

/** The panel. */
export function framesPanel() {
    let lines = [];
    let waiting = [];
    let missed = 0;
    let paused = false;
    let atEnd = true;

    const list = el("ol");
    const box = el("div", { class: "frames-box", tabIndex: 0, role: "region", "aria-labelledby": "frames-title" }, list);
    const kinds = el(
        "select",
        { "aria-label": t("chat_frames_kind"), on: { change: refilter } },
        el("option", { value: "", textContent: t("chat_frames_all") }),
        ...KINDS.map((kind) => el("option", { value: kind, textContent: t(`chat_frame_${kind}`) })),
    );
    const search = el("input", {
        type: "search",
        placeholder: t("chat_frames_search"),
        autocomplete: "off",
        spellcheck: false,
        "aria-label": t("chat_frames_search"),
        on: { input: refilter },
    });
    const pause = el("button", { type: "button", textContent: t("chat_pause"), "aria-pressed": "false", on: { click: togglePause } });
    const note = el("p", { class: "muted note", textContent: t("chat_frames_none") });
    const element = el(
        "section",
        { class: "card frames-panel" },
        el("h2", { id: "frames-title", textContent: t("chat_frames") }),
        el("div", { class: "frames-tools" }, kinds, search, pause),
        note,
        box,
    );

    box.addEventListener("scroll", () => {
        atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < CLOSE;
    });

    function togglePause() {
        paused = !paused;
        pause.setAttribute("aria-pressed", String(paused));
        draw();
    }

    const matches = (one) =>
        (kinds.value === "" || kinds.value === one.kind) && one.words.includes(search.value.trim().toLowerCase());

    function refilter() {
        for (const one of lines) one.element.hidden = !matches(one);
        draw();
    }

    function noteText() {
        if (paused) return t("chat_paused", { count: count(waiting.length) });
        if (missed > 0) return t("chat_frames_missed", { count: count(missed) });
        if (lines.length === 0) return t("chat_frames_none");
        return lines.every((one) => one.element.hidden) ? t("chat_frames_no_match") : "";
    }

    const draw = eachFrame(() => {
        if (!paused) {
            const fresh = waiting.splice(0).map(line);
            for (const one of fresh) one.element.hidden = !matches(one);
            list.append(...fresh.map((one) => one.element));
            lines.push(...fresh);
            for (const one of lines.splice(0, Math.max(0, lines.length - MOST))) one.element.remove();
        }
        const text = noteText();
        setText(note, text);
        note.hidden = text === "";
        if (atEnd) box.scrollTop = box.scrollHeight;
    });

    return {
        element,
        add(kind, data) {
            waiting.push({ kind, data });
            if (waiting.length > MOST) waiting.shift();
            draw();
        },
        /** So many did not come: this page reads too slowly. */
        miss(amount) {
            missed += amount;
            draw();
        },
        /** The client was started anew. */
        clear() {
            list.replaceChildren();
            [lines, waiting, missed] = [[], [], 0];
            draw();
        },
    };
}
