// The log of an account, which follows.

import * as api from "./api.js";
import { eachFrame, el, setText } from "./dom.js";
import { fullTime, timeOfDay } from "./formats.js";
import { openStream } from "./stream.js";
import { t } from "./texts.js";

/** How many lines are kept. */
const MOST = 1000;
/** How close to the end counts as being there, in pixels: browsers round. */
const CLOSE = 24;

const SOURCES = ["client", "implementation", "controller"];

function line(entry) {
    const { priority } = entry;
    const level = priority <= 3 ? "error" : priority === 4 ? "warning" : null;
    const from = SOURCES.includes(entry.from) ? t(`from_${entry.from}`) : String(entry.from ?? "");
    return el(
        "li",
        { class: `entry ${level ?? ""}` },
        el("time", { textContent: timeOfDay(entry.time), title: fullTime(entry.time) }),
        el("span", { class: "from", textContent: from }),
        el(
            "span",
            { class: "message" },
            // Said in a word as well, since a colour alone says nothing to many.
            level ? el("b", { textContent: `${t(`priority_${level}`)}: ` }) : null,
            String(entry.message),
        ),
    );
}

/** The panel. */
export function logPanel(name) {
    const lines = el("ol");
    // It can be scrolled by keyboard. It is no live region: a log would never let a screen reader finish.
    const box = el("div", { class: "log", tabIndex: 0, role: "region", "aria-labelledby": "log-title" }, lines);
    const note = el("p", { class: "muted note", textContent: t("log_empty") });
    const end = el("button", { type: "button", class: "to-end", textContent: t("log_end"), hidden: true, on: { click: toEnd } });
    const element = el(
        "section",
        { class: "card log-panel" },
        el("h2", { id: "log-title", textContent: t("log") }),
        note,
        el("div", { class: "log-frame" }, box, end),
    );
    let waiting = [];
    let atEnd = true;
    let begin = false;
    let lost = false;
    let stream = null;
    let exists = false;

    box.addEventListener("scroll", () => {
        atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < CLOSE;
        end.hidden = atEnd;
    });

    function toEnd() {
        box.scrollTop = box.scrollHeight;
        box.focus({ preventScroll: true });
    }

    const draw = eachFrame(() => {
        const fresh = waiting.splice(0);
        if (begin && fresh.length > 0) lines.replaceChildren();
        if (fresh.length > 0) begin = false;
        lines.append(...fresh.map(line));
        while (lines.childElementCount > MOST) lines.firstElementChild.remove();
        setText(note, lost ? t("log_lost") : t("log_empty"));
        note.hidden = !lost && lines.childElementCount > 0;
        box.parentElement.hidden = lines.childElementCount === 0;
        if (atEnd) box.scrollTop = box.scrollHeight;
    });

    function open() {
        if (stream) return;
        stream = openStream(api.logAddress(name), {
            opened: () => {
                // A stream begins with the last lines: those that are here would be there twice.
                [begin, lost] = [true, false];
                waiting = [];
                draw();
            },
            lost: () => {
                lost = true;
                draw();
            },
            events: {
                entry: (entry) => {
                    waiting.push(entry);
                    // A hidden page draws seldom.
                    if (waiting.length > MOST) waiting.shift();
                    draw();
                },
            },
        });
    }

    function close() {
        stream?.close();
        stream = null;
    }

    /** Browsers allow six connections to a server over all tabs, and each log takes one. */
    function visible() {
        if (document.hidden || !exists) close();
        else open();
    }

    document.addEventListener("visibilitychange", visible);
    return {
        element,
        /** Follows while there is such an account. */
        set(there) {
            if (there === exists) return;
            exists = there;
            visible();
            draw();
        },
        end() {
            document.removeEventListener("visibilitychange", visible);
            close();
        },
    };
}
