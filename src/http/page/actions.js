// The buttons of an account.

import * as api from "./api.js";
import { ask, el, setText } from "./dom.js";
import { possible } from "./state.js";
import * as store from "./store.js";
import { t } from "./texts.js";

/** What each button does; `asks` are the texts of the question before it. */
const ACTIONS = {
    start: { call: api.start },
    stop: { call: api.stop },
    restart: { call: api.restart },
    relogin: { call: api.relogin, implementation: true },
    new_login: { call: api.newLogin, implementation: true, asks: ["gone"], danger: true },
    move: { call: api.move, asks: ["stops", "scan"], chooses: true },
    remove: { call: api.remove, asks: ["gone", "kept"], danger: true, last: true },
    forget: { call: api.forget, asks: ["gone", "kept"], danger: true, last: true },
};

/** The buttons. `fail` shows what went wrong, `clear` takes that away, `removed` is called once the account is off the list. */
export function actionBar({ name, fail, clear, removed }) {
    let account = null;
    let running = null;
    /** The machines that accounts may live on. */
    let machines = [];
    api.machine()
        .then((about) => {
            machines = about.machines?.length ? ["local", ...about.machines.map((machine) => machine.name)] : [];
            if (account) show();
        })
        // A controller that does not say is the only one.
        .catch(() => {});
    const others = () => machines.filter((machine) => machine !== (account.machine ?? "local"));

    const buttons = Object.entries(ACTIONS).map(([action, what]) => {
        const button = el("button", {
            type: "button",
            class: what.danger ? "danger" : "",
            textContent: t(action),
            on: { click: () => press(action, what) },
        });
        return { action, what, button };
    });
    // Said beside the button that can't be pressed, since a disabled button by itself says nothing.
    const hint = el("p", { class: "hint", id: "forget-hint", textContent: t("stop_it_first") });
    buttons.find(({ action }) => action === "forget").button.setAttribute("aria-describedby", "forget-hint");
    const group = (last) => buttons.filter(({ what }) => (what.last ?? false) === last).map(({ button }) => button);
    const element = el(
        "div",
        { class: "actions", role: "group", "aria-label": t("actions") },
        el("div", { class: "buttons" }, ...group(false)),
        el("div", { class: "buttons" }, ...group(true), hint),
    );

    /** Buttons stay where they are, and are only marked as disabled: one that vanishes takes the focus with it. */
    function show() {
        const can = possible(account);
        for (const { action, what, button } of buttons) {
            // Of what runs, only a stop can be meant to cut it short.
            const free = running === null || (action === "stop" && running !== "stop");
            const busy = running === action;
            button.hidden =
                (Boolean(what.implementation) && !account.implementation) || (Boolean(what.chooses) && others().length === 0);
            button.setAttribute("aria-disabled", String(!can[action] || !free));
            button.setAttribute("aria-busy", String(busy));
            setText(button, t(busy ? `${action}_busy` : action));
        }
        // What the advice of state.js names.
        const first = account.implementation && account.login?.state === "put_out" ? "relogin" : "start";
        for (const { action, button } of buttons) button.classList.toggle("primary", action === first && can[action]);
        hint.hidden = can.forget;
    }

    async function press(action, what) {
        const { button } = buttons.find((entry) => entry.action === action);
        if (button.getAttribute("aria-disabled") === "true") return;
        let answered = true;
        if (what.asks) {
            const paragraphs = what.asks.map((part) => t(`ask_${action}_${part}`));
            const choice = what.chooses && { label: t(`ask_${action}_choice`), options: others() };
            const question = { question: t(`ask_${action}`, { name }), paragraphs, yes: t(`ask_${action}_yes`), choice };
            answered = await ask(question);
            if (!answered) return;
        }
        clear();
        running = action;
        show();
        const asked = store.moment();
        try {
            const answer = await what.call(name, answered);
            if (answer) store.take(answer, asked);
            else store.drop(name);
            if (!answer) removed();
        } catch (problem) {
            fail(t("action_failed", { action: t(action).replace("…", ""), detail: problem.message }));
        } finally {
            if (running === action) running = null;
            show();
        }
    }

    return {
        element,
        set(current) {
            account = current;
            show();
        },
    };
}
