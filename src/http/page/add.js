// The form for a new account.

import * as api from "./api.js";
import { alertBox, el } from "./dom.js";
import * as store from "./store.js";
import { t } from "./texts.js";

/** The longest name, in bytes of UTF-8. The controller has the last word on all rules. */
const NAME_MAX = 48;
/** Parameters that are common, as suggestions. */
const COMMON = ["implementation", "uin", "backend", "onebot_url", "milky_url", "post_api", "log_level"];

let forms = 0;

function nameMistake(name) {
    if (name === "") return t("name_empty");
    if (new TextEncoder().encode(name).length > NAME_MAX) return t("name_long");
    if (/[/\p{Cc}]/u.test(name)) return t("name_signs");
    if (store.get(name)) return t("name_taken");
    return null;
}

/** The form by itself: it is in a view of its own, and in place of an empty list. */
export function addForm() {
    const id = `form${(forms += 1)}`;
    const alerts = alertBox();
    const name = el("input", {
        id: `${id}-name`,
        autocomplete: "off",
        spellcheck: false,
        required: true,
        "aria-describedby": `${id}-name-hint ${id}-name-mistake`,
    });
    const mistake = el("p", { id: `${id}-name-mistake`, class: "mistake", role: "alert" });
    const rows = el("div", { class: "parameters" });
    const more = el("button", {
        type: "button",
        class: "quiet",
        textContent: t("add_parameter"),
        on: { click: () => addRow(true) },
    });
    const atOnce = el("input", { type: "checkbox", id: `${id}-start`, checked: true });
    const submit = el("button", { type: "submit", class: "primary", textContent: t("add") });
    let busy = false;

    function addRow(focus) {
        const key = el("input", { class: "key", autocomplete: "off", spellcheck: false });
        key.setAttribute("list", `${id}-common`);
        const value = el("input", { class: "value", autocomplete: "off", spellcheck: false });
        const remove = el("button", { type: "button", class: "quiet", textContent: "×", on: { click: () => removeRow(row) } });
        const row = el(
            "div",
            { class: "parameter" },
            key,
            el("span", { class: "muted", "aria-hidden": "true", textContent: "=" }),
            value,
            remove,
        );
        rows.append(row);
        number();
        if (focus) key.focus();
    }

    function removeRow(row) {
        const next = row.nextElementSibling ?? row.previousElementSibling;
        row.remove();
        number();
        (next?.querySelector(".key") ?? more).focus();
    }

    function number() {
        [...rows.children].forEach((row, at) => {
            row.querySelector(".key").setAttribute("aria-label", t("parameter_key", { number: at + 1 }));
            row.querySelector(".key").placeholder = t("parameter_key_column");
            row.querySelector(".value").setAttribute("aria-label", t("parameter_value", { number: at + 1 }));
            row.querySelector(".value").placeholder = t("parameter_value_column");
            row.querySelector("button").setAttribute("aria-label", t("remove_parameter", { number: at + 1 }));
        });
    }

    /** The parameters; null after a mistake, which is shown. */
    function parameters() {
        const found = new Map();
        for (const row of rows.children) {
            const [key, value] = [row.querySelector(".key"), row.querySelector(".value")];
            const word = key.value.trim();
            if (word === "" && value.value === "") continue;
            const wrong = word === "" ? t("parameter_no_key") : found.has(word) ? t("parameter_twice", { key: word }) : null;
            if (wrong) {
                alerts.show(wrong);
                key.focus();
                return null;
            }
            found.set(word, value.value);
        }
        return Object.fromEntries(found);
    }

    async function send(event) {
        event.preventDefault();
        if (busy) return;
        alerts.clear();
        const chosen = name.value.trim();
        const wrong = nameMistake(chosen);
        mistake.textContent = wrong ?? "";
        name.setAttribute("aria-invalid", String(wrong !== null));
        if (wrong) return name.focus();
        const given = parameters();
        if (given === null) return;
        busy = true;
        submit.setAttribute("aria-disabled", "true");
        submit.setAttribute("aria-busy", "true");
        submit.textContent = t("adding");
        const asked = store.moment();
        try {
            store.take(await api.put(chosen, given, atOnce.checked ? "running" : "stopped"), asked);
            form.reset();
            rows.replaceChildren();
            location.hash = `#/account/${encodeURIComponent(chosen)}`;
        } catch (problem) {
            alerts.show(problem.message);
        } finally {
            busy = false;
            submit.removeAttribute("aria-disabled");
            submit.removeAttribute("aria-busy");
            submit.textContent = t("add");
        }
    }

    const form = el(
        "form",
        { class: "add", noValidate: true, on: { submit: send } },
        alerts.element,
        el(
            "div",
            { class: "field" },
            el("label", { for: name.id, textContent: t("name") }),
            name,
            el("p", { id: `${id}-name-hint`, class: "hint", textContent: t("name_hint") }),
            mistake,
        ),
        el(
            "fieldset",
            { class: "field" },
            el("legend", { textContent: t("parameters") }),
            el("p", { class: "hint", textContent: t("parameters_hint") }),
            rows,
            more,
            el("datalist", { id: `${id}-common` }, ...COMMON.map((value) => el("option", { value }))),
        ),
        el("div", { class: "check" }, atOnce, el("label", { for: atOnce.id, textContent: t("start_at_once") })),
        el("div", { class: "buttons" }, submit),
    );
    return form;
}

/** The view. */
export function addView() {
    const heading = el("h1", { id: "heading", tabIndex: -1, textContent: t("add_account") });
    const back = el("a", { class: "back", href: "#/", textContent: t("all_accounts") });
    const element = el("section", { class: "narrow" }, back, heading, el("div", { class: "card" }, addForm()));
    return { element, heading, title: t("add_account"), end() {} };
}
