// Building and changing elements. Data becomes text only, never markup.

import { t } from "./texts.js";

/**
 * An element. Of `properties`, `on` has listeners, `class` and names with a dash are attributes, as are `for` and `role`; others are
 * properties of the element.
 */
export function el(tag, properties = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
        if (value === undefined || value === null) continue;
        if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
        else if (/^(class|for|role|scope)$|-/.test(name)) element.setAttribute(name, value);
        else element[name] = value;
    }
    element.append(...children.filter((child) => child !== null && child !== undefined));
    return element;
}

/** Sets a text only if it differs, so that what is unchanged is neither laid out nor read out again. */
export function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

/** Runs `work` once before the next frame, however often it is called; a hidden page has no frames and gets a timer. */
export function eachFrame(work) {
    let planned = false;
    const run = () => {
        if (!planned) return;
        planned = false;
        work();
    };
    // What was planned for a frame while the page became hidden would wait until it is shown again.
    document.addEventListener("visibilitychange", run);
    return () => {
        if (planned) return;
        planned = true;
        if (document.hidden) setTimeout(run, 200);
        else requestAnimationFrame(run);
    };
}

/** Says a text to screen readers, without showing it. */
export function announce(text) {
    const region = document.getElementById("announcements");
    // The same text again is only read out if the region changes.
    region.textContent = region.textContent === text ? `${text}\u00a0` : text;
}

/** A place for one message of failure, which the user can dismiss. */
export function alertBox() {
    // A live region has to be there before its text is, or it is not read out.
    const box = el("div", { class: "alerts", role: "alert" });
    return {
        element: box,
        show(text) {
            const close = el("button", {
                class: "quiet",
                type: "button",
                textContent: t("dismiss"),
                on: { click: () => box.replaceChildren() },
            });
            box.replaceChildren(el("div", { class: "alert" }, el("p", { textContent: text }), close));
        },
        clear: () => box.replaceChildren(),
    };
}

/** Asks before something is gone. Resolves to false unless the user said yes; then to what was chosen, where there is a `choice`. */
export function ask({ question, paragraphs, yes, choice }) {
    return new Promise((resolve) => {
        const options = choice?.options.map((value) => el("option", { value, textContent: value })) ?? [];
        const select = choice && el("select", {}, ...options);
        const dialog = el(
            "dialog",
            { "aria-labelledby": "question" },
            el("h2", { id: "question", textContent: question }),
            ...paragraphs.map((textContent) => el("p", { textContent })),
            ...(choice ? [el("label", { class: "choice" }, el("span", { textContent: choice.label }), select)] : []),
            el(
                "div",
                { class: "buttons end" },
                // The first button has the focus: a stray Enter changes nothing.
                el("button", { type: "button", textContent: t("cancel"), on: { click: () => dialog.close("no") } }),
                el("button", { type: "button", class: "danger", textContent: yes, on: { click: () => dialog.close("yes") } }),
            ),
        );
        dialog.addEventListener("close", () => {
            resolve(dialog.returnValue === "yes" && (choice ? select.value : true));
            dialog.remove();
        });
        document.body.append(dialog);
        dialog.showModal();
    });
}
