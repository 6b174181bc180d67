// The view for signing in with a token.

import * as api from "./api.js";
import { el } from "./dom.js";
import { t } from "./texts.js";

/** What is wrong, in words for the person with the token. */
function mistakeOf(problem) {
    if (problem.status === 429) return t("token_too_often");
    if (problem.status === 401) return t("token_wrong");
    return problem.message;
}

/** The view. `done` is called once the token was right. */
export function signInView({ done }) {
    const token = el("input", {
        id: "token",
        type: "password",
        autocomplete: "current-password",
        required: true,
        spellcheck: false,
        "aria-describedby": "token-mistake",
    });
    const mistake = el("p", { id: "token-mistake", class: "mistake", role: "alert" });
    const submit = el("button", { type: "submit", class: "primary", textContent: t("sign_in") });
    let busy = false;

    async function send(event) {
        event.preventDefault();
        if (busy) return;
        mistake.textContent = "";
        // Tokens are copied, often with a space or the end of the line.
        const value = token.value.trim();
        if (value === "") return refuse(t("token_empty"));
        busy = true;
        submit.setAttribute("aria-disabled", "true");
        submit.textContent = t("signing_in");
        try {
            await api.signIn(value);
            token.value = "";
            done();
        } catch (problem) {
            refuse(mistakeOf(problem));
        } finally {
            busy = false;
            submit.removeAttribute("aria-disabled");
            submit.textContent = t("sign_in");
        }
    }

    function refuse(text) {
        mistake.textContent = text;
        token.setAttribute("aria-invalid", "true");
        token.focus();
        token.select();
    }

    const heading = el("h1", { id: "heading", tabIndex: -1, textContent: t("sign_in") });
    const form = el(
        "form",
        { class: "card", noValidate: true, on: { submit: send } },
        heading,
        el("p", { class: "muted", textContent: t("sign_in_why") }),
        el("div", { class: "field" }, el("label", { for: "token", textContent: t("token") }), token, mistake),
        el("div", { class: "buttons" }, submit),
    );
    // The field has the focus: there is nothing else to do here.
    return { element: el("section", { class: "signin" }, form), heading: token, title: t("sign_in"), end() {} };
}
