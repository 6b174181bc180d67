// The page behind a link for scanning: one account's login code, for the person with the phone.

import { learnTime, Problem } from "./api.js";
import { codeImage } from "./code.js";
import { el, setText } from "./dom.js";
import { t } from "./texts.js";

/** How often the code is asked for while it is shown, in milliseconds. */
const EVERY = 3000;

const DONE = ["online", "running", "updating"];

const heading = el("h1", { textContent: t("scan_title_plain") });
const says = el("p", { class: "says", role: "status", textContent: t("scan_how") });
const button = el("button", { type: "button", class: "primary big", textContent: t("scan_show"), on: { click: show } });
const content = el("section", { class: "card" }, heading, says, button);
document.getElementById("main").append(content);
document.title = t("scan_title_plain");

let code = null;
let name = "";

async function ask(method) {
    let response;
    try {
        response = await fetch(location.href, { method, headers: { Accept: "application/json" }, credentials: "same-origin" });
    } catch {
        throw Problem.unreachable();
    }
    learnTime(response);
    if (!response.ok) throw await Problem.of(response);
    try {
        return await response.json();
    } catch {
        throw Problem.unreachable();
    }
}

/** Nothing more comes. */
function end(text) {
    code?.end();
    code?.element.remove();
    button.remove();
    setText(says, text);
}

/** Asks whose link it is. That shows no code, so a preview may do it. */
async function introduce() {
    try {
        const link = await ask("GET");
        name = link.name ?? "";
        if (name === "") return;
        setText(heading, t("scan_title", { name }));
        document.title = t("scan_title", { name });
    } catch (problem) {
        if (problem.status === 404 || problem.status === 410) end(t("scan_ended"));
    }
}

/** The code appears only after a press: chat programs open links to preview them. */
function show() {
    if (code) return;
    code = codeImage({ name });
    // The focus would be lost with the button.
    heading.tabIndex = -1;
    heading.focus();
    button.remove();
    setText(says, t("code_none"));
    content.append(code.element);
    poll();
}

async function poll() {
    try {
        const found = await ask("POST");
        if (DONE.includes(found.state)) return end(t("scan_done"));
        if (found.state === "confirming") {
            code.hide();
            setText(says, t("scan_confirming"));
        } else if (found.image) {
            code.show(found);
            setText(says, t("scan_now"));
        } else {
            code.hide();
            setText(says, t("scan_waiting"));
        }
    } catch (problem) {
        const none = problem.code === "no_code";
        if (!none && (problem.status === 404 || problem.status === 410)) return end(t("scan_ended"));
        if (none) code.hide();
        setText(says, none ? t("scan_waiting") : t("lost"));
    }
    setTimeout(poll, EVERY);
}

introduce();
