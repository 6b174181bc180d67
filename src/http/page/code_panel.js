// The part of the status of an account that waits for a scan: the code, and a link for the person with the phone.

import * as api from "./api.js";
import { codeImage } from "./code.js";
import { announce, el } from "./dom.js";
import { time } from "./formats.js";
import { t } from "./texts.js";

/** How often the code is asked for, in milliseconds: while one is shown, and while none is there. */
const EVERY = 4000;
const EVERY_WITHOUT = 1000;

/** The panel. `fail` shows what went wrong; without `canChange` there is no link. */
export function codePanel({ name, canChange, fail }) {
    const waiting = el("p", { class: "muted", textContent: t("code_none") });
    const code = codeImage({ name, expired: () => ask() });
    const linkPlace = el("div", { class: "scan-link" });
    const linkButton = el("button", { type: "button", textContent: t("scan_link"), on: { click: makeLink } });
    const element = el(
        "section",
        { class: "code-panel", "aria-label": t("login_code_title"), hidden: true },
        waiting,
        code.element,
        canChange ? linkButton : null,
        linkPlace,
    );
    let timer = null;
    let shown = false;
    let asking = false;
    let making = false;

    async function ask() {
        clearTimeout(timer);
        if (!shown || asking) return;
        asking = true;
        let has = false;
        try {
            const found = await api.code(name);
            if (!shown) return;
            code.show(found);
            has = true;
        } catch (problem) {
            // Without an answer the code that is shown may still be good until its end.
            if (problem.status !== 0) code.hide();
            else has = true;
        } finally {
            asking = false;
        }
        waiting.hidden = !code.element.hidden;
        if (!shown) return;
        const old = code.element.querySelector(".over") !== null;
        timer = setTimeout(ask, has && !old ? EVERY : EVERY_WITHOUT);
    }

    async function makeLink() {
        if (making) return;
        making = true;
        linkButton.setAttribute("aria-disabled", "true");
        linkButton.textContent = t("scan_link_busy");
        try {
            showLink(await api.scanLink(name));
        } catch (problem) {
            fail(t("action_failed", { action: t("scan_link"), detail: problem.message }));
        } finally {
            making = false;
            linkButton.removeAttribute("aria-disabled");
            linkButton.textContent = t("scan_link");
        }
    }

    function showLink({ url, expires }) {
        const field = el("input", { id: "scan-url", value: url, readOnly: true, on: { focus: () => field.select() } });
        const copy = el("button", { type: "button", textContent: t("copy"), on: { click: () => copyLink(field, copy) } });
        const until = expires ? ` ${t("scan_link_until", { time: time(expires) })}` : "";
        linkPlace.replaceChildren(
            el("label", { for: "scan-url", textContent: t("scan_link") }),
            el("div", { class: "joined" }, field, copy),
            el("p", { class: "hint", textContent: t("scan_link_why") + until }),
        );
        field.focus();
    }

    async function copyLink(field, button) {
        let done = false;
        try {
            // There is no clipboard without TLS, except on this machine.
            await navigator.clipboard.writeText(field.value);
            done = true;
        } catch {
            field.focus();
            field.select();
            done = document.execCommand("copy");
        }
        button.textContent = t(done ? "copied" : "copy");
        announce(t(done ? "copied" : "copy_failed"));
        setTimeout(() => (button.textContent = t("copy")), 2000);
    }

    return {
        element,
        /** Shows the panel or hides it; each call while it is shown asks for the code. */
        set(waits) {
            if (shown && !waits) {
                code.hide();
                linkPlace.replaceChildren();
            }
            shown = waits;
            element.hidden = !waits;
            if (waits) ask();
            else clearTimeout(timer);
        },
        end() {
            shown = false;
            clearTimeout(timer);
            code.end();
        },
    };
}
